"""How rows lie in a JSON text: as lines, or in another way that its beginning shows.

Many tools write one array, an object around it, or objects over several lines. The first
kilobytes decide, whatever the size of the blocks they come in: rows keep their numbers.
"""

import re
from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import chain
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS
from batcher.rows.batch import InputBroken

BOM: Final = b"\xef\xbb\xbf"
SAMPLE_BYTES: Final = 64 * 1024
AROUND_REQUESTS: Final = re.compile(rb'\s*+\{\s*+"requests"\s*+:\s*+\[')
# Up to the next bracket outside of texts; nothing is kept of what it passes.
_TO_BRACKET: Final = re.compile(
    rb'[^"{}\[\]]*+(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"[^"{}\[\]]*+)*+([{}\[\]])', re.DOTALL
)
_OBJECT: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])


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


_RECORDS: Final = 'one object a row: with pandas to_json(path, orient="records", lines=True)'


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
