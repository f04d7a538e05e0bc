"""A table for people on a terminal; the one place outside `cli` that knows rich."""

from dataclasses import replace
from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from batcher.report.render.layout import Detail, Layout, lay_out
from batcher.report.table import Table
from batcher.report.words import shorten_apart

_SHORTEST_NAME: Final = 8


def print_table(table: Table, stream: TextIO, width: int | None = None) -> None:
    """Draw a table as wide as the terminal unless `width` is given.

    Where it does not fit columns are left out, then names cut in their middle; a number is
    never cut. Colours follow the terminal and NO_COLOR.
    """
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


def _grid(layout: Layout) -> Grid:
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
