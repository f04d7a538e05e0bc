"""Reads a ledger as a user's own SQL would: through its views, without the program's code."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
from psycopg.rows import dict_row


def read(url: str, query: str) -> list[dict[str, Any]]:
    """The rows of a query.

    A SQLite file is read from a copy: opening it would repair what a crash left behind, and
    that is the program's own task.
    """
    if "://" in url:
        return _read_server(url, query)
    return _read_copy(Path(url), query)


def count(url: str, table: str, where: str = "1 = 1") -> int:
    """How many rows of a table or view fulfil the condition."""
    (found,) = read(url, f"SELECT COUNT(*) AS number FROM {table} WHERE {where}")
    return found["number"]


def _read_server(url: str, query: str) -> list[dict[str, Any]]:
    address = url.replace("postgresql+psycopg", "postgresql")
    with closing(psycopg.connect(address, row_factory=dict_row)) as connection:
        return connection.execute(query).fetchall()


def _read_copy(path: Path, query: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        copy = Path(folder) / "copy.db"
        for suffix in ("", "-wal"):
            original = path.with_name(path.name + suffix)
            if original.exists():
                shutil.copy(original, copy.with_name(copy.name + suffix))
        with closing(sqlite3.connect(copy)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(found) for found in connection.execute(query)]
