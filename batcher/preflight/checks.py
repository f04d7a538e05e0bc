"""From the checks of the rules to functions that find what is wrong."""

import re
from collections.abc import Callable, Iterator
from typing import Any, Final, TypeAlias, assert_never

from batcher.preflight.rules import (
    Below,
    Bound,
    Check,
    Conflicts,
    Count,
    Entries,
    Enum,
    Excludes,
    Forbidden,
    HasType,
    Length,
    NeedsBeta,
    OnlyDefault,
    Pattern,
    Required,
    Requires,
    Structure,
    Unique,
)
from batcher.preflight.structure import COUNTS, FAULTS

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


Element: TypeAlias = dict[str, Any]
# What is wrong: where it is, if not the field itself, and the value to show.
Finding: TypeAlias = tuple[str | None, Any]
# Looks at a field and the element that has it; None when all is well.
Test: TypeAlias = Callable[[Any, Element], Finding | None]
Getter: TypeAlias = Callable[[Element], Any]
_IsWrong: TypeAlias = Callable[[Any], bool]


def getter(path: str) -> Getter:
    """Reads a dotted path; `None` where a part of it is absent or no object."""
    first, *rest = path.split(".")
    if not rest:
        return lambda element: element.get(first)

    def get(element: Element) -> object:
        value = element.get(first)
        for name in rest:
            if type(value) is not dict:
                return None
            value = value.get(name)
        return value

    return get


def test_of(check: Check, betas: tuple[str, ...]) -> Test:  # noqa: C901, PLR0911, PLR0912 - one line per check
    """The function that carries `check` out, for requests with these beta names."""
    match check:
        case Forbidden():
            return _when_there(lambda _: True)
        case Required():
            return lambda value, _: (None, None) if value is None else None
        case Bound():
            return _when_there(lambda value: not _is_within(value, check))
        case Length():
            return _when_there(lambda value: type(value) is str and _is_out(value, check))
        case Entries():
            return _when_there(lambda value: type(value) is list and _is_out(value, check))
        case Pattern():
            return _when_there(_mismatch(check.regex))
        case Enum():
            return _when_there(lambda value: value not in check.values)
        case Excludes():
            return _when_there(lambda value: value in check.values)
        case OnlyDefault():
            return _when_there(lambda value: value != check.default)
        case HasType():
            return _when_there(_TYPES[check.type])
        case Requires():
            return _with_other(check.other, lambda _, other: other is None)
        case Conflicts():
            return _with_other(check.other, lambda _, other: other is not None)
        case Below():
            return _with_other(check.other, _is_not_below)
        case NeedsBeta():
            is_missing = not any(beta.startswith(check.betas) for beta in betas)
            return _when_there(lambda _: is_missing)
        case Unique():
            return lambda value, _: _repeated(value, check.key)
        case Count():
            return _count(check)
        case Structure():
            return _structure(check)
        case _:
            assert_never(check)


def _when_there(is_wrong: _IsWrong) -> Test:
    def test(value: object, _: Element) -> Finding | None:
        return (None, value) if value is not None and is_wrong(value) else None

    return test


def _with_other(path: str, is_wrong: Callable[[Any, Any], bool]) -> Test:
    get = getter(path)

    def test(value: object, element: Element) -> Finding | None:
        wrong = value is not None and is_wrong(value, get(element))
        return (None, value) if wrong else None

    return test


def _is_within(value: object, check: Bound) -> bool:
    if type(value) not in {int, float}:
        return False
    number: Any = value
    is_low = check.min is not None and number < check.min
    return not is_low and (check.max is None or number <= check.max)


def _is_out(value: str | list[Any], check: Length | Entries) -> bool:
    return len(value) < check.min or (check.max is not None and len(value) > check.max)


def _mismatch(regex: str) -> _IsWrong:
    pattern = re.compile(regex)
    return lambda value: type(value) is not str or pattern.fullmatch(value) is None


def _is_not_below(value: object, other: object) -> bool:
    numbers = {int, float}
    if type(value) not in numbers or type(other) not in numbers:
        return False  # has a rule of its own
    less: Any = value
    return bool(less >= other)


_TYPES: Final[dict[str, _IsWrong]] = {
    "object": lambda value: type(value) is not dict,
    "objects": lambda value: type(value) is list and any(type(x) is not dict for x in value),
    "texts": lambda value: (
        type(value) is not list or any(type(x) is not str or not x.strip() for x in value)
    ),
}


def _repeated(value: object, key: str) -> Finding | None:
    seen: list[Any] = []
    for entry in value if type(value) is list else ():
        name = entry.get(key) if type(entry) is dict else None
        if name is not None and name in seen:
            return None, name
        seen.append(name)
    return None


def _count(check: Count) -> Test:
    count = COUNTS[check.of]

    def test(_: object, body: Element) -> Finding | None:
        number = count(body)
        return (None, number) if number > check.max else None

    return test


def _structure(check: Structure) -> Test:
    if check.fault == "schema_not_supported":
        return _schema
    find = FAULTS[check.fault]

    def test(_: object, body: Element) -> Finding | None:
        place = find(body)
        return None if place is None else (place, None)

    return test


def _schema(value: object, _: Element) -> Finding | None:
    place = None if value is None else unsupported(value, "output_config.format.schema")
    return None if place is None else (place, None)
