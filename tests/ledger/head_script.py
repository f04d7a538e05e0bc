"""What the revisions make of an empty database, as the scripts that the program ships.

`python -m tests.ledger.head_script` writes them anew, after a revision was added.
"""

import re
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from sqlalchemy import event

from batcher.ledger.connect import open_engine
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
        return [*schema_of(path), _numbered(revisions)]


def _numbered(revisions: Revisions) -> str:
    return f"INSERT INTO {VERSION_TABLE} (version_num) VALUES ('{revisions.head}')"


def schema_of(path: Path) -> list[str]:
    """The statements of a new file's schema, which holds rows in two tables only."""
    with closing(sqlite3.connect(path)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        filled = {
            name
            for (name,) in names.fetchall()
            if connection.execute(f'SELECT 1 FROM "{name}"').fetchone()
        }
        assert filled == _FILLED
        listed = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        return [sql for (sql,) in connection.execute(listed)]


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
    return [*_without_earlier_views(changes), _numbered(revisions)]


def _without_earlier_views(changes: list[str]) -> list[str]:
    kept: dict[str, str] = {}
    for number, statement in enumerate(changes):
        view = _VIEW.match(statement)
        name = view[2] if view else f"{number}"
        kept.pop(name, None)
        if not view or view[1] == "CREATE":
            kept[name] = statement
    return list(kept.values())


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
