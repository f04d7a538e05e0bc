"""Whether a report that is there already was written by this program: its beginning tells."""

import csv
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from batcher.report.table import Table
from batcher.report.words import NOTHING_HERE, csv_text

_BEGINNING: Final = 4096
_SENTENCES: Final = 3  # lines: of a report with no rows the sentences are all there is
_GENERATOR: Final = b'<meta name="generator" content="batcher">'
_SCHEMA: Final = re.compile(rb'\{\s*"schema": "batcher\.')
_GAPS: Final = re.compile(" {2,}")
_BARS: Final = re.compile(r"(?<!\\)\|")


def has_titles(table: Table) -> Callable[[Path], bool]:
    """Plain columns: every title is one that such a table may have."""
    titles = {field.title for field in table.fields}
    return _of_lines(lambda line: _GAPS.split(line.strip()), titles, table.sentences)


def has_bars(table: Table) -> Callable[[Path], bool]:
    """The same in Markdown."""
    titles = {field.title for field in table.fields}
    sentences = [f"- {sentence}" for sentence in table.sentences]

    def cells(line: str) -> list[str]:
        return [cell.strip().replace("\\", "") for cell in _BARS.split(line)[1:-1]]

    return _of_lines(cells, titles, sentences)


def has_names(table: Table) -> Callable[[Path], bool]:
    """CSV: every name in the header is one that such a table has."""
    names = {csv_text(name) for field in table.fields if field.name for name in field.names}
    return _of_lines(lambda line: next(csv.reader([line]), []), names, ())


def is_json(path: Path) -> bool:
    """A document of ours says so first."""
    return _SCHEMA.match(_beginning(path)) is not None


def is_page(path: Path) -> bool:
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
