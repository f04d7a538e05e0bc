"""Parquet sources: needed columns only, whole finished row groups passed unread."""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError, StorageError
from batcher.messages.request import BadRow, Request
from batcher.rows.batch import (
    BATCH_ROWS,
    InputBroken,
    Reason,
    RowBatch,
    RowProblem,
    bad_row,
    broken_file,
    ends_batch,
)
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import RowsToRead
from batcher.rows.read.arrow_values import (
    INTEGER_BYTES,
    Binary,
    as_bytes,
    as_integer,
    as_interval,
    as_text,
    column_cells,
    with_texts_as_bytes,
)
from batcher.rows.read.decoded_size import (
    MOST_ROW_BYTES,
    PASSED_OVER,
    open_parquet,
    pieces,
    reading_plan,
    row_bytes,
)
from batcher.rows.read.source import SourceFile

_CHUNK_ROWS: Final = 128  # of a damaged row group, at a time
_MAX_REFUSED: Final = 10_000_000
_NO_TEXT: Final = ("NONE", "UNKNOWN", "INTERVAL")  # logical types that bytes may have
# what pyarrow raises for damaged files; ValueError for names that are not UTF-8
_DAMAGE: Final = (pa.ArrowException, OSError, ValueError)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive records: the number of the first, and cells per column; or `broken`.

    Where `cells` is `None` nothing was read: the records were skipped, or are `broken`.
    """

    first_row: int
    rows: int
    cells: dict[str, list[Any]] | None = None
    broken: InputBroken | None = None

    @property
    def last_row(self) -> int:
        """The number of the last record."""
        return self.first_row + self.rows - 1

    def record(self, row_number: int) -> dict[str, Any]:
        """The cells of one record by column; only where `cells` were read."""
        index = row_number - self.first_row
        return {name: column[index] for name, column in (self.cells or {}).items()}


def column_names(source: SourceFile) -> list[str]:
    """The top-level columns; raises `ConfigurationError` when it cannot be read."""
    try:
        with _open(source) as file:
            names: list[str] = file.schema_arrow.names
            return names
    except InputBroken as exc:
        raise ConfigurationError(f"{source.name}: is no readable Parquet file: {exc}") from exc


def read_parquet(
    source: SourceFile, source_id: int, builder: RequestBuilder, rows: RowsToRead
) -> Iterator[RowBatch]:
    """See `reader.read_rows`; every record of a row group that is damaged becomes a bad row."""
    pictures = builder.attachment_columns
    for chunk in read_chunks(
        source, builder.columns, rows, lambda name: as_bytes if name in pictures else as_text
    ):
        wanted = list(rows.take(chunk.first_row, chunk.last_row))
        numbers = [number for first, last in wanted for number in range(first, last + 1)]
        items: list[Request | BadRow] = []
        for number in numbers:
            items.append(_item(source, source_id, builder, chunk, number))
            if number != numbers[-1] and (len(items) >= BATCH_ROWS or ends_batch(items[-1])):
                yield RowBatch(items=items, rows_read=number)
                items = []
        skipped = chunk.rows - len(numbers)
        yield RowBatch(items=items, rows_read=chunk.last_row, skipped=skipped)


def _item(
    source: SourceFile, source_id: int, builder: RequestBuilder, chunk: Chunk, row_number: int
) -> Request | BadRow:
    if chunk.broken is not None:
        return bad_row(source_id, row_number, None, broken_file(source.name, chunk.broken))
    record = chunk.record(row_number)
    for value in record.values():
        if isinstance(value, RowProblem):
            return bad_row(source_id, row_number, None, value)
    record = {**source.partitions, **record}
    return builder.build(record, source_id, row_number, None, source.folder)


def read_chunks(
    source: SourceFile,
    columns: Collection[str] | None,
    rows: RowsToRead,
    binary: Callable[[str], Binary] = lambda _: as_text,
) -> Iterator[Chunk]:
    """All records in order; only `columns`, where they are there, or all when `None`.

    `binary` says what becomes of bytes in a column of that name.
    """
    first_row = 1
    try:
        with _open(source) as file:
            names = [n for n in file.schema_arrow.names if columns is None or n in columns]
            known = _known_bytes(file)
            of_bytes = {name: known.get(name) or binary(name) for name in names}
            for group in range(file.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                if count and rows.none_in(first_row, first_row + count - 1):
                    yield Chunk(first_row, count)
                elif count:
                    yield from _read_group(source, file, group, first_row, of_bytes)
                first_row += count
    except InputBroken as exc:
        yield Chunk(first_row, 1, broken=exc)


def _read_group(
    source: SourceFile,
    file: pq.ParquetFile,
    group: int,
    first_row: int,
    of_bytes: Mapping[str, Binary],
) -> Iterator[Chunk]:
    end = first_row + file.metadata.row_group(group).num_rows
    try:
        for batch in _batches(_group_batches(source, file, group, [*of_bytes])):
            yield Chunk(first_row, batch.num_rows, _cells(batch, of_bytes))
            first_row += batch.num_rows
        if first_row < end:
            raise InputBroken("the row group has fewer records than the footer says")  # noqa: TRY301 - same handling
    except InputBroken as exc:
        if end - first_row > _MAX_REFUSED:  # more likely a damaged count than so many rows
            end = first_row + 1
        while first_row < end:
            rows = min(_CHUNK_ROWS, end - first_row)
            yield Chunk(first_row, rows, broken=exc)
            first_row += rows


def _group_batches(
    source: SourceFile, file: pq.ParquetFile, group: int, names: list[str]
) -> Iterator[pa.RecordBatch]:
    plan = reading_plan(source, file.metadata.row_group(group), names)
    kept = plan.as_dictionaries
    opened = open_parquet(source, kept) if kept else file
    yield from opened.iter_batches(
        plan.rows, row_groups=[group], columns=names, use_threads=False
    )


def _cells(batch: pa.RecordBatch, of_bytes: Mapping[str, Binary]) -> dict[str, list[Any]]:
    names = batch.schema.names
    if batch.num_rows == 1 and (size := row_bytes(batch)) > MOST_ROW_BYTES:
        words = f"the record has {size:,} bytes; {MOST_ROW_BYTES:,} is the most"
        return {name: [RowProblem(Reason.BODY_TOO_LARGE, words)] for name in names}
    return {
        name: column_cells(name, batch.column(i), of_bytes[name])
        for i, name in enumerate(names)
    }


def _batches(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches, checked: what a damaged file makes of them must not reach Python."""
    try:
        for batch in batches:
            _validate(batch)
            yield from pieces(batch)
    except _DAMAGE as exc:
        raise _broken(exc) from exc


