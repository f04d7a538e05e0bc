"""Which JSON Schemas an answer can be made to follow (messages-api, 2.8)."""

from collections.abc import Iterator
from typing import Any, Final

_NUMBERS_AND_LENGTHS: Final = frozenset(
    {
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "minLength",
        "maxLength",
    }
)
_MAPS: Final = ("properties", "$defs", "definitions", "patternProperties")
_LISTS: Final = ("anyOf", "allOf", "oneOf", "prefixItems")
_ONE: Final = ("items", "not", "if", "then", "else", "contains", "additionalProperties")
_LOOKAROUND: Final = ("(?=", "(?!", "(?<=", "(?<!")


def unsupported(schema: object, where: str) -> str | None:
    """The place of the first thing in `schema` that is refused, `None` when all of it works.

    Refused are recursion through the root, references to elsewhere, objects that allow further
    properties, bounds on numbers and lengths, minItems above 1, and lookaround in a pattern.
    """
    waiting = [(where, schema)]
    while waiting:
        place, part = waiting.pop()
        if type(part) is dict:
            fault = _fault(part)
            if fault is not None:
                return f"{place}.{fault}" if fault else place
            waiting.extend(_parts(place, part))
    return None


def _fault(part: dict[str, Any]) -> str | None:
    """The keyword that is refused here, if any."""
    for name in _NUMBERS_AND_LENGTHS & part.keys():
        return name
    reference = part.get("$ref")
    if type(reference) is str and (reference == "#" or not reference.startswith("#")):
        return "$ref"
    if type(part.get("minItems")) is int and part["minItems"] > 1:
        return "minItems"
    pattern = part.get("pattern")
    if type(pattern) is str and any(mark in pattern for mark in _LOOKAROUND):
        return "pattern"
    if part.get("type") == "object" and part.get("additionalProperties") is not False:
        return "additionalProperties (must be false)"
    return None


def _parts(place: str, part: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    for name in _MAPS:
        if type(part.get(name)) is dict:
            yield from ((f"{place}.{name}.{key}", inner) for key, inner in part[name].items())
    for name in _LISTS:
        if type(part.get(name)) is list:
            yield from ((f"{place}.{name}[{i}]", x) for i, x in enumerate(part[name]))
    for name in _ONE:
        if name in part:
            yield f"{place}.{name}", part[name]
