"""Where a finished text goes: to standard output, or to a file that appears whole."""

import codecs
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, TextIO, cast

from batcher.outputs import NOTHING_KEPT, Guard, never, visible


@contextmanager
def target_file(
    target: str, guard: Guard = NOTHING_KEPT, is_ours: Callable[[Path], bool] = never
) -> Iterator[BinaryIO]:
    """The file `target` for bytes, there when the body has ended; raises like `Sink`."""
    from batcher.rows.out.sink import Sink, storage_errors  # noqa: PLC0415 - seldom needed

    sink = Sink(target, guard, is_ours)
    try:
        with storage_errors(target):
            yield cast("BinaryIO", sink.stream)
        sink.commit()
    except BaseException:
        sink.discard()
        raise


@contextmanager
def target_stream(
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
    is_ours: Callable[[Path], bool] = never,
) -> Iterator[TextIO]:
    """A stream of text to the file `target`, or to `stdout` for `None` and `-`.

    Raises like `Sink`.
    """
    if target is None or target == "-":
        yield cast("TextIO", _Terminal(stdout)) if stdout.isatty() else stdout
        stdout.flush()
        return
    with target_file(target, guard, is_ours) as file:
        yield cast("TextIO", codecs.getwriter("utf-8")(file))


class _Terminal:
    """A terminal that shows what would steer it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of `text`; see `visible`."""
        return self._stream.write(visible(text))


def deliver(
    text: str,
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
    is_ours: Callable[[Path], bool] = never,
) -> None:
    """Write `text` to the file `target`, or to `stdout` for `None` and `-`.

    Raises like `Sink`.
    """
    with target_stream(target, stdout, guard, is_ours) as stream:
        stream.write(text)
