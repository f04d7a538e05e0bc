"""The provider's files, whichever of the known kinds each of them is."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from batcher.errors import UsageError
from batcher.finance.reconcile.theirs import Theirs
from batcher.finance.reconcile.theirs_csv import read_csv
from batcher.finance.reconcile.theirs_json import read_json


def read_theirs(names: Iterable[str]) -> Theirs:
    """All of the files; the same file twice is refused, since it would count twice.

    Raises `UsageError` for a file that is missing, is none of the known shapes, or is wrong in
    a place that is named.
    """
    found, known = Theirs(), dict[bytes, str]()
    for name in names:
        content = _content(name)
        if content in known:
            raise UsageError(f"{name} and {known[content]} are the same: each counts once")
        known[content] = name
        found.files.append((Path(name).name, hashlib.sha256(content).hexdigest()))
        if content.lstrip()[:1] in {b"{", b"["}:
            read_json(content, name, found)
        else:
            read_csv(content, name, found)
    return found


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except FileNotFoundError as exc:
        raise UsageError(f"{name}: no such file") from exc
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {exc.strerror}") from exc
