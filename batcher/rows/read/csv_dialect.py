"""How a CSV file is written: delimiter and encoding, by its beginning; and its stray quotes.

A quote that nobody closes swallows whole rows until the next one, or until the end.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.rows.batch import InputBroken
from batcher.rows.read.lines import read_blocks
from batcher.rows.read.source import SourceFile

_SAMPLE_BYTES: Final = 64 * 1024
_DELIMITERS: Final = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_ENCODINGS: Final = {"utf-16": "text in UTF-16", "cp1252": "text in Windows-1252"}
_SEP_LINE: Final = re.compile(r"sep=(.)\r?\n", re.IGNORECASE)
_QUOTED: Final = re.compile(r'"[^"]*"?')
_UTF8: Final = re.compile(rb"[\xc2-\xf4][\x80-\xbf]")  # seldom anything else
_HIGH: Final = re.compile(rb"[\x80-\xff]")
# A letter of Western Europe beside another letter, one that is a word (à, è, ó, å), or the
# marks that typewriters lack.
_WESTERN: Final = re.compile(
    rb"(?<=[A-Za-z\xc0-\xff])[\xc0-\xff]|[\xc0-\xff](?=[A-Za-z\xc0-\xff])"
    rb"|[\xc0\xc1\xc5\xc8\xc9\xd2\xd3\xd6\xd8\xda\xe0\xe1\xe5\xe8\xe9\xf2\xf3\xf6\xf8\xfa]"
    rb"|[\x80\x82-\x8c\x8e\x91-\x9c\x9e\x9f\xa0-\xbf]"
)
# Words of Cyrillic, Greek or Hebrew, and letters of DOS: marks of Windows stand between words.
_FOREIGN: Final = re.compile(rb"[\xc0-\xff]{4}|[A-Za-z][\x82-\x84\x86-\x89\x8b]+[a-z]")


LEAST_LINES: Final = 10  # of which a text may be made without looking like rows


@dataclass(frozen=True, slots=True)
class CsvDialect:
    """What stands between cells, how letters are encoded, whether a line `sep=` is first."""

    delimiter: str = ","
    encoding: str = "utf-8"
    has_sep_line: bool = False

    @property
    def has_offsets(self) -> bool:
        """Whether the places of records are known in bytes of the file."""
        return self.encoding != "utf-16"

    @property
    def note(self) -> str:
        """What is special about it, empty for commas and UTF-8."""
        named = _DELIMITERS.get(self.delimiter, repr(self.delimiter))
        parts = [f"cells between {named}"] if self.delimiter != "," else []
        if self.encoding != "utf-8":
            parts.append(_ENCODINGS[self.encoding])
        return ", ".join(parts)


def dialect_of(source: SourceFile) -> CsvDialect:
    """The dialect of a CSV file, by its first 64 kB; raises `StorageError`."""
    sample = b""
    try:
        for block in read_blocks(source):
            sample += block
            if len(sample) >= _SAMPLE_BYTES:
                break
    except InputBroken:
        pass  # reading tells where
    return dialect_of_sample(sample[:_SAMPLE_BYTES])


def dialect_of_sample(sample: bytes) -> CsvDialect:
    """The dialect of a file that begins so."""
    encoding = _encoding(sample)
    text = codecs.getincrementaldecoder(encoding)("replace").decode(sample)
    text = text.removeprefix("\ufeff")
    if found := _SEP_LINE.match(text):
        return CsvDialect(found[1], encoding, has_sep_line=True)
    header = _QUOTED.sub("", text.partition("\n")[0])
    delimiter = max(_DELIMITERS, key=header.count)  # the first of those that are as many
    return CsvDialect(delimiter, encoding)


def as_utf8(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """UTF-16 as UTF-8; halves of pairs and a cut end become what is no character."""
    decoder = codecs.getincrementaldecoder("utf-16")("replace")
    for block in blocks:
        yield decoder.decode(block).encode("utf-8", "replace")
    yield decoder.decode(b"", final=True).encode("utf-8", "replace")


def _encoding(sample: bytes) -> str:
    if sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(sample)
    except UnicodeDecodeError:
        others = len(_HIGH.findall(sample)) - len(_WESTERN.findall(sample))
        others += len(_FOREIGN.findall(sample))
        return "utf-8" if others or _UTF8.search(sample) else "cp1252"
    return "utf-8"


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
