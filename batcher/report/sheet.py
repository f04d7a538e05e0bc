"""A table of anything a report can say: typed cells, one row model for every format."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final, assert_never

from batcher.pricing.money import format_currency
from batcher.report.figures import USD, Key
from batcher.report.query import Dimension
from batcher.report.render.layout import Column, Detail, Layout
from batcher.report.words import safe_text

CURRENCY: Final = "currency"


class Unit(StrEnum):
    """What the numbers of a column are.

    `MONEY` is pico-units of the row's currency, `TIME` microseconds, `SHARE` a fraction of 1,
    `DECIMAL` an exact fraction shown with one decimal.
    """

    TEXT = "text"
    COUNT = "count"
    MONEY = "money"
    TIME = "time"
    SHARE = "share"
    DECIMAL = "decimal"


@dataclass(frozen=True, slots=True)
class Named:
    """A part of a key: the value for programs, the words for people."""

    value: str | int | None
    label: str


Cell = Named | str | int | Fraction | None


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its name for programs, its title for people.

    Only those `in_narrow` are shown where there is little room.
    """

    name: str
    title: str
    unit: Unit
    in_narrow: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """A table: `rows` and `totals` are as long as `fields`; a cell `None` is not known.

    `totals` has a row per currency, or none. `query` are the names and texts of what was asked
    for. `sentences` go below.
    """

    name: str
    fields: tuple[Field, ...]
    rows: tuple[tuple[Cell, ...], ...]
    totals: tuple[tuple[Cell, ...], ...] = ()
    sentences: tuple[str, ...] = ()
    query: tuple[tuple[str, str | None], ...] = ()


def key_fields(by: tuple[Dimension, ...]) -> tuple[Field, ...]:
    """A column of text for each dimension."""
    return tuple(Field(each.name, _title(each.name), Unit.TEXT) for each in by)


def named_key(key: Key, label: tuple[str, ...]) -> tuple[Named, ...]:
    """The cells of a key."""
    return tuple(Named(*pair) for pair in zip(key, label, strict=True))


def currency_field() -> Field:
    """The column that says whose money a row's amounts are."""
    return Field(CURRENCY, "Currency", Unit.TEXT)


def lay_out_sheet(sheet: Sheet, detail: Detail) -> Layout:
    """The cells of `sheet` as text.

    The currency is there only where some are not USD, a column of numbers only where there are
    any.
    """
    at = _currency_at(sheet)
    lines = (*sheet.rows, *sheet.totals)
    alone = at is not None and all(row[at] in {USD, None} for row in lines)
    shown = [
        place
        for place, each in enumerate(sheet.fields)
        if not (alone and place == at)
        and (each.in_narrow or detail is not Detail.NARROW)
        and (each.unit is Unit.TEXT or any(row[place] is not None for row in lines))
    ]
    rows = [tuple(_texts(sheet, row, at)[place] for place in shown) for row in lines]
    count = len(sheet.rows)
    return Layout(
        columns=tuple(
            Column(sheet.fields[place].title, sheet.fields[place].unit is not Unit.TEXT)
            for place in shown
        ),
        rows=tuple(rows[:count]),
        totals=tuple(rows[count:]),
        sentences=sheet.sentences,
    )


def _currency_at(sheet: Sheet) -> int | None:
    names = [each.name for each in sheet.fields]
    return names.index(CURRENCY) if CURRENCY in names else None


def _texts(sheet: Sheet, row: tuple[Cell, ...], at: int | None) -> list[str]:
    currency = USD if at is None else str(row[at] or USD)
    return [
        cell_text(cell, each.unit, currency)
        for cell, each in zip(row, sheet.fields, strict=True)
    ]


def cell_text(cell: Cell, unit: Unit, currency: str = USD) -> str:
    """A cell for people; `-` where it is not known."""
    if isinstance(cell, Named):
        return safe_text(cell.label)
    if isinstance(cell, str):
        return safe_text(cell)
    return "-" if cell is None else _number_text(Fraction(cell), unit, currency)


def _number_text(number: Fraction, unit: Unit, currency: str) -> str:
    match unit:
        case Unit.MONEY:
            return safe_text(format_currency(round(number), currency))
        case Unit.TIME:
            return time_text(round(number))
        case Unit.SHARE:
            return f"{_one_decimal(number * 100)} %"
        case Unit.DECIMAL:
            return _one_decimal(number)
        case Unit.COUNT | Unit.TEXT:
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


def _title(name: str) -> str:
    return safe_text(name if ":" in name else name.replace("_", " ").capitalize())
