"""Rows written out, for exports: JSON lines, CSV or Parquet, by the name's ending.

Whether a file of rows that is there already was ours its columns tell.
"""

import csv
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePath
from types import TracebackType
from typing import Any, BinaryIO, Final, Literal, Self, assert_never

import msgspec

from batcher.errors import BatcherError, UsageError
from batcher.outputs import NOTHING_KEPT, Guard, is_url, never
from batcher.rows.batch import InputBroken
from batcher.rows.out.lines import JsonLines, WrittenRow
from batcher.rows.out.sink import Sink, storage_errors
from batcher.rows.out.spooled import Shape, SpooledRows, TypedRows, write_csv
from batcher.rows.out.typed import CellKind
from batcher.rows.read.lines import read_blocks
from batcher.rows.read.source import Compression, Place, SourceFile, location_of
from batcher.rows.read.stored import check_url

OutputFormat = Literal["jsonl", "csv", "parquet"]

_LONGEST: Final = 64 * 2**20
_PACKED: Final[dict[str, Compression]] = {".gz": "gz", ".zst": "zst"}
_FORMATS: Final[dict[str, OutputFormat]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}


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
        self._lines = JsonLines(tuple(shape.declared) if shape.columns is None else ())
        with storage_errors(sink.name):
            self._spooled = _spool(format_, sink.path.parent if sink.path else None, shape)

    def write(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Add rows; raises `StorageError` when the disk fails, or `BrokenPipeError`."""
        self.write_cells([self._shape.split(row) for row in rows])

    def write_cells(self, rows: Sequence[WrittenRow]) -> None:
        """Add rows of which the declared columns come as cells, in their order; see `write`."""
        with storage_errors(self._sink.name):
            if self._spooled is not None:
                self._spooled.add(rows)
                return
            chosen = rows if self._shape.columns is None else list(map(self._choose, rows))
            if lines := self._lines.encode(chosen):
                self._sink.stream.write(lines)

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

    def _choose(self, row: WrittenRow) -> WrittenRow:
        found = {**row[0], **dict(zip(self._shape.declared, row[1], strict=True))}
        return {name: found.get(name) for name in self._shape.columns or ()}, ()

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
            return SpooledRows(folder, shape)
        case "parquet":
            return TypedRows(folder, shape)
        case "jsonl":
            return None
        case _:
            assert_never(format_)


def has_columns(format_: OutputFormat, columns: Collection[str]) -> Callable[[Place], bool]:
    """Whether a file of that format has all of these columns; none at all are no mark."""
    if not columns:
        return never
    wanted = set(columns)
    return lambda place: wanted <= set(_columns(format_, place))


def first_line(path: Place) -> bytes:
    """The first line of a file without its end, unpacked as its name says; at most 64 MiB."""
    found = b""
    for block in _blocks(path):
        found += block
        if b"\n" in block or len(found) > _LONGEST:
            break
    return found.partition(b"\n")[0]


def first_block(path: Path) -> bytes:
    """Some of the first bytes of a file, unpacked as its name says."""
    return next(_blocks(path), b"")


def _blocks(path: Place) -> Iterator[bytes]:
    name = location_of(path)
    packed = _PACKED.get(PurePath(name).suffix.lower())
    with suppress(BatcherError, InputBroken, OSError):
        yield from read_blocks(SourceFile(name, path, "jsonl", packed))


def _columns(format_: OutputFormat, path: Place) -> list[str]:
    match format_:
        case "jsonl":
            with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                return list(msgspec.json.decode(first_line(path), type=dict[str, msgspec.Raw]))
            return []
        case "csv":
            return next(csv.reader([first_line(path).decode(errors="replace")]), [])
        case "parquet":
            return _parquet_columns(path)
        case _:
            assert_never(format_)


def _parquet_columns(path: Place) -> list[str]:
    from batcher.rows.read.parquet import column_names  # noqa: PLC0415 - 50 MB

    with suppress(BatcherError):
        return column_names(SourceFile(location_of(path), path, "parquet"))
    return []
