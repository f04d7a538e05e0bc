"""A table as columns of text: for a terminal, for a pipe or a file, as Markdown, for the page.

One layout for all of them. On a terminal what does not fit is left out; plain columns and
Markdown have every column, nothing cut off. The one place outside `cli` that knows rich.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TextIO, TypeGuard, assert_never

from batcher.pricing.money import format_currency, places_of
from batcher.report.figures import USD
from batcher.report.table import CURRENCY, Cell, Field, Named, Table, Unit
from batcher.report.words import safe_text, shorten_apart

if TYPE_CHECKING:
    from rich.table import Table as Grid


_GAP = "  "
_SHORTEST_NAME: Final = 8


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


def plain(layout: Layout) -> str:
    """Aligned columns for a pipe or a file; ends with a newline."""
    lines = _plain_lines(layout) if layout.rows else []
    gap = [""] if lines and layout.sentences else []
    return "".join(f"{line}\n" for line in [*lines, *gap, *layout.sentences])


def markdown(layout: Layout) -> str:
    """A table as GitHub and most others understand it; ends with a newline."""
    lines = _markdown_lines(layout) if layout.rows else []
    notes = [f"- {_markdown_text(sentence)}" for sentence in layout.sentences]
    gap = [""] if lines and notes else []
    return "".join(f"{line}\n" for line in [*lines, *gap, *notes])


def _plain_lines(layout: Layout) -> list[str]:
    widths = layout.widths()
    titles = tuple(column.title for column in layout.columns)
    rule = tuple("-" * width for width in widths)
    total = [rule, *layout.totals] if layout.totals else []
    return [
        _GAP.join(map(_aligned, cells, widths, layout.columns)).rstrip()
        for cells in (titles, rule, *layout.rows, *total)
    ]


def _aligned(cell: str, width: int, column: Column) -> str:
    return cell.rjust(width) if column.is_number else cell.ljust(width)


def _markdown_lines(layout: Layout) -> list[str]:
    total = [tuple(f"**{cell}**" if cell else "" for cell in row) for row in layout.totals]
    return [
        _markdown_row(tuple(column.title for column in layout.columns)),
        _markdown_row(
            tuple("---:" if c.is_number else "---" for c in layout.columns), raw=True
        ),
        *(_markdown_row(row) for row in layout.rows),
        *(_markdown_row(row, raw=True) for row in total),
    ]


def _markdown_row(cells: tuple[str, ...], *, raw: bool = False) -> str:
    return f"| {' | '.join(cells if raw else map(_markdown_text, cells))} |"


def _markdown_text(text: str) -> str:
    """`text` without a meaning in Markdown or HTML."""
    return "".join(f"\\{char}" if char in "\\`*_[]<>|~&" else char for char in text)


def print_table(table: Table, stream: TextIO, width: int | None = None) -> None:
    """Draw a table as wide as the terminal unless `width` is given.

    Where it does not fit columns are left out, then names cut in their middle; a number is
    never cut. Colours follow the terminal and NO_COLOR.
    """
    from rich.console import Console  # noqa: PLC0415 - only for a terminal
    from rich.text import Text  # noqa: PLC0415 - as above

    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    layout = _fitting(lay_out(table, Detail.WIDE), console.width)
    if layout.rows:
        console.print(_grid(layout))
    for sentence in layout.sentences:
        console.print(Text(sentence))


def _fitting(layout: Layout, width: int) -> Layout:
    """What fits of it.

    Left out are first the columns that are not `in_narrow`, from the left; then numbers, from
    the left, but for the last one: what it cost.
    """
    least = [column for column in layout.columns if not column.in_narrow]
    numbers = [column for column in layout.columns if column.in_narrow and column.is_number]
    for column in [*least, *numbers[:-1]]:
        if _width(layout) <= width:
            return layout
        layout = layout.without(column)
    return _with_short_names(layout, width)


def _width(layout: Layout) -> int:
    return sum(layout.widths()) + _borders(layout)


def _borders(layout: Layout) -> int:
    return 3 * len(layout.columns) + 1


def _with_short_names(layout: Layout, width: int) -> Layout:
    names = [place for place, column in enumerate(layout.columns) if not column.is_number]
    if _width(layout) <= width or not names or not layout.rows:
        return layout
    widths = layout.widths()
    room = width - _borders(layout) - sum(widths) + sum(widths[place] for place in names)
    length = max(room // len(names), _SHORTEST_NAME)
    columns = list(zip(*layout.rows, strict=True))
    for place in names:
        columns[place] = tuple(shorten_apart(columns[place], length))
    return replace(layout, rows=tuple(zip(*columns, strict=True)))


def _grid(layout: Layout) -> "Grid":
    from rich import box  # noqa: PLC0415 - as above
    from rich.table import Table as Grid  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    grid = Grid(box=box.SQUARE, show_footer=False, header_style="bold")
    for column, width in zip(layout.columns, layout.widths(), strict=True):
        grid.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            overflow="fold",  # never an ellipsis: half a number is a wrong number
            no_wrap=column.is_number,
            min_width=width if column.is_number else None,
        )
    for row in layout.rows:
        grid.add_row(*map(Text, row))
    grid.add_section()
    for total in layout.totals:
        grid.add_row(*map(Text, total), style="bold")
    return grid
