"""Lines and tables for people, safe for their terminal."""

import contextlib
import re
import sys
from collections.abc import Collection, Sequence
from typing import Final

import click

from batcher.outputs import visible


def say(message: str) -> None:
    """A line on standard error; a closed one must not stop paid work."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(printable(message), err=True)


def tell(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """What a command prints; it shows what would steer a terminal, as JSON escapes."""
    click.echo(visible(text if isinstance(text, str) else text.decode()), err=err, nl=nl)


def tell_lines(text: str) -> None:
    """Print lines; on a terminal as wide as that is, broken between words.

    A pipe gets them as they are, so that what looks for a line finds it whole.
    """
    if not sys.stdout.isatty():
        tell(text, nl=False)
        return
    import shutil
    import textwrap

    width = shutil.get_terminal_size().columns
    for line in visible(text).splitlines():
        indent = line[: len(line) - len(line.lstrip())]
        broken = textwrap.wrap(
            line,
            width,
            subsequent_indent=f"{indent}  " if indent or line.startswith("# ") else "",
            replace_whitespace=False,
            break_long_words=False,
            break_on_hyphens=False,
        )
        click.echo("\n".join(broken))


# What stands on the right, its points in line.
_NUMBER: Final = re.compile(r"[-+]?\$?[\d,]+(\.\d+)?( %)?|-?")


def tell_table(
    rows: Sequence[tuple[str, ...]], *, least: Collection[str] = (), err: bool = False
) -> None:
    """Print a table whose first row are its titles, like a report: as wide as a terminal is.

    A narrow one goes without the columns `least` first. Titles alone are not printed.
    """
    from batcher.report.render.formats import Format, write
    from batcher.report.table import Field, Table, Unit

    titles, *lines = rows
    columns = [_in_line(column) for column in zip(*lines, strict=True)]
    fields = tuple(
        Field(title, title, Unit.COUNT if numbers else Unit.TEXT, in_narrow=title not in least)
        for title, (numbers, _) in zip(titles, columns, strict=False)
    )
    cells = tuple(zip(*(column for _, column in columns), strict=True))
    stream = sys.stderr if err else sys.stdout
    write(Table(name="", fields=fields, rows=cells), Format.TABLE, None, stream)


def _in_line(column: Sequence[str]) -> tuple[bool, Sequence[str]]:
    """Whether a column is one of numbers, and its cells, then with as many decimals each."""
    if not all(map(_NUMBER.fullmatch, column)) or not any(map(str.isdigit, "".join(column))):
        return False, column
    places = max(len(cell.rpartition(".")[2]) if "." in cell else 0 for cell in column)
    return True, [_with_places(cell, places) for cell in column]


def _with_places(cell: str, places: int) -> str:
    if not places or not cell[-1:].isdigit():
        return cell
    whole, _, decimals = cell.partition(".")
    return f"{whole}.{decimals:0<{places}}"


def silence(_message: str) -> None:
    """Instead of `say`, where nothing is to be said."""


def printable(message: str) -> str:
    """`message` without what steers a terminal: a server's own words may be part of it."""
    if message.isprintable():
        return message
    from batcher.report.words import safe_text

    return "\n".join(map(safe_text, message.split("\n")))
