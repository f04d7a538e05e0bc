"""The table that all a report can say becomes: typed cells, one model for every format.

A report as one: dimensions, what was counted, then money.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from fractions import Fraction
from operator import attrgetter
from typing import Final

from batcher.pricing.money import format_usd
from batcher.report.figures import COUNT_NAMES, USD, Counts, Key, Report, ReportLine
from batcher.report.query import Dimension
from batcher.report.words import safe_text, sentences

CURRENCY: Final = "currency"
TOTAL: Final = "Total"


# What the last column for programs says.
_CHARGES, _ADJUSTMENTS = "charges", "adjustments"
# What people see of the counts. Three are always there, the others where there is anything.
_TITLES: Final = {
    "requests": "Answered",
    "attempts": "Attempts",
    "input_tokens": "Input",
    "cache_read_tokens": "Cache read",
    "output_tokens": "Output",
    "thinking_tokens": "Thinking",
    "web_search_requests": "Searches",
}
_ALWAYS: Final = frozenset({"requests", "input_tokens", "output_tokens"})
_MONEY_COUNTS: Final[dict[str, Callable[[Counts], int | None]]] = {
    "in_doubt_low": attrgetter("in_doubt_low"),
    "in_doubt_high": attrgetter("in_doubt_at_most"),
    "assumed_low": attrgetter("assumed_low"),
    "assumed_high": attrgetter("assumed_high"),
    "maybe_billed_high": attrgetter("maybe_billed_at_most"),
}


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


@dataclass(frozen=True, slots=True)
class _Column:
    """A column of numbers: its field, and its cell of a line."""

    field: Field
    cell: Callable[[ReportLine], Cell]


_ENTRY: Final = Field("entry", "", Unit.TEXT)  # the last column for programs


def table_of(report: Report) -> Table:
    """The table of `report`: a row per line, a total; adjustments stand below that.

    For programs adjustments are records of their own, which hold a key and USD; there is no
    total among records, so that sums come out right.
    """
    columns = list(_report_columns(report))
    by = report.query.by
    total = (*total_key(by), *(column.cell(report.total) for column in columns), "")
    return Table(
        name="report",
        fields=(*key_fields(by), *(column.field for column in columns), _ENTRY),
        rows=tuple(
            (*named_key(line.key, line.label), *_line_cells(columns, line), _CHARGES)
            for line in report.lines
        ),
        totals=(total, *_adjusted_totals(report, columns)) if report.lines else (),
        further_records=tuple(
            (*line.key, *_line_cells(columns, line), _ADJUSTMENTS)
            for line in _adjusted_lines(report)
        ),
        sentences=sentences(report),
    )


def _line_cells(columns: list[_Column], line: ReportLine) -> Row:
    return tuple(column.cell(line) for column in columns)


def _report_columns(report: Report) -> Iterator[_Column]:
    counts = report.total.counts
    for name in COUNT_NAMES:
        if name not in _MONEY_COUNTS:
            yield _count_column(name, counts)
        if name == "cache_write_1h_tokens":
            yield _for_people("Cache write", "cache_write_tokens", counts)
    for currency in report.currencies:
        yield _cost_column(currency)
    is_in_doubt = counts.in_doubt_attempts > 0
    yield _Column(
        Field("", "In doubt (USD)", Unit.MONEY, in_narrow=False, in_wide=is_in_doubt), _in_doubt
    )
    is_assumed = counts.assumed_charges > 0
    yield _Column(
        Field("", "Assumed (USD)", Unit.MONEY, in_narrow=False, in_wide=is_assumed), _assumed
    )
    for name, amount in _MONEY_COUNTS.items():
        field = Field(f"{name}_usd", "", Unit.MONEY, pico_name=f"{name}_pico_usd")
        yield _Column(field, _amount_of(amount))
    yield _for_people("Unpriced", "unpriced_requests", counts)


def _count_column(name: str, total: Counts) -> _Column:
    always = name in _ALWAYS
    used = getattr(total, name) != (total.requests if name == "attempts" else 0)
    field = Field(
        name, _TITLES.get(name, ""), Unit.COUNT, in_narrow=always, in_wide=always or used
    )
    return _Column(field, lambda line: getattr(line.counts, name))


def _for_people(title: str, name: str, total: Counts) -> _Column:
    field = Field("", title, Unit.COUNT, in_narrow=False, in_wide=getattr(total, name) > 0)
    return _Column(field, lambda line: getattr(line.counts, name))


def _cost_column(currency: str) -> _Column:
    word = "".join(char if char.isalnum() else "_" for char in currency.lower())
    field = Field(
        f"cost_{word}",
        f"Cost ({safe_text(currency)})",
        Unit.MONEY,
        currency=currency,
        pico_name=f"cost_pico_{word}",
    )
    return _Column(
        field,
        lambda line: Named(None, "unpriced") if line.is_unpriced else line.cost(currency),
    )


def _in_doubt(line: ReportLine) -> Named:
    counts = line.counts
    if not counts.in_doubt_attempts:
        return Named(None, "-")
    low, high = format_usd(counts.in_doubt_low), counts.in_doubt_at_most
    return Named(None, f"{low} or more" if high is None else f"{low} to {format_usd(high)}")


def _assumed(line: ReportLine) -> Named:
    counts = line.counts
    if not counts.assumed_charges:
        return Named(None, "-")
    low, high = format_usd(counts.assumed_low), format_usd(counts.assumed_high)
    return Named(None, f"{low} to {high}")


def _amount_of(amount: Callable[[Counts], int | None]) -> Callable[[ReportLine], Cell]:
    return lambda line: amount(line.counts)


def _adjusted_totals(report: Report, columns: list[_Column]) -> Iterator[Row]:
    """Two more lines below the total where adjustments stand, with nothing but their money."""
    if report.adjusted is None or not report.adjusted.entries:
        return
    amounts = {"Adjustments": report.adjusted.amount, "As billed": report.adjusted_total}
    for name, amount in amounts.items():
        cells = (amount if column.field.currency == USD else "" for column in columns)
        yield (*total_key(report.query.by, name), *cells, "")


def _adjusted_lines(report: Report) -> tuple[ReportLine, ...]:
    """The adjustments as lines of a report, which count nothing and cost something."""
    found = report.adjusted.lines if report.adjusted else ()
    return tuple(
        ReportLine(key=each.key, label=(), counts=Counts(), costs=((USD, each.amount),))
        for each in found
    )
