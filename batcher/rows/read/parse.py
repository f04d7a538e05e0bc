"""From the bytes of one line to its fields, or to the reason why not.

Of a field that occurs twice in one object our decoder keeps the last, and a server may keep
the first. What is sent must be what was read: such bytes are written anew.
"""

import json
import re
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS, MOST_PARTS, broken_utf8, has_more_parts
from batcher.messages.request import canonical_pieces
from batcher.rows.batch import Reason, RowProblem

MAX_DEPTH: Final = 100

_DECODER: Final = msgspec.json.Decoder()
_TOO_MANY: Final = f"more than {MOST_PARTS:,} values"
_TOO_DEEP: Final = f"nested more than {MAX_DEPTH} levels deep"
# The standard library's reader takes numbers of any size when it need not tell their value.
_ANY_NUMBER: Final[dict[str, Any]] = {"parse_int": len, "parse_float": len}
# What other tools write for a value, found where JSON ends, and what JSON has for it.
_GROUPED: Final = re.compile(
    r"(?<![\d.])\d{1,3}([,'\u2019_ \u00a0\u202f])\d{3}(?:\1\d{3})*(?!\d)|\d+,\d+"
)
_WORD: Final = re.compile(r"[-+]?([A-Za-z]+(?:/[A-Za-z]+)?)")
_NOTHING: Final = ("nan", "inf", "infinity", "na", "n/a", "none", "nil", "undefined")
_MEANT: Final = {"true": "true", "false": "false", "null": "null"} | dict.fromkeys(
    _NOTHING, "null"
)
_NO_NUMBERS: Final = frozenset({"nan", "inf", "infinity"})
_AROUND: Final = 40


def parse_row(line: bytes) -> dict[str, Any]:
    """The fields of a line that holds one JSON object; raises `RowProblem`.

    Decoded untyped, because a typed decoder does not look at the fields it does not know:
    broken UTF-8 there would get through. For a repeated key the last value counts.
    """
    if len(line) > MOST_PARTS and has_more_parts(line, MOST_PARTS):
        raise RowProblem(Reason.TOO_MANY_VALUES, f"the row holds {_TOO_MANY}")
    try:
        row = _DECODER.decode(line)
    except CODEC_ERRORS as exc:
        raise _problem(line, "the row", exc) from exc
    if type(row) is not dict:
        raise RowProblem(Reason.NOT_OBJECT, f"the row is {kind(row)}, not a JSON object")
    # counting is a hundred times cheaper than walking, and nearly always enough
    if line.count(b"{") + line.count(b"[") > MAX_DEPTH and is_deep(row):
        raise RowProblem(Reason.TOO_DEEP, f"the row is {_TOO_DEEP}")
    if b"\\u0000" in line and has_nul_key(row):
        raise RowProblem(Reason.BAD_UNICODE, "a field name holds a NUL character")
    return row


def parse_value(name: str, text: str) -> object:
    """The JSON value that column `name` holds as text; raises `RowProblem`, naming it."""
    if len(text) > MOST_PARTS and has_more_parts(text.encode("utf-8", "replace"), MOST_PARTS):
        raise RowProblem(Reason.TOO_MANY_VALUES, f"column {name!r} holds {_TOO_MANY}")
    try:
        value = _DECODER.decode(text)
    except CODEC_ERRORS as exc:
        raise _problem(text.encode("utf-8", "surrogatepass"), f"column {name!r}", exc) from exc
    if text.count("{") + text.count("[") >= MAX_DEPTH and is_deep(value, MAX_DEPTH - 1):
        raise RowProblem(Reason.TOO_DEEP, f"column {name!r} is nested too deep")
    if "\\u0000" in text and has_nul_key(value):
        raise RowProblem(
            Reason.BAD_UNICODE, f"column {name!r}: a field name holds a NUL character"
        )
    return value


def kind(value: object) -> str:
    """What JSON calls the type of `value`, with its article."""
    names = {dict: "an object", list: "a list", str: "a string", bool: "a boolean"}
    names |= {int: "a number", float: "a number", type(None): "null"}
    return names.get(type(value), type(value).__name__)


