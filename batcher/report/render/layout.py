"""A table as columns of text: one layout for terminal, plain text, Markdown and the page."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from fractions import Fraction
from typing import Any, TypeGuard, assert_never

from batcher.pricing.money import format_currency, places_of
from batcher.report.figures import USD
from batcher.report.table import CURRENCY, Cell, Field, Named, Table, Unit
from batcher.report.words import safe_text


class Detail(Enum):
    """How many columns: the fewest, those with something in them, or all."""

    NARROW = auto()
    WIDE = auto()
    FULL = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; numbers stand on the right. `in_narrow`: among the fewest columns."""

    title: str
    is_number: bool
    in_narrow: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Cells of text, safe for a terminal; each row as long as `columns`.

    `totals` is empty when there are no rows. `sentences` go below.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]

    def without(self, column: Column) -> "Layout":
        """All but that column."""
        place = self.columns.index(column)

        def others(cells: tuple[Any, ...]) -> tuple[Any, ...]:
            return (*cells[:place], *cells[place + 1 :])

        return replace(
            self,
            columns=others(self.columns),
            rows=tuple(map(others, self.rows)),
            totals=tuple(map(others, self.totals)),
        )

    def widths(self) -> tuple[int, ...]:
        """Characters that each column needs."""
        titles = tuple(column.title for column in self.columns)
        lines = (titles, *self.rows, *self.totals)
        return tuple(max(map(len, cells)) for cells in zip(*lines, strict=True))


def lay_out(table: Table, detail: Detail) -> Layout:
    """The cells of `table` as text.

    The currency is there only where some are not USD, a column of numbers only where there are
    any.
    """
    lines, currencies = (*table.rows, *table.totals), _currencies(table)
    shown = [
        place
        for place, field in enumerate(table.fields)
        if _is_shown(field, detail)
        and not (field.name == CURRENCY and {*currencies} <= {USD})
        and (field.unit.is_text or any(row[place] is not None for row in lines))
    ]
    fields = [table.fields[place] for place in shown]
    decimals = [_decimals(table.fields[at], [row[at] for row in lines]) for at in shown]
    rows = [
        tuple(
            cell_text(row[place], field.unit, field.currency or currency, places)
            for place, field, places in zip(shown, fields, decimals, strict=True)
        )
        for row, currency in zip(lines, currencies, strict=True)
    ]
    count = len(table.rows)
    return Layout(
        columns=tuple(
            Column(field.title, not field.unit.is_text, field.in_narrow) for field in fields
        ),
        rows=tuple(rows[:count]),
        totals=tuple(rows[count:]),
        sentences=table.sentences,
    )


def _is_shown(field: Field, detail: Detail) -> bool:
    match detail:
        case Detail.NARROW:
            return bool(field.title) and field.in_narrow
        case Detail.WIDE:
            return bool(field.title) and field.in_wide
        case Detail.FULL:
            return bool(field.title)
        case _:
            assert_never(detail)


def _currencies(table: Table) -> list[str]:
    """Of each line, USD where it does not say."""
    names = [field.name for field in table.fields]
    place = names.index(CURRENCY) if CURRENCY in names else None
    lines = (*table.rows, *table.totals)
    return [USD if place is None else str(row[place] or USD) for row in lines]


def _decimals(field: Field, cells: Sequence[Cell]) -> int | None:
    """As many for each amount of a column as the finest needs, so that points stand in line."""
    if field.unit is not Unit.MONEY:
        return None
    return max((places_of(round(cell)) for cell in cells if _is_amount(cell)), default=None)


def _is_amount(cell: Cell) -> TypeGuard[int | Fraction]:
    return isinstance(cell, int | Fraction)


def cell_text(cell: Cell, unit: Unit, currency: str = USD, places: int | None = None) -> str:
    """A cell for people; `-` where it is not known. `places`: decimals of an amount."""
    if isinstance(cell, Named):
        return safe_text(cell.label)
    if isinstance(cell, str):
        return safe_text(cell)
    return "-" if cell is None else _number_text(Fraction(cell), unit, currency, places)


def _number_text(number: Fraction, unit: Unit, currency: str, places: int | None) -> str:
    match unit:
        case Unit.MONEY:
            return safe_text(format_currency(round(number), currency, places))
        case Unit.TIME:
            return time_text(round(number))
        case Unit.SHARE:
            return f"{_one_decimal(number * 100)} %"
        case Unit.DECIMAL:
            return _one_decimal(number)
        case Unit.COUNT | Unit.TEXT | Unit.NUMBER:
            return f"{round(number):,}"
        case _:
            assert_never(unit)


def _one_decimal(number: Fraction) -> str:
    tenths = round(abs(number) * 10)
    sign = "-" if number < 0 and tenths else ""
    return f"{sign}{tenths // 10:,}.{tenths % 10}"


def time_text(microseconds: int) -> str:
    """A length of time for people: `850 ms`, `12.3 s`, `2 h 05 min`."""
    if microseconds < 10_000_000:
        return f"{round(Fraction(microseconds, 1000)):,} ms"
    if microseconds < 600_000_000:
        return f"{_one_decimal(Fraction(microseconds, 1_000_000))} s"
    minutes = round(Fraction(microseconds, 60_000_000))
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
