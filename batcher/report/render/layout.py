"""A report as columns of text: one row model for terminal, plain text and Markdown."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from batcher.pricing.money import format_currency, format_usd
from batcher.report.figures import USD, Counts, Report, ReportLine
from batcher.report.sentences import sentences
from batcher.report.words import safe_text

_TOTAL: Final = "Total"
_ADJUSTMENTS: Final = "Adjustments"
_AS_BILLED: Final = "As billed"


class Detail(Enum):
    """How many columns: the fewest, those with something in them, or all."""

    NARROW = auto()
    WIDE = auto()
    FULL = auto()


@dataclass(frozen=True, slots=True)
class Column:
    """A column's title; numbers stand on the right."""

    title: str
    is_number: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Cells of text, safe for a terminal; each row as long as `columns`.

    `totals` is empty when there are no rows. `sentences` go below.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    totals: tuple[tuple[str, ...], ...]
    sentences: tuple[str, ...]

    def widths(self) -> tuple[int, ...]:
        """Characters that each column needs."""
        titles = tuple(column.title for column in self.columns)
        lines = (titles, *self.rows, *self.totals)
        return tuple(max(map(len, cells)) for cells in zip(*lines, strict=True))


@dataclass(frozen=True, slots=True)
class _Figure:
    """A column of numbers: its title, its cell, and whether it is worth showing."""

    title: str
    cell: Callable[[ReportLine], str]
    is_used: Callable[[Counts], bool]
    in_narrow: bool = False
    in_usd: bool = False


def lay_out(report: Report, detail: Detail) -> Layout:
    """The cells of `report`: dimensions, numbers, then money, with a total row."""
    figures = [figure for figure in _figures(report) if _is_shown(figure, report, detail)]
    columns = (
        *(Column(_title(dimension.name), is_number=False) for dimension in report.query.by),
        *(Column(figure.title, is_number=True) for figure in figures),
    )
    rows = tuple(
        (*map(safe_text, line.label), *(figure.cell(line) for figure in figures))
        for line in report.lines
    )
    blanks = ("",) * (len(report.query.by) - 1)
    total = (_TOTAL, *blanks, *(figure.cell(report.total) for figure in figures))
    return Layout(
        columns=columns,
        rows=rows,
        totals=(total, *_adjusted(report, figures)) if rows else (),
        sentences=sentences(report),
    )


def _adjusted(report: Report, figures: Sequence[_Figure]) -> Iterator[tuple[str, ...]]:
    """Two more lines below the total where adjustments stand, with nothing but their money."""
    if report.adjusted is None or not report.adjusted.entries:
        return
    blanks = ("",) * (len(report.query.by) - 1)
    amounts = {_ADJUSTMENTS: report.adjusted.amount, _AS_BILLED: report.adjusted_total}
    for name, amount in amounts.items():
        cells = (format_usd(amount) if figure.in_usd else "" for figure in figures)
        yield (name, *blanks, *cells)


def _is_shown(figure: _Figure, report: Report, detail: Detail) -> bool:
    match detail:
        case Detail.NARROW:
            return figure.in_narrow
        case Detail.WIDE:
            return figure.is_used(report.total.counts)
        case Detail.FULL:
            return True


def _title(name: str) -> str:
    return safe_text(name if ":" in name else name.replace("_", " ").capitalize())


def _figures(report: Report) -> tuple[_Figure, ...]:
    return (
        *_COUNTED,
        *(_cost_column(currency) for currency in report.currencies),
        _IN_DOUBT,
        _UNPRICED,
    )


def _cost_column(currency: str) -> _Figure:
    return _Figure(
        f"Cost ({safe_text(currency)})",
        lambda line: _cost_cell(line, currency),
        _always,
        in_narrow=True,
        in_usd=currency == USD,
    )


def _cost_cell(line: ReportLine, currency: str) -> str:
    if line.is_unpriced:
        return "unpriced"
    return safe_text(format_currency(line.cost(currency), currency))


def _always(_: Counts) -> bool:
    return True


def _number(name: str) -> Callable[[ReportLine], str]:
    return lambda line: f"{getattr(line.counts, name):,}"


def _some(name: str) -> Callable[[Counts], bool]:
    return lambda counts: bool(getattr(counts, name))


def _in_doubt_cell(line: ReportLine) -> str:
    counts = line.counts
    if not counts.in_doubt_attempts:
        return "-"
    low = format_usd(counts.in_doubt_low)
    return (
        f"{low} or more"
        if counts.in_doubt_unbounded
        else f"{low} to {format_usd(counts.in_doubt_high)}"
    )


_COUNTED: Final = (
    _Figure("Answered", _number("requests"), _always, in_narrow=True),
    _Figure("Attempts", _number("attempts"), lambda counts: counts.attempts != counts.requests),
    _Figure("Input", _number("input_tokens"), _always, in_narrow=True),
    _Figure("Cache write", _number("cache_write_tokens"), _some("cache_write_tokens")),
    _Figure("Cache read", _number("cache_read_tokens"), _some("cache_read_tokens")),
    _Figure("Output", _number("output_tokens"), _always, in_narrow=True),
    _Figure("Thinking", _number("thinking_tokens"), _some("thinking_tokens")),
    _Figure("Searches", _number("web_search_requests"), _some("web_search_requests")),
)
_IN_DOUBT: Final = _Figure("In doubt (USD)", _in_doubt_cell, _some("in_doubt_attempts"))
_UNPRICED: Final = _Figure("Unpriced", _number("unpriced_requests"), _some("unpriced_requests"))