def is_deep(value: object, limit: int = MAX_DEPTH) -> bool:
    """Whether objects and lists are nested more than `limit` levels."""
    level = [value]
    for _ in range(limit):
        level = [item for part in level for item in _children(part)]
        if not any(type(item) in {dict, list} for item in level):
            return False
    return True


def has_nul_key(value: object) -> bool:
    """Whether any field name, at any depth, holds a NUL character."""
    parts = [value]
    while parts:
        part = parts.pop()
        if type(part) is dict and any("\0" in name for name in part):
            return True
        parts.extend(_children(part))
    return False


def _children(value: object) -> list[Any]:
    if type(value) is dict:
        return list(value.values())
    return value if type(value) is list else []


def _problem(line: bytes, whose: str, exc: Exception) -> RowProblem:
    """Why the decoder refused; its own words mislead, and its exceptions change."""
    if broken := broken_utf8(line):
        return RowProblem(Reason.BAD_UNICODE, f"{whose} is not valid UTF-8: {broken}")
    constants: list[str] = []
    try:
        read = json.loads(line.decode(), parse_constant=constants.append, **_ANY_NUMBER)
        json.dumps(read, ensure_ascii=False).encode()
    except RecursionError:
        return RowProblem(Reason.TOO_DEEP, f"{whose} is {_TOO_DEEP}")
    except UnicodeEncodeError:
        return RowProblem(Reason.BAD_UNICODE, f"{whose} holds half of a \\u surrogate pair")
    except json.JSONDecodeError as place:
        return _no_json(whose, place, exc)
    if is_deep(read):
        return RowProblem(Reason.TOO_DEEP, f"{whose} is {_TOO_DEEP}")
    number = "a number that is out of range"
    return _no_value(whose, constants[0]) if constants else _no_number(whose, number)


def _no_json(whose: str, place: json.JSONDecodeError, exc: Exception) -> RowProblem:
    """What stands where JSON ends: by its name where other tools write it for a value."""
    at = min(place.pos, _AROUND)
    around = place.doc[place.pos - at : place.pos + _AROUND]
    for number in _GROUPED.finditer(around):
        if number.start() <= at < number.end():
            advice = "which is no number; write digits alone, decimals after a point"
            return _no_number(whose, f"{number[0]}, {advice}")
    if (word := _WORD.match(around, at)) and word[1].lower() in _MEANT:
        return _no_value(whose, word[0], word[1].lower())
    if around.startswith("'", at):
        words = "has single quotes, as Python prints values; write JSON, with double quotes"
        return RowProblem(Reason.BAD_JSON, f"{whose} {words}")
    return RowProblem(Reason.BAD_JSON, f"{whose} is not JSON: {exc}")


def _no_number(whose: str, words: str) -> RowProblem:
    return RowProblem(Reason.BAD_NUMBER, f"{whose} holds {words}")


def _no_value(whose: str, written: str, name: str = "nan") -> RowProblem:
    reason = Reason.BAD_NUMBER if name in _NO_NUMBERS else Reason.BAD_JSON
    words = f"{whose} holds {written}, which JSON has not; write {_MEANT[name]}"
    return RowProblem(reason, words)


_ENCODER: Final = msgspec.json.Encoder()


def quotes_of(body: dict[str, Any], *, is_large: bool) -> int:
    """How many quotes the JSON text of `body` has; `is_large`: without a copy of it."""
    if is_large:
        return sum(piece.count(b'"') for piece in canonical_pieces(body))
    return _ENCODER.encode(body).count(b'"')


def as_it_came(text: bytes, quotes: int) -> bytes:
    """`text`, or what was read of it when it names a field twice.

    `quotes` are those of what was read. A text has as many, unless a field is lost, or it
    spells a quote as a number.
    """
    if text.count(b'"') == quotes and b"\\u0022" not in text:
        return text
    if not repeats_a_field(text):
        return text
    return _ENCODER.encode(_DECODER.decode(text))


def repeats_a_field(text: bytes) -> bool:
    """Whether any object in this JSON text, at any depth, names a field twice. Slow."""
    found = False

    def look(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal found
        fields = dict(pairs)
        found = found or len(fields) < len(pairs)
        return fields

    json.loads(text, object_pairs_hook=look)
    return found
