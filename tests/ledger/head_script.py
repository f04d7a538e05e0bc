"""What the revisions make of an empty database, as the scripts that the program ships.

`python -m tests.ledger.head_script` writes them anew, after a revision was added.
"""

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import event, text

from batcher.ledger.connect import open_engine, reading
from batcher.ledger.migrate import (
    HEAD_SCRIPT_END,
    SHIPPED,
    VERSION_TABLE,
    Revisions,
    upgrade,
)
from tests.databases import PostgresServer, running_server

_FILLED = {VERSION_TABLE, "ledger_info"}  # the second is each ledger's own
_CHANGES = re.compile(r"\s*(CREATE|ALTER|DROP)\s")
_VIEW = re.compile(r"\s*(CREATE|DROP) (?:OR REPLACE )?VIEW (?:IF EXISTS )?(\w+)")


def revised_file(revisions: Revisions = SHIPPED) -> list[str]:
    """Tables, indexes and views in the order in which the revisions made them; the version."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batcher.db"
        engine = open_engine(str(path))
        upgrade(engine, revisions)
        engine.dispose()
        assert _filled(path) == _FILLED
        return [*schema_of(path), _numbered(revisions)]


def _numbered(revisions: Revisions) -> str:
    return f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{revisions.head}')"


def schema_of(path: Path) -> list[str]:
    """The statements that a file's schema is made of."""
    with closing(sqlite3.connect(path)) as connection:
        listed = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        return [sql for (sql,) in connection.execute(listed)]


def _filled(path: Path) -> set[str]:
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        return {
            name
            for (name,) in names.fetchall()
            if connection.execute(f'SELECT 1 FROM "{name}"').fetchone()
        }


def revised_server(url: str, revisions: Revisions = SHIPPED) -> list[str]:
    """What the revisions change in the empty database `url`; of each view only the last."""
    changes: list[str] = []

    def note(_connection, _cursor, statement, *_) -> None:
        if _CHANGES.match(statement):
            changes.append(statement.strip().replace("%%", "%"))

    engine = open_engine(url)
    event.listen(engine, "before_cursor_execute", note)
    upgrade(engine, revisions)
    engine.dispose()
    return [*_with_last_views(changes), _numbered(revisions)]


def _with_last_views(changes: list[str]) -> list[str]:
    """The tables, then each view as it was made last, after those that it reads."""
    tables, views = [], dict[str, str]()
    for statement in changes:
        view = _VIEW.match(statement)
        if not view:
            tables.append(statement)
        elif view[1] == "DROP":
            views.pop(view[2], None)
        else:  # one that is replaced in place stays where it was
            views[view[2]] = statement.replace(" OR REPLACE", "", 1)
    return [*tables, *views.values()]


def catalog(url: str) -> list[list[str]]:
    """Every column, default, constraint, index, sequence and view, as the server says."""
    engine = open_engine(url)
    with reading(engine) as connection:
        found = [connection.execute(text(query)).all() for query in CATALOG]
    engine.dispose()
    assert all(found)
    return [sorted(map(str, rows)) for rows in found]


CATALOG = (
    "SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
    " FROM information_schema.columns WHERE table_schema = 'public'",
    "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid) FROM pg_constraint"
    " WHERE connamespace = 'public'::regnamespace",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT sequencename, data_type, start_value FROM pg_sequences",
    "SELECT viewname, definition FROM pg_views WHERE schemaname = 'public'",
    "SELECT version_num FROM batcher_version",
)


def write_anew(server: PostgresServer, revisions: Revisions = SHIPPED) -> None:
    for dialect, statements in (
        ("sqlite", revised_file(revisions)),
        ("postgresql", revised_server(server.new_database(), revisions)),
    ):
        script = "".join(statement + HEAD_SCRIPT_END for statement in statements)
        revisions.head_script(dialect).write_text(script, "utf-8")


if __name__ == "__main__":
    with running_server() as started:
        write_anew(started)
