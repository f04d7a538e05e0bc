"""Rows written out, for exports: JSON lines, CSV or Parquet, packed by the name's ending.

They go to standard output, or to a file that appears whole or not at all.
"""

import contextlib
import gzip
import os
import stat
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, assert_never, cast

import msgspec

from batcher.errors import CannotCreate, StorageError, UsageError
from batcher.outputs import NOTHING_KEPT, Guard, is_opened_already, is_url, never, visible
from batcher.rows.out.marks import OutputFormat, has_columns
from batcher.rows.out.spooled import ByteStream, Shape, SpooledRows, TypedRows, write_csv
from batcher.rows.out.typed import CellKind
from batcher.rows.out.upload import Upload
from batcher.rows.read.stored import StoredObject, check_url

_FRAME_BYTES: Final = 1 << 20


class Sink:
    """One output: `stream` takes its bytes, `commit` makes it appear, `discard` forgets it.

    A regular file is written beside its target, readable by its owner only unless the target
    was there, and renamed onto it; behind a link it is the file that is replaced, not the link.
    What goes to an object store is written here and brought there at the end.
    `-` and targets that are no regular files (pipes, devices) are written as it goes. A name
    that ends in .gz or .zst is packed. Raises `CannotCreate` when the target cannot be written,
    or may not be: see `Guard.check_replaceable`.
    """

    def __init__(
        self,
        target: str,
        guard: Guard = NOTHING_KEPT,
        is_ours: Callable[[Path], bool] = never,
        *,
        is_our_object: Callable[[StoredObject], bool] = never,
        stdout: BinaryIO | None = None,
    ) -> None:
        self.name = target
        self.path = None if target == "-" or is_url(target) else Path(target)
        self._guard = guard
        self._is_ours = is_ours
        self._is_our_object = is_our_object
        self._temporary: Path | None = None
        self._upload: Upload | None = None
        try:
            self._file = self._open(stdout)
        except OSError as exc:
            raise CannotCreate(f"{target}: cannot be written: {exc.strerror}") from exc
        self.stream: ByteStream = _packer(self._file, target)

    def _open(self, stdout: BinaryIO | None) -> BinaryIO:
        if is_url(self.name):
            return self._open_for_store()
        if self.path is None:
            out = stdout or sys.stdout.buffer
            return cast("BinaryIO", TerminalStream(out)) if out.isatty() else out
        if self.path.is_dir():
            raise CannotCreate(f"{self.name}: is a folder; name a file")
        if is_opened_already(self.path):  # emptied by whoever opened it, if by anybody
            self._guard.check(self.path)
            return self.path.open("ab")
        self._guard.check_replaceable(self.path, self._is_ours)
        if self.path.exists() and not self.path.is_file():
            return self.path.open("wb")
        self.path = Path(os.path.realpath(self.path))
        folder = self.path.parent
        number, name = tempfile.mkstemp(dir=folder, prefix=f".{self.path.name}.")
        self._temporary = Path(name)
        if self.path.exists():
            self._temporary.chmod(stat.S_IMODE(self.path.stat().st_mode))
        return os.fdopen(number, "wb")

    def _open_for_store(self) -> BinaryIO:
        number, name = tempfile.mkstemp(prefix="batcher-output-")
        self._temporary = Path(name)
        file = os.fdopen(number, "wb")
        try:
            mark = self._temporary.name.rpartition("-")[2]
            self._upload = Upload(self.name, self._guard, self._is_our_object, mark)
        except BaseException:
            file.close()
            self._temporary.unlink()
            raise
        return file

    def commit(self) -> None:
        """Make the output appear under its name, for good.

        Raises `StorageError`, and `CannotCreate` when something else has that name by now.
        """
        with storage_errors(self.name):
            if self.stream is not self._file:
                self.stream.close()
            self._file.flush()
            if self._upload is not None and self._temporary is not None:
                self._file.close()
                self._upload.publish(self._temporary)
                self._temporary.unlink()
                return
            if self.path is None:
                return
            if self._temporary is not None:
                os.fsync(self._file.fileno())
            self._file.close()
            if self._temporary is not None:
                self._guard.check_replaceable(self.path, self._is_ours)
                self._temporary.replace(self.path)
                _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Leave the target as it was; what went to a pipe stays there."""
        if self.path is None and self._upload is None:
            return
        for stream in (self.stream, self._file):  # or a packer writes its end later, to nothing
            with contextlib.suppress(OSError, ValueError):
                stream.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


class TerminalStream:
    """Takes whole lines for a terminal, which shows what would steer it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.flush, self.close = file.flush, file.close

    def write(self, data: bytes) -> int:
        """All of `data`; see `visible`."""
        self._file.write(visible(data.decode(errors="backslashreplace")).encode())
        return len(data)


