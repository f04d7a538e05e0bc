"""The formats of a report, and where a finished one goes: to standard output, or to a file.

A file appears whole, and replaces only what its beginning says was written by this program.
Libraries are imported when a format needs them.
"""

import codecs
import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, TextIO, assert_never, cast

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.outputs import NOTHING_KEPT, Guard, never, visible
from batcher.report.figures import Report
from batcher.report.query import ReportQuery
from batcher.report.render.records import (
    csv_records,
    is_our_parquet,
    records,
    report_json,
    table_json,
    write_parquet,
)
from batcher.report.render.text_table import Detail, lay_out, markdown, plain, print_table
from batcher.report.table import Table, table_of
from batcher.report.words import NOTHING_HERE, csv_text

if TYPE_CHECKING:
    from sqlalchemy import Engine

_BEGINNING: Final = 4096
_SENTENCES: Final = 3  # lines: of a report with no rows the sentences are all there is
_GENERATOR: Final = b'<meta name="generator" content="batcher">'
_SCHEMA: Final = re.compile(rb'\{\s*"schema": "batcher\.')
_GAPS: Final = re.compile(" {2,}")
_BARS: Final = re.compile(r"(?<!\\)\|")


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
    deliver(render_page(page), target, stdout, guard, _is_page)


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
        require_file(form, target)
        with target_file(target or "", guard, is_our_parquet) as stream:
            write_parquet(_table(found), stream)
    elif form is Format.TABLE and target is None and stdout.isatty():
        print_table(_table(found), stdout)
    else:
        deliver(render(found, form), target, stdout, guard, _mark(_table(found), form))


def _mark(table: Table, form: Format) -> Callable[[Path], bool]:
    """By what an earlier file of that kind is known."""
    match form:
        case Format.TABLE:
            return _has_titles(table)
        case Format.CSV:
            return _has_names(table)
        case Format.MARKDOWN:
            return _has_bars(table)
        case Format.JSON:
            return _is_json
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


def deliver(
    text: str,
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
    is_ours: Callable[[Path], bool] = never,
) -> None:
    """Write `text` to the file `target`, or to `stdout` for `None` and `-`.

    Raises like `Sink`.
    """
    with target_stream(target, stdout, guard, is_ours) as stream:
        stream.write(text)


@contextmanager
def target_stream(
    target: str | None,
    stdout: TextIO,
    guard: Guard = NOTHING_KEPT,
    is_ours: Callable[[Path], bool] = never,
) -> Iterator[TextIO]:
    """A stream of text to the file `target`, or to `stdout` for `None` and `-`.

    Raises like `Sink`.
    """
    if target is None or target == "-":
        yield cast("TextIO", _Terminal(stdout)) if stdout.isatty() else stdout
        stdout.flush()
        return
    with target_file(target, guard, is_ours) as file:
        yield cast("TextIO", codecs.getwriter("utf-8")(file))


@contextmanager
def target_file(
    target: str, guard: Guard = NOTHING_KEPT, is_ours: Callable[[Path], bool] = never
) -> Iterator[BinaryIO]:
    """The file `target` for bytes, there when the body has ended; raises like `Sink`."""
    from batcher.rows.out.sink import Sink, storage_errors  # noqa: PLC0415 - seldom needed

    sink = Sink(target, guard, is_ours)
    try:
        with storage_errors(target):
            yield cast("BinaryIO", sink.stream)
        sink.commit()
    except BaseException:
        sink.discard()
        raise


class _Terminal:
    """A terminal that shows what would steer it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """All of `text`; see `visible`."""
        return self._stream.write(visible(text))


def _has_titles(table: Table) -> Callable[[Path], bool]:
    """Plain columns: every title is one that such a table may have."""
    titles = {field.title for field in table.fields}
    return _of_lines(lambda line: _GAPS.split(line.strip()), titles, table.sentences)


def _has_bars(table: Table) -> Callable[[Path], bool]:
    """The same in Markdown."""
    titles = {field.title for field in table.fields}
    sentences = [f"- {sentence}" for sentence in table.sentences]

    def cells(line: str) -> list[str]:
        return [cell.strip().replace("\\", "") for cell in _BARS.split(line)[1:-1]]

    return _of_lines(cells, titles, sentences)


def _has_names(table: Table) -> Callable[[Path], bool]:
    """CSV: every name in the header is one that such a table has."""
    names = {csv_text(name) for field in table.fields if field.name for name in field.names}
    return _of_lines(lambda line: next(csv.reader([line]), []), names, ())


def _is_json(path: Path) -> bool:
    """A document of ours says so first."""
    return _SCHEMA.match(_beginning(path)) is not None


def _is_page(path: Path) -> bool:
    """A page of ours says so in its head."""
    return _GENERATOR in _beginning(path)


def _beginning(path: Path) -> bytes:
    from batcher.rows.out.output import first_block  # noqa: PLC0415 - only for a file

    return first_block(path)[:_BEGINNING]


def _of_lines(
    cells_of: Callable[[str], list[str]], known: set[str], sentences: Iterable[str]
) -> Callable[[Path], bool]:
    said = {NOTHING_HERE, f"- {NOTHING_HERE}", *sentences}

    def is_ours(path: Path) -> bool:
        from batcher.rows.out.output import first_line  # noqa: PLC0415 - as above

        lines = _beginning(path).decode(errors="replace").splitlines()
        if not said.isdisjoint(lines[:_SENTENCES]):
            return True
        cells = cells_of(first_line(path).decode(errors="replace"))
        return bool(cells) and known.issuperset(cells)

    return is_ours
