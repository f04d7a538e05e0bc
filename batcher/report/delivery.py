"""Where a finished text goes."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from batcher.errors import CannotCreate


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
        with Path(target).open("w", encoding="utf-8", newline="") as stream:
            yield stream
    except OSError as exc:
        raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc


def deliver(text: str, target: str | None, stdout: TextIO) -> None:
    """Write `text` to the file `target`, or to `stdout` for `None` and `-`.

    Raises `CannotCreate` when the file cannot be written.
    """
    if target is None or target == "-":
        stdout.write(text)
        stdout.flush()
        return
    try:
        Path(target).write_text(text, encoding="utf-8")
    except OSError as exc:
        raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc
