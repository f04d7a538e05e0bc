"""Fields that occur twice in one object: what is sent must be what was read.

Of a repeated field our decoder keeps the last, and a server may keep the first. So bytes that
hold such a field are not sent as they came, but written anew.
"""

import json
from typing import Any, Final

import msgspec

from batcher.messages.request import canonical_pieces

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder()


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
