"""Reads sources row by row, in order, in bounded memory.

As batches of requests and bad rows for a run; as a source's own columns for exports.
"""

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, assert_never

import msgspec

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
from batcher.rows.ranges import AllBut, RowRanges, RowsToRead
from batcher.rows.read.lines import MAX_LINE_BYTES, LineBatch
from batcher.rows.read.parse import parse_row
from batcher.rows.read.source import SourceFile
from batcher.rows.read.values import RowsOfText


def read_rows(
    source: SourceFile, *, source_id: int, builder: RequestBuilder, rows: RowsToRead
) -> Iterator[RowBatch]:
    """The rows of `source` that `rows` gives to this reader, in batches of at most 256.

    A damaged file ends in a `BadRow` with reason TRUNCATED_FILE, unless that row is not to be
    read. Raises `StorageError` when the disk fails; nothing else, whatever the file holds.
    """
    match source.format:
        case "jsonl":
            return _together(_read_jsonl(source, source_id, builder, rows))
        case "csv":
            from batcher.rows.read.csv_rows import read_csv  # noqa: PLC0415 - rarely needed

            return read_csv(source, source_id, builder, rows)
        case "parquet":
            from batcher.rows.read.parquet import read_parquet  # noqa: PLC0415 - imports pyarrow

            return read_parquet(source, source_id, builder, rows)
        case _:
            assert_never(source.format)


def _read_jsonl(
    source: SourceFile, source_id: int, builder: RequestBuilder, rows: RowsToRead
) -> Iterator[RowBatch]:
    text = RowsOfText(source, rows)
    try:
        for lines in text:
            if lines.skipped:
                rows_read = lines.first_row + lines.skipped - 1
                yield RowBatch(items=[], rows_read=rows_read, skipped=lines.skipped)
            elif lines.too_long or not lines.terminated:
                yield from _odd_line(lines, source, source_id, builder)
            else:
                yield from _build(lines, source, source_id, builder)
    except InputBroken as exc:
        row = text.row_number
        if rows.take_one(row):
            bad = bad_row(source_id, row, text.offset, broken_file(source.name, exc))
            yield RowBatch(items=[bad], rows_read=row)


def _together(batches: Iterator[RowBatch]) -> Iterator[RowBatch]:
    """The same rows in larger batches, where a text gives them one by one."""
    items: list[Request | BadRow] = []
    for batch in batches:
        is_alone = len(batch.items) == 1 and not (
            batch.blank_rows or ends_batch(batch.items[0])
        )
        if is_alone and len(items) < BATCH_ROWS:
            items.append(batch.items[0])
            rows_read = batch.rows_read
            continue
        if items:
            yield RowBatch(items=items, rows_read=rows_read)
            items = []
        yield batch
    if items:
        yield RowBatch(items=items, rows_read=rows_read)


def _build(
    lines: LineBatch, source: SourceFile, source_id: int, builder: RequestBuilder
) -> Iterator[RowBatch]:
    if not lines.lines[0].strip() and not b"".join(lines.lines).strip():  # perhaps millions
        last = lines.first_row + len(lines.lines) - 1
        yield RowBatch(items=[], rows_read=last, blank_rows=range(lines.first_row, last + 1))
        return
    build, folder, partitions = builder.build, source.folder, source.partitions
    row_number, offset = lines.first_row, lines.offset
    items: list[Request | BadRow] = []
    blank: list[int] = []
    for line in lines.lines:
        if line and not line.isspace():
            row = _placed(line, partitions) if partitions else line
            items.append(build(row, source_id, row_number, offset, folder))
        else:
            blank.append(row_number)
        row_number += 1
        offset += len(line) + 1
        if len(items) + len(blank) >= BATCH_ROWS or (items and ends_batch(items[-1])):
            yield RowBatch(items=items, rows_read=row_number - 1, blank_rows=tuple(blank))
            items, blank = [], []
    if items or blank:
        yield RowBatch(items=items, rows_read=row_number - 1, blank_rows=tuple(blank))


def _placed(line: bytes, partitions: dict[str, str | None]) -> bytes | dict[str, Any]:
    """The row with the columns that its file's folders say; its own ones win."""
    try:
        return {**partitions, **parse_row(line)}
    except RowProblem:
        return line


