"""What the revisions make of an empty SQLite file, as the script that the program ships.

`python -m tests.ledger.head_script` writes it anew, after a revision was added.
"""

import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path

from batcher.ledger.connect import open_engine
from batcher.ledger.migrate import (
    HEAD,
    HEAD_SCRIPT,
    HEAD_SCRIPT_END,
    migrations_folder,
    upgrade,
)

_VERSION = f"INSERT INTO alembic_version (version_num) VALUES ('{HEAD}')"
_FILLED = {"alembic_version", "ledger_info"}  # the second is each ledger's own


def revised() -> list[str]:
    """Tables, indexes and views in the order in which the revisions made them; the version."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "batcher.db"
        engine = open_engine(str(path))
        upgrade(engine)
        engine.dispose()
        return [*schema_of(path), _VERSION]


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
        version = connection.execute("SELECT version_num FROM alembic_version").fetchall()
        assert version == [(HEAD,)]
        listed = "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid"
        return [sql for (sql,) in connection.execute(listed)]


if __name__ == "__main__":
    script = "".join(statement + HEAD_SCRIPT_END for statement in revised())
    (migrations_folder() / HEAD_SCRIPT).write_text(script)
