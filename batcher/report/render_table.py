"""A report as a table for people on a terminal; the one place outside `cli` that knows rich."""

from typing import TYPE_CHECKING, Final, TextIO

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from batcher.report.layout import Detail, Layout, lay_out

if TYPE_CHECKING:
    from batcher.report.figures import Report

NARROW_BELOW: Final = 100  # characters; the width from which all used columns are shown


def print_table(report: "Report", stream: TextIO, width: int | None = None) -> None:
    """Draw `report` on `stream`, as wide as its terminal unless `width` is given.

    Below 100 characters, or where they do not fit, only the most important columns are shown.
    Colours follow the terminal and NO_COLOR.
    """
    console = Console(file=stream, width=width, highlight=False, emoji=False, markup=False)
    layout = _fitting(report, console.width)
    if layout.total is not None:
        console.print(_table(layout, layout.total))
    for sentence in layout.sentences:
        console.print(Text(sentence))


def _fitting(report: "Report", width: int) -> Layout:
    layout = lay_out(report, Detail.WIDE)
    borders = 3 * len(layout.columns) + 1
    if width >= NARROW_BELOW and sum(layout.widths()) + borders <= width:
        return layout
    return lay_out(report, Detail.NARROW)


def _table(layout: Layout, total: tuple[str, ...]) -> Table:
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
    table.add_row(*map(Text, total), style="bold")
    return table
