"""Where a finished text goes."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO, TextIO

from batcher.errors import CannotCreate


def private(path: str, flags: int) -> int:
    """An opener for `open`: a new file is readable by its owner only."""
    return os.open(path, flags, 0o600)


@contextmanager
def target_stream(target: str | None, stdout: TextIO) -> Iterator[TextIO]:
    """A stream of text to the file `target`, or to `stdout` for `None` and `-`.

    Raises `CannotCreate` when the file cannot be written.
    """
    if target is None or target == "-":
        yield stdout
        stdout.flush()
        return
    try:
        with open(target, "w", encoding="utf-8", newline="", opener=private) as stream:
            yield stream
    except OSError as exc:
        raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc


@contextmanager
def target_file(target: str) -> Iterator[BinaryIO]:
    """The file `target` for bytes; raises like `target_stream`."""
    try:
        with open(target, "wb", opener=private) as stream:
            yield stream
    except OSError as exc:
        reason = exc.strerror or str(exc)
        raise CannotCreate(f"{target}: cannot be written: {reason}") from exc


def deliver(text: str, target: str | None, stdout: TextIO) -> None:
    """Write `text` to the file `target`, or to `stdout` for `None` and `-`.

    Raises `CannotCreate` when the file cannot be written.
    """
    if target is None or target == "-":
        stdout.write(text)
        stdout.flush()
        return
    try:
        with open(target, "w", encoding="utf-8", opener=private) as stream:
            stream.write(text)
    except OSError as exc:
        raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc
