"""The table that all a report can say becomes: typed cells, one model for every format."""

from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from typing import Final

from batcher.report.figures import Key
from batcher.report.query import Dimension
from batcher.report.words import safe_text

CURRENCY: Final = "currency"
TOTAL: Final = "Total"


class Unit(StrEnum):
    """What the cells of a column are.

    `NUMBER` is the number of a run or an invocation, which over several databases is text.
    `MONEY` is pico-units of a currency, `TIME` microseconds, `SHARE` a fraction of 1, `DECIMAL`
    an exact fraction shown with one decimal.
    """

    TEXT = "text"
    NUMBER = "number"
    COUNT = "count"
    MONEY = "money"
    TIME = "time"
    SHARE = "share"
    DECIMAL = "decimal"

    @property
    def is_text(self) -> bool:
        """Whether a column of it is shown as text, even where there is nothing in it."""
        return self in {Unit.TEXT, Unit.NUMBER}


@dataclass(frozen=True, slots=True)
class Named:
    """A cell that programs and people see differently: its value, and its words."""

    value: str | int | None
    label: str


Cell = Named | str | int | Fraction | None


@dataclass(frozen=True, slots=True)
class Field:
    """A column: its name for programs, its title for people; one that is empty hides it there.

    A terminal shows only those `in_wide` where there is room, `in_narrow` where there is
    little. `currency` is that of its amounts, where it is not the row's own. An amount is
    written twice in a text: the second time, as an integer of pico-units, under `pico_name`.
    """

    name: str
    title: str
    unit: Unit
    in_narrow: bool = True
    in_wide: bool = True
    currency: str | None = None
    pico_name: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """Its columns in a text for programs."""
        match self.unit:
            case Unit.MONEY:
                return self.name, self.pico_name or f"{self.name}_pico"
            case Unit.TIME:
                return (f"{self.name}_us",)
            case _:
                return (self.name,)


Row = tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """A table: every row is as long as `fields`; a cell `None` is not known.

    `totals` are for people and JSON, `further_records` for programs that read lines. `query`
    are the names and texts of what was asked for. `sentences` go below.
    """

    name: str
    fields: tuple[Field, ...]
    rows: tuple[Row, ...]
    totals: tuple[Row, ...] = ()
    further_records: tuple[Row, ...] = ()
    sentences: tuple[str, ...] = ()
    query: tuple[tuple[str, str | None], ...] = ()


def key_fields(by: tuple[Dimension, ...]) -> tuple[Field, ...]:
    """A column for each dimension."""
    return tuple(Field(each.name, _title(each.name), _unit(each)) for each in by)


def named_key(key: Key, label: tuple[str, ...]) -> tuple[Named, ...]:
    """The cells of a key."""
    return tuple(Named(*pair) for pair in zip(key, label, strict=True))


def total_key(by: tuple[Dimension, ...], name: str = TOTAL) -> Row:
    """The cells of a total in the columns of the dimensions."""
    return (Named(None, name), *[Named(None, "")] * (len(by) - 1))


def currency_field() -> Field:
    """The column that says whose money a row's amounts are."""
    return Field(CURRENCY, "Currency", Unit.TEXT)


def _unit(dimension: Dimension) -> Unit:
    return Unit.NUMBER if dimension.kind.is_number else Unit.TEXT


def _title(name: str) -> str:
    return safe_text(name if ":" in name else name.replace("_", " ").capitalize())