@contextlib.contextmanager
def storage_errors(name: str) -> Iterator[None]:
    """Turn trouble with the disk into `StorageError`; a reader that went away is none."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as exc:
        raise StorageError(f"{name}: writing failed: {exc.strerror or exc}") from exc


def _packer(file: BinaryIO, target: str) -> ByteStream:
    if target.endswith(".gz"):
        return gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6, mtime=0)
    if target.endswith(".zst"):
        return _ZstdFrames(file)
    return file


class _ZstdFrames:
    """Packs what is written, a frame per megabyte; leaves the file below open."""

    def __init__(self, file: BinaryIO) -> None:
        import pyarrow as pa  # noqa: PLC0415 - only where asked for

        self._file = file
        self._compress = pa.Codec("zstd").compress
        self._held: list[bytes] = []
        self._held_bytes = 0

    def write(self, data: bytes, /) -> int:
        self._held.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _FRAME_BYTES:
            self.flush()
        return len(data)

    def flush(self) -> None:
        if self._held_bytes:
            self._file.write(self._compress(b"".join(self._held), asbytes=True))
        self._held, self._held_bytes = [], 0

    def close(self) -> None:
        self.flush()


def _sync_folder(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


_FORMATS: Final[dict[str, OutputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
_ENCODER: Final = msgspec.json.Encoder()


def open_writer(
    target: str,
    format_: OutputFormat | None = None,
    *,
    columns: Sequence[str] | None = None,
    guard: Guard = NOTHING_KEPT,
    declared: Mapping[str, CellKind] | None = None,
    stdout: BinaryIO | None = None,
) -> "RowWriter":
    """A writer of rows to the file `target`, or to standard output when it is `-`.

    Without `format_` the name's ending tells it, `-` means jsonl. `columns` are the ones to
    write, in that order; `None` means all: those that rows bring along in the order of their
    first appearance, then the `declared` ones, which have types of their own in Parquet. A file
    that is there is replaced if it has all of `columns`, or else all declared ones, and `guard`
    allows it. Raises `UsageError` for an unknown ending, `CannotCreate` when
    the target cannot be written.
    """
    if target != "-" and not is_url(target):
        guard.check(Path(target))  # a ledger is told as such, not as an unknown kind of file
    chosen = format_ or format_of(target)
    if chosen == "parquet" and target.endswith((".gz", ".zst")):
        raise UsageError(f"{target}: Parquet is packed inside; leave out the last ending")
    shape = Shape(columns=columns, declared=declared or {})
    is_ours = has_columns(chosen, columns or shape.declared)
    sink = Sink(target, guard, is_ours, is_our_object=is_ours, stdout=stdout)
    return RowWriter(sink, chosen, shape)


def format_of(target: str) -> OutputFormat:
    """The kind of file that a name tells, jsonl for `-`; raises `UsageError`."""
    if target == "-":
        return "jsonl"
    if is_url(target):
        check_url(target)
    endings = [e for e in PurePath(target.lower()).suffixes if e not in {".gz", ".zst"}]
    found = _FORMATS.get(endings[-1]) if endings else None
    if found is None:
        raise UsageError(
            f"{target}: unknown kind of file; name it {', '.join(_FORMATS)} or give a format"
        )
    return found


class RowWriter:
    """Takes rows as they come; the file appears when `close` returns, or not at all.

    Values are what JSON has, or `msgspec.Raw` with JSON text. In CSV and Parquet, objects,
    lists and raw values are JSON text, and the file is made at the end, when all columns and
    their types are known; until then the rows are in a nameless file beside the target. As a
    context manager: closes at the end, discards after an exception.
    """

    def __init__(self, sink: Sink, format_: OutputFormat, shape: Shape) -> None:
        self._sink = sink
        self._shape = shape
        with storage_errors(sink.name):
            self._spooled = _spool(format_, sink.path.parent if sink.path else None, shape)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; raises `StorageError` when the disk fails, or `BrokenPipeError`."""
        chosen = rows if self._shape.columns is None else map(self._choose, rows)
        with storage_errors(self._sink.name):
            if self._spooled is not None:
                self._spooled.add(chosen)
                return
            lines = [_ENCODER.encode(row) for row in chosen]
            if lines:
                self._sink.stream.write(b"\n".join([*lines, b""]))

    def close(self) -> None:
        """Make the file appear; raises as `write` does and then leaves the target alone."""
        try:
            with storage_errors(self._sink.name):
                self._finish()
            self._sink.commit()
        except BaseException:
            self._sink.discard()
            raise
        finally:
            if self._spooled is not None:
                self._spooled.close()

    def discard(self) -> None:
        """Leave the target as it was."""
        if self._spooled is not None:
            self._spooled.close()
        self._sink.discard()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.close()
        else:
            self.discard()

    def _choose(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row.get(name) for name in self._shape.columns or ()}

    def _finish(self) -> None:
        match self._spooled:
            case None:
                return
            case SpooledRows():
                write_csv(self._spooled, self._shape, self._sink.stream)
            case TypedRows():
                self._spooled.write(self._sink.stream)
            case _:
                assert_never(self._spooled)


def _spool(
    format_: OutputFormat, folder: Path | None, shape: Shape
) -> SpooledRows | TypedRows | None:
    match format_:
        case "csv":
            return SpooledRows(folder)
        case "parquet":
            return TypedRows(folder, shape)
        case "jsonl":
            return None
        case _:
            assert_never(format_)
