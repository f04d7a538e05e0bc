"""CSV sources: every cell is text, columns are named by the header, empty cells are absent."""

import csv
from collections.abc import Iterator
from dataclasses import dataclass

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
from batcher.rows.read.lines import MAX_LINE_BYTES, LineSplitter, read_blocks
from batcher.rows.read.source import SourceFile


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its number from 1, where its first line starts, its cells or the problem."""

    row_number: int
    offset: int
    cells: dict[str, str] | RowProblem


def read_csv(
    source: SourceFile, source_id: int, builder: RequestBuilder, rows: RowsToRead
) -> Iterator[RowBatch]:
    """See `reader.read_rows`; the header and blank lines are not numbered."""
    items: list[Request | BadRow] = []
    skipped = row_number = 0
    for record in read_records(source):
        row_number = record.row_number
        if not rows.take_one(row_number):
            skipped += 1
        else:
            items.append(_item(record, source, source_id, builder))
        if len(items) + skipped // 10 >= BATCH_ROWS or (items and ends_batch(items[-1])):
            yield RowBatch(items=items, rows_read=row_number, skipped=skipped)
            items, skipped = [], 0
    if items or skipped:
        yield RowBatch(items=items, rows_read=row_number, skipped=skipped)


def _item(
    record: Record, source: SourceFile, source_id: int, builder: RequestBuilder
) -> Request | BadRow:
    if isinstance(record.cells, RowProblem):
        return bad_row(source_id, record.row_number, record.offset, record.cells)
    kept = builder.template_columns  # there an empty text is a text
    row = {name: cell if cell or name in kept else None for name, cell in record.cells.items()}
    return builder.build(row, source_id, record.row_number, record.offset, source.folder)


def header(source: SourceFile) -> list[str]:
    """The columns' names; empty for an empty file. Raises `InputBroken`, `RowProblem`."""
    reader = csv.reader(_TextLines(source), strict=True)
    try:
        return next(reader, [])
    except csv.Error as exc:
        raise RowProblem(Reason.BAD_CSV, f"the header is no CSV: {exc}") from exc


def read_records(source: SourceFile) -> Iterator[Record]:
    """All records in order; a file that breaks off ends in a record with TRUNCATED_FILE."""
    csv.field_size_limit(MAX_LINE_BYTES)  # an unclosed quote would swallow the whole file
    lines = _TextLines(source)
    reader = csv.reader(lines, strict=True)
    names: list[str] | None = None
    row_number, offset = 0, 0
    while True:
        offset = lines.offset
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            row_number += 1
            yield Record(row_number, offset, _csv_problem(exc, at_end=lines.at_end))
        except InputBroken as exc:
            yield Record(row_number + 1, offset, broken_file(source.name, exc))
            return
        else:
            if names is None:
                names = cells
            elif cells:
                row_number += 1
                yield Record(row_number, offset, _named(names, cells))


def _named(names: list[str], cells: list[str]) -> dict[str, str] | RowProblem:
    if len(cells) != len(names):
        return RowProblem(
            Reason.BAD_CSV, f"the record has {len(cells)} cells, the header {len(names)}"
        )
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return RowProblem(Reason.BAD_UNICODE, "the record is not valid UTF-8")
    return dict(zip(names, cells, strict=True))


def _csv_problem(exc: csv.Error, *, at_end: bool) -> RowProblem:
    if at_end:
        words = "the last record is cut off: a quote is not closed"
        return RowProblem(Reason.TRUNCATED_TAIL, words)
    return RowProblem(Reason.BAD_CSV, f"the record is no CSV: {exc}")


class _TextLines:
    """The lines of a file as text, for `csv`; `offset` is where the next one starts.

    `at_end` is set when a line was asked for and there is none: what is open stays open.
    Bytes that are no UTF-8 become lone surrogates, so that the record is known when they show.
    """

    def __init__(self, source: SourceFile) -> None:
        self.offset = 0
        self.at_end = False
        self._lines = self._read(source)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def _read(self, source: SourceFile) -> Iterator[str]:
        for lines in LineSplitter(AllBut(RowRanges())).split(read_blocks(source)):
            self.offset = lines.offset
            for line in lines.lines:
                self.offset += len(line) + 1
                yield line.decode("utf-8", "surrogateescape") + "\n" * lines.terminated
        self.at_end = True
