"""A report as a table for people on a terminal; the one place outside `cli` that knows rich."""

from typing import Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batcher.report.figures import Report
from batcher.report.render.layout import Detail, Layout
from batcher.report.render.plain import laid_out
from batcher.report.sheet import Sheet

NARROW_BELOW: Final = 100  # characters; the width from which all used columns are shown


def print_table(found: Report | Sheet, stream: TextIO, width: int | None = None) -> None:
    """Draw a report, or any other table, as wide as the terminal unless `width` is given.

    Below 100 characters, or where they do not fit, only the most important columns are shown.
    Colours follow the terminal and NO_COLOR.
    """
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    layout = _fitting(found, console.width)
    if layout.rows:
        console.print(_table(layout))
    for sentence in layout.sentences:
        console.print(Text(sentence))


def _fitting(found: Report | Sheet, width: int) -> Layout:
    layout = laid_out(found, Detail.WIDE)
    borders = 3 * len(layout.columns) + 1
    if width >= NARROW_BELOW and sum(layout.widths()) + borders <= width:
        return layout
    return laid_out(found, Detail.NARROW)


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
