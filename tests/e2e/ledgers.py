"""Reads a ledger as a user's own SQL would: through its views, without the program's code."""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row

from tests.e2e.processes import wait_for

_OTHERS = (
    "datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)

Query = Callable[[str], list[dict[str, Any]]]


@contextmanager
def opened(url: str) -> Iterator[Query]:
    """A function that answers queries.

    A SQLite file is read from a copy: opening it would repair what a crash left behind, and
    that is the program's own task.
    """
    if "://" in url:
        address = url.replace("postgresql+psycopg", "postgresql")
        with closing(psycopg.connect(address, row_factory=dict_row)) as connection:
            yield lambda query: connection.execute(query).fetchall()
        return
    with (
        tempfile.TemporaryDirectory(dir=Path(url).parent) as folder,
        closing(sqlite3.connect(_copied(Path(url), Path(folder)))) as connection,
    ):
        connection.row_factory = sqlite3.Row
        yield lambda query: [dict(found) for found in connection.execute(query)]


def read(url: str, query: str) -> list[dict[str, Any]]:
    """The rows of one query."""
    with opened(url) as ask:
        return ask(query)


def count(url: str, table: str, where: str = "1 = 1") -> int:
    """How many rows of a table or view fulfil the condition."""
    (found,) = read(url, f"SELECT COUNT(*) AS number FROM {table} WHERE {where}")
    return found["number"]


def wait_until_alone(url: str) -> None:
    """Return when a server has noticed that its clients were killed, and ended what they began.

    A COMMIT that was sent is done all the same; a file has nobody who could.
    """
    if "://" in url:
        assert wait_for(lambda: count(url, "pg_stat_activity", _OTHERS) == 0)


def _copied(path: Path, folder: Path) -> Path:
    copy = folder / "copy.db"
    for suffix in ("", "-wal"):
        original = path.with_name(path.name + suffix)
        if original.exists():
            shutil.copy(original, copy.with_name(copy.name + suffix))
    return copy
