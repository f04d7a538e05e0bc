"""A source's own columns, in order, for exports that join answers to them."""

import contextlib
from collections.abc import Iterator
from typing import Any, assert_never

import msgspec

from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.lines import LineSplitter
from batcher.rows.read.parse import parse_row
from batcher.rows.read.source import SourceFile
from batcher.rows.read.streams import read_blocks
from batcher.rows.reasons import InputBroken, RowProblem


def original_columns(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    """Every row's number and top-level fields as read, in order; blank lines are no rows.

    A row that cannot be read has no fields, and so has the one at which a damaged file ends; a
    Parquet value that JSON cannot hold is `None`. Raises `StorageError` when the disk fails.
    """
    match source.format:
        case "jsonl":
            return _of_lines(source)
        case "csv":
            return _of_csv(source)
        case "parquet":
            return _of_parquet(source)
        case _:
            assert_never(source.format)


def original_lines(source: SourceFile) -> Iterator[tuple[int, bytes]]:
    """Every row's number and itself as one line, in order.

    A line of a JSONL file as its bytes came, whatever they are; a record of another file as a
    JSON object of its columns. Rows that cannot be read are left out. Raises `StorageError`
    when the disk fails.
    """
    if source.format == "jsonl":
        yield from _raw_lines(source)
        return
    for row_number, fields in original_columns(source):
        if fields:
            present = {name: value for name, value in fields.items() if value is not None}
            yield row_number, msgspec.json.encode(present)


def _raw_lines(source: SourceFile) -> Iterator[tuple[int, bytes]]:
    splitter = LineSplitter(AllBut(RowRanges()))
    with contextlib.suppress(InputBroken):
        for lines in splitter.split(read_blocks(source)):
            if not lines.too_long:
                yield from enumerate(lines.lines, lines.first_row)


def _of_lines(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    splitter = LineSplitter(AllBut(RowRanges()))
    try:
        for lines in splitter.split(read_blocks(source)):
            for row_number, line in enumerate(lines.lines, lines.first_row):
                if lines.too_long or (line and not line.isspace()):
                    yield row_number, _fields(line)
    except InputBroken:
        yield splitter.row_number, {}


def _fields(line: bytes) -> dict[str, Any]:
    try:
        return parse_row(line)
    except RowProblem:
        return {}


def _of_csv(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    from batcher.rows.read.csv_rows import read_records  # noqa: PLC0415 - rarely needed

    for record in read_records(source):
        cells = record.cells
        yield record.row_number, {} if isinstance(cells, RowProblem) else dict(cells)


def _of_parquet(source: SourceFile) -> Iterator[tuple[int, dict[str, Any]]]:
    from batcher.rows.read.parquet import read_chunks  # noqa: PLC0415 - imports pyarrow

    for chunk in read_chunks(source, None, AllBut(RowRanges())):
        for row_number in range(chunk.first_row, chunk.last_row + 1):
            record = chunk.record(row_number)
            yield row_number, {name: _readable(value) for name, value in record.items()}


def _readable(value: object) -> object:
    return None if isinstance(value, RowProblem) else value
