"""A report as a table for people on a terminal; the one place outside `cli` that knows rich."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batcher.report.layout import Detail, Layout, lay_out
from batcher.report.sheet import Sheet, lay_out_sheet

if TYPE_CHECKING:
    from batcher.report.figures import Report

NARROW_BELOW: Final = 100  # characters; the width from which all used columns are shown


def print_table(report: "Report", stream: TextIO, width: int | None = None) -> None:
    """Draw `report` on `stream`, as wide as its terminal unless `width` is given.

    Below 100 characters, or where they do not fit, only the most important columns are shown.
    Colours follow the terminal and NO_COLOR.
    """
    _print(partial(lay_out, report), stream, width)


def print_sheet(sheet: Sheet, stream: TextIO, width: int | None = None) -> None:
    """Draw `sheet` like `print_table` draws a report."""
    _print(partial(lay_out_sheet, sheet), stream, width)


def _print(laid_out: Callable[[Detail], Layout], stream: TextIO, width: int | None) -> None:
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    layout = _fitting(laid_out, console.width)
    if layout.rows:
        console.print(_table(layout))
    for sentence in layout.sentences:
        console.print(Text(sentence))


def _fitting(laid_out: Callable[[Detail], Layout], width: int) -> Layout:
    layout = laid_out(Detail.WIDE)
    borders = 3 * len(layout.columns) + 1
    if width >= NARROW_BELOW and sum(layout.widths()) + borders <= width:
        return layout
    return laid_out(Detail.NARROW)


def _table(layout: Layout) -> Table:
    table = Table(box=box.SQUARE, show_footer=False, header_style="bold")
    for column in layout.columns:
        table.add_column(
            Text(column.title),
            justify="right" if column.is_number else "left",
            overflow="fold",  # never an ellipsis: half a number is a wrong number
        )
    for row in layout.rows:
        table.add_row(*map(Text, row))
    table.add_section()
    for total in layout.totals:
        table.add_row(*map(Text, total), style="bold")
    return table
