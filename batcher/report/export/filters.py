"""Simple filters over exported rows: a column, a comparison, a value."""

import operator
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Any, Final

import msgspec

from batcher.errors import UsageError

_FORM: Final = re.compile(r"\s*(.+?)\s*(!=|<=|>=|==?|<|>|~)\s*(.*?)\s*", re.DOTALL)
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


@dataclass(frozen=True, slots=True)
class Filter:
    """One comparison; `~` asks whether the text holds the value, in whatever case.

    Numbers are compared as numbers, everything else as text. A cell that is empty is equal to
    the empty value, and neither more nor less than any other.
    """

    words: str
    column: str
    comparison: str
    value: str

    def keeps(self, row: Mapping[str, Any]) -> bool:
        """Whether a row is wanted."""
        cell = _text(row.get(self.column))
        if self.comparison == "~":
            return self.value.lower() in cell.lower()
        if self.comparison in {"=", "!="} and not (cell and self.value):
            return _COMPARE[self.comparison](cell, self.value)
        one, other = _number(cell), _number(self.value)
        if one is not None and other is not None:
            return _COMPARE[self.comparison](one, other)
        return bool(cell) and _COMPARE[self.comparison](cell, self.value)


def parse_filters(words: Iterable[str]) -> tuple[Filter, ...]:
    """The filters that are written as `column=value`; raises `UsageError` for other words."""
    return tuple(map(_parsed, words))


def _parsed(words: str) -> Filter:
    match = _FORM.fullmatch(words)
    if match is None:
        raise UsageError(
            f"--where {words!r}: write a column, one of = != < <= > >= ~, and a value, like"
            " 'output_tokens>500'"
        )
    column, comparison, value = match.groups()
    return Filter(words, column, "=" if comparison == "==" else comparison, value)


def _text(cell: object) -> str:
    if cell is None:
        return ""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, msgspec.Raw):
        return bytes(cell).decode()
    return msgspec.json.encode(cell).decode()


def _number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None
