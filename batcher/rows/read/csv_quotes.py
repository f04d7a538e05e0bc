"""Stray quotes in CSV files: an opened one swallows whole rows until the next, or the end."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

LEAST_LINES: Final = 10  # of which a text may be made without looking like rows


@dataclass(frozen=True, slots=True, kw_only=True)
class HiddenRows:
    """The quote that hides rows: its line from 1, its place in bytes, how many rows.

    `closed`: another quote ends it, so that what it hides is the text of one cell.
    """

    line: int
    offset: int
    rows: int
    closed: bool

    def __str__(self) -> str:
        ends = (
            "takes in" if self.closed else "is not closed, or not at the end of a cell: hides"
        )
        rows = f"{self.rows:,} row{'s' * (self.rows != 1)}"
        return f"the quote in line {self.line:,} (byte {self.offset:,}) {ends} {rows}"


def hidden_by_error(
    lines: Sequence[str], columns: int, *, first_line: int, offset: int, delimiter: str = ","
) -> HiddenRows | None:
    """What a record that is no CSV has swallowed; `None` when that is no row.

    `lines` are those that were read for it, the first of which is its own.
    """
    quote = _Quote.of(lines, delimiter)
    rows = sum(
        _is_row(line, columns, delimiter) for line in lines[quote.index + 1 :] if line.strip()
    )
    if not rows or (columns == 1 and rows < LEAST_LINES):
        return None
    return quote.hiding(rows, first_line, offset, closed=False)


def hidden_in_text(
    lines: Sequence[str], columns: int, *, first_line: int, offset: int, delimiter: str = ","
) -> HiddenRows | None:
    """Rows that a good record of many lines holds as text; `None` where it is a text."""
    if len(lines) < LEAST_LINES + 2 or columns == 1:
        return None
    quote = _Quote.of(lines, delimiter)
    inner = lines[quote.index + 1 : -1]
    if len(inner) < LEAST_LINES or not all(_is_row(line, columns, delimiter) for line in inner):
        return None
    return quote.hiding(len(inner) + 1, first_line, offset, closed=True)


@dataclass(frozen=True, slots=True)
class _Quote:
    """Where the quote of a record is: in which of its lines, at which of its bytes."""

    index: int
    place: int

    @classmethod
    def of(cls, lines: Sequence[str], delimiter: str) -> "_Quote":
        text = "".join(lines)
        before = text[: quote_place(text, delimiter)]
        return cls(before.count("\n"), len(before.encode("utf-8", "surrogateescape")))

    def hiding(self, rows: int, first_line: int, offset: int, *, closed: bool) -> HiddenRows:
        line, place = first_line + self.index, offset + self.place
        return HiddenRows(line=line, offset=place, rows=rows, closed=closed)


def _is_row(line: str, columns: int, delimiter: str) -> bool:
    try:
        return len(next(csv.reader([line], delimiter=delimiter), [])) == columns
    except csv.Error:
        return False


def quote_place(text: str, delimiter: str = ",") -> int:
    """Where the quote of a record is that stays open, else the one that spans most lines."""
    opened, place, most = -1, 0, -1
    starts, ends = delimiter + "\n", ("", delimiter, "\n", "\r")
    at = text.find('"')
    while at >= 0:
        step = 1
        if opened < 0:
            if text[max(at - 1, 0)] in starts or at == 0:
                opened = at
        elif text[at + 1 : at + 2] == '"':
            step = 2
        elif text[at + 1 : at + 2] in ends:
            if text.count("\n", opened, at) > most:
                place, most = opened, text.count("\n", opened, at)
            opened = -1
        else:
            return opened
        at = text.find('"', at + step)
    return place if opened < 0 else opened
