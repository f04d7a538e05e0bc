"""A table for people on a terminal; the one place outside `cli` that knows rich."""

from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from batcher.report.render.layout import Detail, Layout, lay_out
from batcher.report.table import Table

NARROW_BELOW: Final = 100  # characters; the width from which all used columns are shown


def print_table(table: Table, stream: TextIO, width: int | None = None) -> None:
    """Draw a table as wide as the terminal unless `width` is given.

    Below 100 characters, or where they do not fit, only the most important columns are shown.
    Colours follow the terminal and NO_COLOR.
    """
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    layout = _fitting(table, console.width)
    if layout.rows:
        console.print(_grid(layout))
    for sentence in layout.sentences:
        console.print(Text(sentence))


def _fitting(table: Table, width: int) -> Layout:
    layout = lay_out(table, Detail.WIDE)
    borders = 3 * len(layout.columns) + 1
    if width >= NARROW_BELOW and sum(layout.widths()) + borders <= width:
        return layout
    return lay_out(table, Detail.NARROW)


def _grid(layout: Layout) -> Grid:
    grid = Grid(box=box.SQUARE, show_footer=False, header_style="bold")
    for column in layout.columns:
        grid.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            overflow="fold",  # never an ellipsis: half a number is a wrong number
        )
    for row in layout.rows:
        grid.add_row(*map(Text, row))
    grid.add_section()
    for total in layout.totals:
        grid.add_row(*map(Text, total), style="bold")
    return grid
