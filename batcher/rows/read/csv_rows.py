"""CSV sources: every cell is text, columns are named by the header, empty cells are absent."""

import csv
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Final

from batcher.messages.codec import MOST_PARTS
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
from batcher.rows.read.csv_dialect import (
    CsvDialect,
    HiddenRows,
    as_utf8,
    dialect_of,
    hidden_by_error,
    hidden_in_text,
)
from batcher.rows.read.lines import MAX_LINE_BYTES, LineSplitter, read_blocks
from batcher.rows.read.source import SourceFile


@dataclass(frozen=True, slots=True)
class Record:
    """One record: its number from 1, where its first line starts, its cells or the problem.

    Without cells it is nothing but delimiters, as spreadsheets leave them: a blank line.
    `hidden`: rows that a stray quote in it has swallowed.
    """

    row_number: int
    offset: int
    cells: dict[str, str] | RowProblem
    hidden: HiddenRows | None = None
    has_offset: bool = True

    @property
    def place(self) -> int | None:
        """Where it starts in the file; `None` where that is not known in bytes."""
        return self.offset if self.has_offset else None


def read_csv(
    source: SourceFile, source_id: int, builder: RequestBuilder, rows: RowsToRead
) -> Iterator[RowBatch]:
    """See `reader.read_rows`; the header and lines without any sign are not numbered."""
    items: list[Request | BadRow] = []
    blank: list[int] = []
    skipped = row_number = 0
    for record in read_records(source):
        row_number = record.row_number
        if not rows.take_one(row_number):
            skipped += 1
        elif not record.cells:
            blank.append(row_number)
        else:
            items.append(_item(record, source, source_id, builder))
        count = len(items) + (skipped + len(blank)) // 10
        if count >= BATCH_ROWS or (items and ends_batch(items[-1])):
            yield RowBatch(
                items=items, rows_read=row_number, skipped=skipped, blank_rows=tuple(blank)
            )
            items, blank, skipped = [], [], 0
    if items or blank or skipped:
        yield RowBatch(
            items=items, rows_read=row_number, skipped=skipped, blank_rows=tuple(blank)
        )


def _item(
    record: Record, source: SourceFile, source_id: int, builder: RequestBuilder
) -> Request | BadRow:
    if isinstance(record.cells, RowProblem):
        return bad_row(source_id, record.row_number, record.place, record.cells)
    kept = builder.template_columns  # there an empty text is a text
    row = {name: cell if cell or name in kept else None for name, cell in record.cells.items()}
    row = {**source.partitions, **row}
    return builder.build(row, source_id, record.row_number, record.place, source.folder)


def header(source: SourceFile) -> list[str]:
    """The columns' names; empty for an empty file. Raises `InputBroken`, `RowProblem`."""
    try:
        return _header(_TextLines(source))[0]
    except csv.Error as exc:
        raise RowProblem(Reason.BAD_CSV, f"the header is no CSV: {exc}") from exc


def _header(lines: "_TextLines") -> tuple[list[str], bool]:
    """The names, without blanks around them: of `a, "b"` nobody means those.

    And whether there are any after delimiters: then none are meant in front of cells either.
    """
    between = lines.dialect.delimiter
    reader = csv.reader(lines, strict=True, skipinitialspace=True, delimiter=between)
    names = next(filter(None, reader), [])
    as_written = next(filter(None, csv.reader(lines.taken, delimiter=between)), [])
    return _all_named(names), any(n.startswith(" ") for n in as_written)


def _all_named(names: list[str]) -> list[str]:
    """The names; a column without one, as an index or behind a last comma, has its number."""
    stripped = [name.strip() for name in names]
    taken = {*stripped}
    for place, name in enumerate(stripped, 1):
        if not name:
            made = f"column_{place}"
            while made in taken:
                made += "_"
            stripped[place - 1] = made
    return stripped


def read_records(source: SourceFile) -> Iterator[Record]:
    """All records in order; a file that breaks off ends in a record with TRUNCATED_FILE."""
    csv.field_size_limit(MAX_LINE_BYTES)  # an unclosed quote would swallow the whole file
    lines = _TextLines(source)
    names: list[str] = []
    row_number, offset = 0, 0
    reader: Iterator[list[str]] | None = None
    while True:
        offset = lines.offset
        lines.taken.clear()
        try:
            if reader is None:
                names, spaced = _header(lines)
                reader = csv.reader(
                    lines,
                    strict=True,
                    skipinitialspace=spaced,
                    delimiter=lines.dialect.delimiter,
                )
                continue
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as exc:
            row_number += 1
            hidden = lines.hidden(hidden_by_error, names, offset)
            problem = _csv_problem(exc, hidden, at_end=lines.at_end)
            yield Record(row_number, offset, problem, hidden, lines.dialect.has_offsets)
        except InputBroken as exc:
            yield Record(row_number + 1, offset, broken_file(source.name, exc))
            return
        else:
            if cells:
                row_number += 1
                yield _record(lines, names, cells, row_number, offset)