def _odd_line(
    lines: LineBatch, source: SourceFile, source_id: int, builder: RequestBuilder
) -> Iterator[RowBatch]:
    """A line that is too long, or the last one without its line feed."""
    if lines.too_long:
        words = f"the line is longer than {MAX_LINE_BYTES:,} bytes"
        yield _refused(lines, source_id, RowProblem(Reason.LINE_TOO_LONG, words))
        return
    for batch in _build(lines, source, source_id, builder):
        if any(_may_be_cut(item) for item in batch.items):
            words = "the last line is cut off: it is not JSON and has no line feed"
            yield _refused(lines, source_id, RowProblem(Reason.TRUNCATED_TAIL, words))
        else:
            yield batch


def _may_be_cut(item: Request | BadRow) -> bool:
    return isinstance(item, BadRow) and item.reason in {Reason.BAD_JSON, Reason.BAD_UNICODE}


def _refused(lines: LineBatch, source_id: int, problem: RowProblem) -> RowBatch:
    bad = bad_row(source_id, lines.first_row, lines.offset, problem)
    return RowBatch(items=[bad], rows_read=lines.first_row)


def original_columns(
    source: SourceFile, told: Callable[[str], object] = lambda _: None
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every row's number and top-level fields as read, in order; blank lines are no rows.

    A row that cannot be read has no fields, and so has the one at which a damaged file ends; a
    Parquet value that JSON cannot hold is `None`, and `told` hears of each in a sentence.
    Raises `StorageError` when the disk fails.
    """
    rows = _columns_of(source, told)
    if not source.partitions:
        return rows
    return ((number, source.partitions | fields) for number, fields in rows)


def _columns_of(
    source: SourceFile, told: Callable[[str], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    match source.format:
        case "jsonl":
            return _of_lines(source)
        case "csv":
            return _of_csv(source)
        case "parquet":
            return _of_parquet(source, told)
        case _:
            assert_never(source.format)


def original_lines(source: SourceFile) -> Iterator[tuple[int, bytes]]:
    """Every row's number and itself as one line, in order.

    A line of a JSONL file as its bytes came, whatever they are, an object over several lines
    put on one; a record of another file as a JSON object of its columns. Rows that
    cannot be read are left out. Raises `StorageError` when the disk fails.
    """
    if source.format == "jsonl":
        yield from _raw_lines(source)
        return
    for row_number, fields in original_columns(source):
        if fields:
            present = {name: value for name, value in fields.items() if value is not None}
            yield row_number, msgspec.json.encode(present)


def _raw_lines(source: SourceFile) -> Iterator[tuple[int, bytes]]:
    with contextlib.suppress(InputBroken):
        for lines in RowsOfText(source, AllBut(RowRanges())):
            if not lines.too_long:
                yield from enumerate(map(_on_one_line, lines.lines), lines.first_row)


def _on_one_line(row: bytes) -> bytes:
    """The row without line feeds: as JSON has them they only shape it."""
    return row.replace(b"\n", b" ").replace(b"\r", b" ") if b"\n" in row else row


def _of_lines(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    text = RowsOfText(source, AllBut(RowRanges()))
    try:
        for lines in text:
            for row_number, line in enumerate(lines.lines, lines.first_row):
                if lines.too_long or (line and not line.isspace()):
                    yield row_number, _fields(line)
    except InputBroken:
        yield text.row_number, {}


def _fields(line: bytes) -> dict[str, Any]:
    try:
        return parse_row(line)
    except RowProblem:
        return {}


def _of_csv(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    from batcher.rows.read.csv_rows import read_records  # noqa: PLC0415 - rarely needed

    for record in read_records(source):
        if cells := record.cells:
            yield record.row_number, {} if isinstance(cells, RowProblem) else dict(cells)


def _of_parquet(
    source: SourceFile, told: Callable[[str], object]
) -> Iterator[tuple[int, dict[str, Any]]]:
    from batcher.rows.read.arrow_values import as_text_or_base64  # noqa: PLC0415 - imports pyarrow
    from batcher.rows.read.parquet import read_chunks  # noqa: PLC0415 - imports pyarrow

    every = AllBut(RowRanges())
    for chunk in read_chunks(source, None, every, lambda _: as_text_or_base64):
        for row_number in range(chunk.first_row, chunk.last_row + 1):
            record = chunk.record(row_number)
            yield row_number, {name: _readable(value, told) for name, value in record.items()}


def _readable(value: object, told: Callable[[str], object]) -> object:
    if not isinstance(value, RowProblem):
        return value
    told(value.message)
    return None
