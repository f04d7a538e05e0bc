"""JSON values that are rows: how they lie in a text, told by its beginning, and each of them.

Many tools write one array, an object around it, or objects over several lines. The first
kilobytes decide, whatever the size of the blocks they come in: rows keep their numbers.

Values that are no lines are found one by one, never all at once, and told apart by their
brackets alone; whether one is JSON is seen when it is parsed.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import chain
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS
from batcher.rows.batch import InputBroken
from batcher.rows.ranges import RowsToRead
from batcher.rows.read.lines import MAX_LINE_BYTES, LineBatch, LineSplitter, read_blocks
from batcher.rows.read.source import SourceFile

BOM: Final = b"\xef\xbb\xbf"
SAMPLE_BYTES: Final = 64 * 1024
AROUND_REQUESTS: Final = re.compile(rb'\s*+\{\s*+"requests"\s*+:\s*+\[')
# Up to the next bracket outside of texts; nothing is kept of what it passes.
_TO_BRACKET: Final = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL
)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


_RECORDS: Final = 'one object a row: with pandas to_json(path, orient="records", lines=True)'
_GAP: Final = re.compile(rb"(?:[\s,]|\xef\xbb\xbf)*+")
_BEHIND: Final = re.compile(rb"\](?:\s|\xef\xbb\xbf)*+")
_MOST_AT_ONCE: Final = 4 * 2**20
# What is no value with brackets: refused as a row, never passed over.
_OTHER: Final = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"|[^\s,\[\]{}"]++|.', re.DOTALL)
_OTHER_LINE: Final = re.compile(rb"[^\n{\[]++")


class TextLayout(Enum):
    """How rows lie in a text; the value says it to people, for `LINES` there is no need."""

    LINES = ""
    RETURNS = "lines that end with a carriage return"
    ARRAY = "one JSON array; each of its entries is a row"
    REQUESTS = 'one object {"requests": […]}; each of its entries is a row'
    VALUES = "JSON objects that are not one a line; each object is a row"


def recognised(blocks: Iterator[bytes]) -> tuple[TextLayout, Iterator[bytes]]:
    """The layout of a text, and all of its blocks again."""
    taken: list[bytes] = []
    rest: Iterator[bytes] = blocks
    size = 0
    try:
        while size < SAMPLE_BYTES and (block := next(blocks, None)) is not None:
            taken.append(block)
            size += len(block)
    except InputBroken as exc:
        rest = _raising(exc)
    first = taken[0] if len(taken) == 1 else b"".join(taken)
    return layout_of(first[:SAMPLE_BYTES]), chain([first] if first else [], rest)


def _raising(exc: InputBroken) -> Iterator[bytes]:
    for _ in range(1):
        raise exc
    yield b""


def layout_of(sample: bytes) -> TextLayout:
    """The layout of the text that begins with `sample`."""
    text = sample.removeprefix(BOM).lstrip()
    if text.startswith(b"["):
        return _of_array(text)
    line, feed, rest = text.partition(b"\n")
    if not text.startswith(b"{"):
        return TextLayout.LINES
    if (fields := _object(line)) is not None:
        is_all = list(fields) == ["requests"] and not rest.strip()
        return TextLayout.REQUESTS if is_all and _holds_objects(fields) else TextLayout.LINES
    if not feed and _object(text.partition(b"\r")[0]) is not None:
        return TextLayout.RETURNS
    return _of_object(text, line)


def whole_table(fields: dict[str, Any], *, is_no_row: bool) -> str:
    """What an object is that holds all rows of a file, and what to write; empty: one row.

    `is_no_row`: it has nothing that a prompt could come from, so that more is told.
    """
    values = list(fields.values())
    if values and all(type(each) is dict and each for each in values):
        inner = values[0].keys()
        is_table = all(each.keys() == inner for each in values)
        if is_table and (
            (is_no_row and len(values) > 1) or _are_numbers(inner) or _are_numbers(fields)
        ):
            return f"is a whole table in one object; write {_RECORDS}"
    if not is_no_row:
        return ""
    lists = [each for each in values if type(each) is list and each]
    rows = [name for name, each in fields.items() if each in lists and type(each[0]) is dict]
    if rows and not {"role", "from"} & fields[rows[0]][0].keys():  # else it is one conversation
        return f"holds its rows in the list {rows[0]!r}; write that list alone"
    if "data" in fields or (values and len(lists) == len(values)):
        return f"is a whole table in lists; write {_RECORDS}"
    return ""


def _are_numbers(names: Iterable[str]) -> bool:
    return all(name == str(number) for number, name in enumerate(names))


def value_end(text: bytes, start: int) -> int:
    """Where the object or array that starts there ends; -1: not in this text."""
    depth = 0
    while found := _TO_BRACKET.match(text, start):
        start = found.end()
        depth += 1 if found[1] in b"{[" else -1
        if depth <= 0:
            return start
    return -1


def _of_array(text: bytes) -> TextLayout:
    end = value_end(text, 0)
    line, _, further = text[max(end, 0) :].partition(b"\n")
    is_a_row = end > 0 and b"\n" not in text[:end] and not line.strip() and further.strip()
    is_another = further.lstrip().removeprefix(BOM).startswith(b"[")
    return TextLayout.LINES if is_a_row and not is_another else TextLayout.ARRAY


def _of_object(text: bytes, line: bytes) -> TextLayout:
    """That of a text whose first line is no object, but begins with one."""
    end = value_end(text, 0)
    if end < 0:
        if AROUND_REQUESTS.match(text):
            return TextLayout.REQUESTS
        return TextLayout.VALUES if line.strip() == b"{" else TextLayout.LINES
    fields = _object(text[:end])
    if fields is None:
        return TextLayout.LINES
    if list(fields) == ["requests"] and _holds_objects(fields):
        return TextLayout.REQUESTS
    is_first_of_several = text[end : len(line)].lstrip().startswith(b"{")
    return TextLayout.VALUES if end > len(line) or is_first_of_several else TextLayout.LINES


def _object(text: bytes) -> dict[str, msgspec.Raw] | None:
    try:
        return _OBJECT.decode(text)
    except CODEC_ERRORS:
        return None


def _holds_objects(fields: dict[str, msgspec.Raw]) -> bool:
    return bytes(fields["requests"])[:1] == b"["


@dataclass(frozen=True, slots=True)
class _Around:
    """What stands before and behind the entries; the latter without blanks."""

    begin: re.Pattern[bytes]
    end: bytes


_AROUND: Final = {
    TextLayout.ARRAY: _Around(re.compile(rb"\s*+\["), b"]"),
    TextLayout.REQUESTS: _Around(AROUND_REQUESTS, b"]}"),
}


class RowsOfText:
    """The rows of a JSON text, however they lie in it.

    `row_number` and `offset` are those of the row that is being read, from 1 and 0.
    """

    def __init__(self, source: SourceFile, rows: RowsToRead) -> None:
        self._source = source
        self._rows = rows
        self.layout = TextLayout.LINES
        self._reading: LineSplitter | ValueSplitter = LineSplitter(rows)

    @property
    def row_number(self) -> int:
        """The number of the row that is being read."""
        return self._reading.row_number

    @property
    def offset(self) -> int:
        """Where that row starts in the unpacked text."""
        return self._reading.offset

    def __iter__(self) -> Iterator[LineBatch]:
        """All rows that are to be read, in order; raises what `read_blocks` does."""
        self.layout, blocks = recognised(read_blocks(self._source))
        if self.layout is TextLayout.RETURNS:
            blocks = (block.replace(b"\r", b"\n") for block in blocks)
        elif self.layout is not TextLayout.LINES:
            self._reading = ValueSplitter(self._rows, self.layout)
            return self._reading.split(blocks)
        self._reading = LineSplitter(self._rows, are_joined=True)
        return self._reading.split(blocks)


class ValueSplitter:
    """Splits one text into values; the attributes are those of `LineSplitter`."""

    def __init__(self, rows: RowsToRead, layout: TextLayout) -> None:
        self._rows = rows
        self._layout = layout
        self._around = _AROUND.get(layout)
        self._blocks: Iterator[bytes] = iter(())
        self._text, self._at, self._base = b"", 0, 0
        self._is_over = False
        self.row_number = 1

    @property
    def offset(self) -> int:
        """Where the value starts that is being read."""
        return self._base + self._at

    def split(self, blocks: Iterator[bytes]) -> Iterator[LineBatch]:
        """The values of `blocks` that are to be read, in order."""
        self._blocks = blocks
        if self._more():
            self._begin()
        while True:
            yield from self._whole_values()
            if self._is_over:
                if self._begins_anew():
                    continue
                self._end()
                return
            if not self._more():
                break
        if self._around:
            raise InputBroken("the file is cut off: its JSON array does not end")
        yield from self._last()

    def _more(self) -> bool:
        """Take in about as much again as is waiting; `False` at the end of the file."""
        waiting = [self._text[self._at :]]
        wanted, got = min(max(len(waiting[0]), 1), _MOST_AT_ONCE), 0
        if len(waiting[0]) > MAX_LINE_BYTES:
            raise InputBroken(f"an entry is longer than {MAX_LINE_BYTES:,} bytes")
        while got < wanted and (block := next(self._blocks, None)) is not None:
            waiting.append(block)
            got += len(block)
        self._base, self._at = self._base + self._at, 0
        self._text = b"".join(waiting)
        return got > 0

    def _begin(self) -> None:
        self._at = len(BOM) if self._text.startswith(BOM) else 0
        if self._around:
            while (begins := self._around.begin.match(self._text, self._at)) is None:
                if len(self._text) < SAMPLE_BYTES and self._more():
                    continue
                raise InputBroken("the file does not begin with a JSON array")
            self._at = begins.end()

    def _whole_values(self) -> Iterator[LineBatch]:
        """The values that end in the present text."""
        group = _Group()
        while (end := self._next()) > 0:
            start, number = self._at, self.row_number
            self._at, self.row_number = end, number + 1
            is_wanted = self._rows.take_one(number)
            if not group.takes(start, is_wanted=is_wanted):
                yield group.batch()
                group = _Group()
            value = self._text[start:end] if is_wanted else None
            group.add(number, self._base, start, value)
        if group.rows:
            yield group.batch()

    def _next(self) -> int:
        """Where the next value ends, which begins where we are then; -1: not here."""
        gap = _GAP.match(self._text, self._at)
        self._at = gap.end() if gap else self._at
        if self._at == len(self._text):
            return -1
        if self._text[self._at] in b"{[":
            return value_end(self._text, self._at)
        if self._around and self._text[self._at] == ord("]"):
            self._is_over = True
            return -1
        other = (_OTHER if self._around else _OTHER_LINE).match(self._text, self._at)
        end = other.end() if other else len(self._text)
        return end if end < len(self._text) else -1  # else it may go on

    def _begins_anew(self) -> bool:
        """Whether another array follows this one, as where files were put together."""
        if self._layout is not TextLayout.ARRAY:
            return False
        # of a mark a part may be here
        while len(self._text) - self._behind() < len(BOM) and self._more():
            pass
        behind = self._behind()
        self._is_over = self._text[behind : behind + 1] != b"["
        self._at = self._at if self._is_over else behind + 1
        return not self._is_over

    def _behind(self) -> int:
        """Where the text goes on behind the bracket that closes an array."""
        gap = _BEHIND.match(self._text, self._at)
        return gap.end() if gap else self._at

    def _end(self) -> None:
        """Raise unless nothing but the end of what is around the entries follows."""
        expected = self._around.end if self._around else b""
        seen = b""
        while True:
            seen += b"".join(self._text[self._at :].split())[: len(expected) + 1]
            if not expected.startswith(seen):
                raise InputBroken("something follows the end of the JSON array")
            self._at = len(self._text)
            if not self._more():
                break
        if seen != expected:
            raise InputBroken("the file is cut off behind its JSON array")

    def _last(self) -> Iterator[LineBatch]:
        """What is left behind the last whole value."""
        left = self._text[self._at :].rstrip()
        if left and self._rows.take_one(self.row_number):
            yield LineBatch(
                first_row=self.row_number, offset=self.offset, lines=[left], terminated=False
            )


class _Group:
    """Consecutive values that lie one byte apart, as lines do, or that are passed over."""

    def __init__(self) -> None:
        self._lines: list[bytes] = []
        self._first = self._offset = self._end = 0
        self.rows = 0

    def takes(self, start: int, *, is_wanted: bool) -> bool:
        """Whether another value may join: all are wanted and side by side, or none is."""
        if not self.rows:
            return True
        return (
            start == self._end + 1
            if is_wanted and self._lines
            else not (is_wanted or self._lines)
        )

    def add(self, number: int, base: int, start: int, value: bytes | None) -> None:
        """A value at `start` in the text that begins at `base`; `None`: passed over."""
        if not self.rows:
            self._first, self._offset = number, base + start
        self.rows += 1
        if value is not None:
            self._lines.append(value)
            self._end = start + len(value)

    def batch(self) -> LineBatch:
        """All of them."""
        skipped = 0 if self._lines else self.rows
        return LineBatch(
            first_row=self._first, offset=self._offset, lines=self._lines, skipped=skipped
        )