def _record(
    lines: "_TextLines", names: list[str], cells: list[str], row_number: int, offset: int
) -> Record:
    if len(cells) > 1 and not any(cells):
        return Record(row_number, offset, {}, None, lines.dialect.has_offsets)
    if len(cells) == len(names):
        hidden = lines.hidden(hidden_in_text, names, offset)
        return Record(
            row_number, offset, _named(names, cells), hidden, lines.dialect.has_offsets
        )
    hidden = lines.hidden(hidden_by_error, names, offset)
    words = str(hidden or f"the record has {len(cells)} cells, the header {len(names)}")
    problem = RowProblem(Reason.BAD_CSV, words)
    return Record(row_number, offset, problem, hidden, lines.dialect.has_offsets)


@dataclass(frozen=True, slots=True)
class QuoteScan:
    """What a whole file holds: records, and rows that stray quotes hide, with the first."""

    records: int = 0
    hidden: int = 0
    first: HiddenRows | None = None


def scan_quotes(source: SourceFile) -> QuoteScan:
    """Look for rows that stray quotes hide; a file without quotes is not parsed.

    Raises `StorageError` when the disk fails.
    """
    try:
        if not any(b'"' in block for block in read_blocks(source)):
            return QuoteScan()
    except InputBroken:
        pass  # reading tells where
    records = hidden = 0
    first: HiddenRows | None = None
    for record in read_records(source):
        records += 1
        if record.hidden is not None:
            hidden += record.hidden.rows
            first = first or record.hidden
    return QuoteScan(records, hidden, first)


def _named(names: list[str], cells: list[str]) -> dict[str, str] | RowProblem:
    try:
        "".join(cells).encode()
    except UnicodeEncodeError:
        return RowProblem(Reason.BAD_UNICODE, "the record is not valid UTF-8")
    return dict(zip(names, cells, strict=True))


def _csv_problem(exc: csv.Error, hidden: HiddenRows | None, *, at_end: bool) -> RowProblem:
    if hidden is not None:
        return RowProblem(Reason.BAD_CSV, str(hidden))
    if at_end:
        words = "the last record is cut off: a quote is not closed"
        return RowProblem(Reason.TRUNCATED_TAIL, words)
    words = _RETURN if "new-line character" in str(exc) else f"the record is no CSV: {exc}"
    return RowProblem(Reason.BAD_CSV, words)


_RETURN: Final = "a carriage return stands alone, outside of quotes: let all lines end alike"


_MOST_TAKEN: Final = 1_000_000


def _within_cells(line: bytes, between: bytes) -> bytes:
    """The line as far as its cells are not too many for memory: the record has too many."""
    cells = 0
    for token in re.finditer(re.escape(between) + rb'|"[^"]*"?', line):
        cells += token[0] == between
        if cells > MOST_PARTS:
            return line[: token.start()]
    return line


class _TextLines:
    """The lines of a file as text, for `csv`; `offset` is where the next one starts.

    `taken` are those since somebody cleared them: the lines of one record, at most a million.
    `at_end` is set when a line was asked for and there is none: what is open stays open.
    Bytes that are no UTF-8 become lone surrogates, so that the record is known when they show.
    """

    def __init__(self, source: SourceFile) -> None:
        self.offset = 0
        self.at_end = False
        self.taken: list[str] = []
        self._number = self._first = 0
        self.dialect = dialect_of(source)
        self._lines = self._read(source)

    def __iter__(self) -> Iterator[str]:
        return self._lines

    def hidden(
        self, look: Callable[..., HiddenRows | None], names: list[str], offset: int
    ) -> HiddenRows | None:
        """What `look` finds in the lines of the record that starts at `offset`."""
        return look(
            self.taken,
            len(names),
            first_line=self._first,
            offset=offset,
            delimiter=self.dialect.delimiter,
        )

    def _read(self, source: SourceFile) -> Iterator[str]:
        dialect = self.dialect
        encoding = "utf-8" if dialect.encoding == "utf-16" else dialect.encoding
        between = dialect.delimiter.encode()
        for lines in LineSplitter(AllBut(RowRanges())).split(_blocks(source, dialect)):
            self.offset = lines.offset
            for line in lines.lines:
                self.offset += len(line) + 1
                self._number += 1
                if dialect.has_sep_line and self._number == 1:
                    continue
                cut = line
                if line.count(between) > MOST_PARTS:
                    cut = _within_cells(line, between)
                text = cut.decode(encoding, "surrogateescape") + "\n" * lines.terminated
                if not self.taken:
                    self._first = self._number
                if len(self.taken) < _MOST_TAKEN:
                    self.taken.append(text)
                yield text
        self.at_end = True


def _blocks(source: SourceFile, dialect: CsvDialect) -> Iterator[bytes]:
    """The blocks of a file as UTF-8, or in an encoding of single bytes, lines ending alike."""
    blocks = read_blocks(source)
    if dialect.encoding == "utf-16":
        blocks = as_utf8(blocks)
    first = next(blocks, b"")
    if b"\r" in first and b"\n" not in first:
        return (block.replace(b"\r", b"\n") for block in chain([first], blocks))
    return chain([first], blocks)