def _validate(batch: pa.RecordBatch) -> None:
    batch.validate()
    try:
        batch.validate(full=True)
    except pa.ArrowException:  # broken text alone is the row's problem, see `column_cells`
        for column in batch.columns:
            with_texts_as_bytes(column).validate(full=True)


def _known_bytes(file: pq.ParquetFile) -> dict[str, Binary]:
    """Columns that Arrow takes for bytes, and are not, or hold such, whatever is around them.

    INTERVAL and integers of 128 bits: Parquet has no type for these; Arrow's note tells them,
    which pyarrow cannot read then. A column that holds several kinds cannot be told apart.
    """
    found: dict[str, set[Binary | None]] = {}
    is_passed_over = PASSED_OVER in (file.metadata.metadata or {})
    for number in range(len(file.schema)):
        leaf = file.schema.column(number)
        if leaf.physical_type.endswith("BYTE_ARRAY") and leaf.logical_type.type in _NO_TEXT:
            kinds = found.setdefault(_column_of(leaf.path, file.schema_arrow.names), set())
            kinds.add(_known_kind(leaf, is_passed_over=is_passed_over))
    return {name: _only(kinds) for name, kinds in found.items() if kinds != {None}}


def _column_of(path: str, names: list[str]) -> str:
    """The column, which may have dots in its name, that the leaf at `path` belongs to."""
    return path if path in names else next(n for n in names if path.startswith(f"{n}."))


def _known_kind(leaf: Any, *, is_passed_over: bool) -> Binary | None:  # noqa: ANN401  a ColumnSchema
    if leaf.converted_type == "INTERVAL":
        return as_interval
    is_fixed = leaf.physical_type.startswith("FIXED") and leaf.length == INTEGER_BYTES
    return as_integer if is_passed_over and is_fixed else None


def _only(kinds: set[Binary | None]) -> Binary:
    return kinds.pop() or as_bytes if len(kinds) == 1 else _several


def _several(_: bytes) -> object:
    words = "holds bytes of several kinds, INTERVAL or integers of 128 bits among them"
    raise RowProblem(Reason.BAD_VALUE, f"{words}; cast these to text")


def _open(source: SourceFile) -> pq.ParquetFile:
    try:
        file = open_parquet(source)
        groups = range(file.num_row_groups)
        if any(file.metadata.row_group(group).num_rows < 0 for group in groups):
            raise InputBroken("the file is damaged: a row group has fewer than no records")
        file.schema_arrow.names  # noqa: B018 - decodes them, and raises here if it cannot
    except _DAMAGE as exc:
        raise _broken(exc) from exc
    return file


def _broken(exc: Exception) -> InputBroken | StorageError:
    """A damaged file, or a disk that fails: only the latter has an error number."""
    if isinstance(exc, OSError) and exc.errno is not None:
        return StorageError(f"reading failed: {exc}")
    if isinstance(exc, pa.ArrowNotImplementedError):
        return InputBroken(
            f"it holds a type that cannot be read ({exc}); cast that column to text"
        )
    return InputBroken(f"the file is damaged: {exc}")
