"""How much text an operation of a template gives, told before it is done."""

import re
from collections.abc import Callable, Iterable
from typing import Final, NoReturn

MOST_STEPS: Final = 1_000_000  # turns of loops, calls and entries of lists, for one text
MOST_WIDTH: Final = 10_000  # what a text may be filled up to
MOST_BITS: Final = 100_000  # of an integer
MOST_DIGITS: Final = 4  # as `_WIDE` has it; of a width inside a format
MOST_INDENT: Final = 16  # of JSON

_WIDE: Final = re.compile(r"\d{5,}")
_PERCENT: Final = re.compile(r"%(?:\([^)]*\))?[-#0 +]*([0-9*]*(?:[.][0-9*]*)?)")
_BLANKS: Final = tuple(" \t\n\r\v\f")
_BRACES: Final = re.compile(r"\{[^{}:]*:([^}]*)")


class TemplateRefused(Exception):  # noqa: N818 - it is what happens to the template
    """A template asks for what it may not have; the message is a clause."""


def refuse(words: str) -> NoReturn:
    """Raise `TemplateRefused`."""
    raise TemplateRefused(words)


def _width(value: object = None, width: object = 80, *_: object, **options: object) -> int:
    widths = [width, *options.values()]
    wide = max((w for w in widths if isinstance(w, int)), default=0)
    if wide > MOST_WIDTH:
        refuse(f"it asks for a width of {wide:,}; {MOST_WIDTH:,} is the most")
    return wide + _size(value)


def _indented(value: object = "", width: object = 4, *_: object, **options: object) -> int:
    _width(value, width, **options)
    step = options.get("width", width)
    lines = value.count("\n") + 1 if isinstance(value, str) else 0
    return _size(value) + lines * (step if isinstance(step, int) else _size(step))


def _json(_: object = None, indent: object = None) -> int:
    if isinstance(indent, int) and indent > MOST_INDENT:
        refuse(f"it asks for JSON indented by {indent:,}; {MOST_INDENT} is the most")
    return 0


def _joined(
    values: object = (), separator: object = "", attribute: object = None, **options: object
) -> int:
    """Of `values | join(separator)` and of `separator.join(values)`."""
    between = options.get("d", separator)
    if isinstance(values, str) and isinstance(between, str):
        return (len(values) + 1) * (len(between) + 1)
    if isinstance(values, str):
        values, between = between, values
    parts = values if isinstance(values, (list, tuple, dict)) else ()
    if attribute is None and "attribute" not in options and None in parts:
        refuse("a null would be written by join; use | select | join")
    return sum(map(_size, parts)) + len(parts) * _size(between)


def _split(value: object = "", separator: object = None, *_: object, **__: object) -> int:
    marks = [separator] if isinstance(separator, str) and separator else _BLANKS
    found = sum(value.count(mark) for mark in marks) if isinstance(value, str) else 0
    if found > MOST_STEPS:
        refuse(f"it splits a text into more than {MOST_STEPS:,} parts")
    return 0


def _each(value: object = "", *_: object, **__: object) -> int:
    if isinstance(value, str) and len(value) > MOST_STEPS:
        refuse(f"it goes over a text of more than {MOST_STEPS:,} characters")
    return 0


def _batched(value: object = "", *sizes: object, **options: object) -> int:
    return _each(value) + _width(None, *sizes, **options)


def _stripped(value: object = "") -> int:
    """Each mark costs a copy of the text."""
    return value.count("<") * len(value) // 16 if isinstance(value, str) else 0


def _replaced(value: object = "", old: object = "", new: object = "", *_: object) -> int:
    if not (isinstance(value, str) and isinstance(old, str)):
        return 0
    return len(value) + value.count(old) * _size(new)


def _sum(_: object = (), attribute: object = None, start: object = 0) -> int:  # noqa: ARG001 - as Jinja has it
    if not isinstance(start, (int, float)):
        refuse("sum adds numbers only")
    return 0


def _formatted(text: object = "", *values: object, **named: object) -> int:
    """Of `%` and of the method `format`: its fields times the longest value."""
    if not isinstance(text, str):
        return 0
    if len(values) == 1 and isinstance(values[0], (tuple, dict)):
        given: Iterable[object] = _parts(values[0])
    else:
        given = (*values, *named.values())
    given = list(given)
    if None in given:
        refuse("a null would be written; use {{ column or '' }}")
    widths = [m[1] for m in _PERCENT.finditer(text)] + [m[1] for m in _BRACES.finditer(text)]
    if any("*" in w or "{" in w or _WIDE.search(w) for w in widths):
        refuse(f"it formats with a width that is no number of {MOST_DIGITS} digits")
    fields = text.count("%") + text.count("{")
    longest = max(map(_size, given), default=0)
    return len(text) + fields * (longest + 10**MOST_DIGITS)


def _times(left: object, right: object) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return _bits(left.bit_length() + right.bit_length())
    for value, count in ((left, right), (right, left)):
        if isinstance(value, (str, list, tuple)) and isinstance(count, int):
            return (len(value) if isinstance(value, str) else 64 * len(value)) * max(count, 0)
    return 0


def _power(left: object, right: object) -> int:
    if isinstance(left, int) and isinstance(right, int):
        return _bits(left.bit_length() * abs(right))
    return 0


def _bits(bits: int) -> int:
    if bits > MOST_BITS:
        refuse(f"it makes an integer of more than {MOST_BITS:,} bits")
    return bits // 8


def _plus(left: object, right: object) -> int:
    return _size(left) + _size(right) if isinstance(left, str) else 0


def _modulo(left: object, right: object) -> int:
    if not isinstance(left, str):
        return 0
    return _formatted(left, right)


def _parts(value: object) -> list[object]:
    if isinstance(value, dict):
        return list(value.values())
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _size(value: object) -> int:
    """About how long `value` is as text."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, (list, tuple, dict)):
        return len(repr(value))  # weighed before: it is bounded
    return 32


Limit = Callable[..., int]
LIMITS: Final[dict[str, Limit]] = {
    **dict.fromkeys(("center", "ljust", "rjust", "zfill", "round", "wordwrap"), _width),
    **dict.fromkeys(("batch", "slice"), _batched),
    **dict.fromkeys(("split", "rsplit", "splitlines"), _split),
    **dict.fromkeys(("list", "map", "select", "reject", "selectattr", "rejectattr"), _each),
    **dict.fromkeys(("sort", "unique", "groupby", "min", "max"), _each),
    "tojson": _json,
    "striptags": _stripped,
    "indent": _indented,
    "join": _joined,
    "replace": _replaced,
    "sum": _sum,
    "format": _formatted,
    "*": _times,
    "**": _power,
    "+": _plus,
    "%": _modulo,
}
