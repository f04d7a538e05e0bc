"""The formats of a report, each with its file; libraries are imported when one needs them."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final, TextIO, assert_never

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.outputs import NOTHING_KEPT, Guard
from batcher.report.figures import Report
from batcher.report.query import ReportQuery
from batcher.report.render import marks
from batcher.report.render.csv_records import csv_records, records
from batcher.report.render.delivery import deliver
from batcher.report.render.json_document import report_json, table_json
from batcher.report.render.layout import Detail, lay_out
from batcher.report.render.plain import markdown, plain
from batcher.report.render.report_table import table_of
from batcher.report.table import Table

if TYPE_CHECKING:
    from sqlalchemy import Engine


class Format(StrEnum):
    """How a report is written; `TABLE` is for people, plain where there is no terminal.

    `PARQUET` needs a file, `HTML` is a page about everything that was asked for.
    """

    TABLE = "table"
    CSV = "csv"
    JSON = "json"
    MARKDOWN = "markdown"
    HTML = "html"
    PARQUET = "parquet"


# Those in which any table can be written.
TABLE_FORMATS: Final = tuple(form for form in Format if form is not Format.HTML)


def write_report(
    engines: "Sequence[Engine]",
    query: ReportQuery,
    form: Format,
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
) -> None:
    """Write the report that `query` asks for, like `write`; raises like `summarise`, too."""
    if form is not Format.HTML:
        from batcher.report.summary import summarise  # noqa: PLC0415 - brings SQLAlchemy

        write(summarise(engines, query), form, target, stdout, guard)
        return
    from batcher.report.html.page import gather, render_page  # noqa: PLC0415 - brings Jinja2

    page = gather(engines, query, SystemClock().now_us())
    deliver(render_page(page), target, stdout, guard, marks.is_page)


def write(
    found: Report | Table,
    form: Format,
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
) -> None:
    """Write to the file `target`, or to `stdout` for `None`; on a terminal as wide as that is.

    Raises `CannotCreate` when the file cannot be written, or `guard` keeps what is there;
    `UsageError` like `require_file`.
    """
    if form is Format.PARQUET:
        from batcher.report.render.parquet import write_parquet  # noqa: PLC0415 - pyarrow

        require_file(form, target)
        write_parquet(_table(found), target or "", guard)
    elif form is Format.TABLE and target is None and stdout.isatty():
        from batcher.report.render.terminal import print_table  # noqa: PLC0415 - rich

        print_table(_table(found), stdout)
    else:
        deliver(render(found, form), target, stdout, guard, _mark(_table(found), form))


def _mark(table: Table, form: Format) -> Callable[[Path], bool]:
    """By what an earlier file of that kind is known."""
    match form:
        case Format.TABLE:
            return marks.has_titles(table)
        case Format.CSV:
            return marks.has_names(table)
        case Format.MARKDOWN:
            return marks.has_bars(table)
        case Format.JSON:
            return marks.is_json
        case Format.HTML | Format.PARQUET:
            raise UsageError(f"--format {form} is not written as one table of text")
        case _:
            assert_never(form)


def render(found: Report | Table, form: Format) -> str:
    """The text of a report or any other table; the same one gives the same bytes.

    Ends with a newline.
    """
    match form:
        case Format.TABLE:
            return plain(lay_out(_table(found), Detail.FULL))
        case Format.CSV:
            return csv_records(_table(found))
        case Format.JSON:
            return report_json(found) if isinstance(found, Report) else table_json(found)
        case Format.MARKDOWN:
            return markdown(lay_out(_table(found), Detail.FULL))
        case Format.HTML | Format.PARQUET:
            raise UsageError(f"--format {form} is not written as one table of text")
        case _:
            assert_never(form)


def as_records(found: Report | Table) -> list[dict[str, str | int | Decimal | None]]:
    """A dict per line, for programs; see `records`."""
    return records(_table(found))


def require_file(form: str, target: str | None) -> None:
    """Raise `UsageError` where a format that is no text has no file to go to."""
    if form == Format.PARQUET and target in {None, "-"}:
        raise UsageError(f"--format {form} writes a file: name it with -o FILE")


def _table(found: Report | Table) -> Table:
    return found if isinstance(found, Table) else table_of(found)
