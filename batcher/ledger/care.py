"""What a ledger needs from time to time: upgrading, checking, a copy, its space back."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from sqlalchemy import Engine

from batcher.errors import CannotCreate, ConfigurationError
from batcher.ledger import migrate
from batcher.ledger.address import parse_url
from batcher.ledger.connect import open_engine, outside_transactions, reading, storage_errors
from batcher.ledger.lock import hold_database

_VACUUM = {
    "sqlite": ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"),
    "postgresql": ("VACUUM (ANALYZE)",),
}
_SIZE = {
    "sqlite": "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
    "postgresql": "SELECT pg_database_size(current_database())",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upgraded:
    """The revisions before and after; `before` is `None` when the database was empty."""

    shown: str
    before: str | None
    after: str


def upgrade_database(url: str) -> Upgraded:
    """Bring the ledger at `url` to head while no run is on.

    Raises:
        Busy: a run is on.
        SchemaVersionError: the database is newer than this program.
    """
    shown = parse_url(url).shown
    with hold_database(url, None, command="batcher db upgrade"), _engine(url) as engine:
        before = migrate.upgrade(engine)
    return Upgraded(shown=shown, before=before, after=migrate.HEAD)


def current_revision(url: str) -> str | None:
    """The revision of the database at `url`, `None` when it is empty."""
    with _engine(url, read_only=True) as engine:
        return migrate.current(engine)


def check_database(url: str) -> list[str]:
    """How the schema at `url` differs from what this program expects, a line each."""
    # PostgreSQL is asked to spell the expected views, as temporary ones.
    with _engine(url, read_only=parse_url(url).path is not None) as engine:
        return migrate.check(engine)


def backup_database(url: str, target: Path) -> int:
    """Copy the SQLite ledger at `url` to the new file `target`, also while a run is on.

    The copy is one state of the database, complete or not there at all. Returns its bytes.

    Raises:
        ConfigurationError: the ledger is on PostgreSQL, which has tools of its own.
        CannotCreate: `target` is there already, or cannot be written.
    """
    where = parse_url(url)
    if where.path is None:
        raise ConfigurationError(
            f"a PostgreSQL database is backed up with its own tool: pg_dump --format=custom"
            f" --file={target} '{_for_pg_dump(where.shown)}'"
        )
    with _engine(url, read_only=True) as engine:
        migrate.current(engine)  # nothing else is copied by mistake
        return _copy(engine, target)


def vacuum_database(url: str) -> str:
    """Give unused space back, while no run is on; returns what it brought, to be printed.

    Raises:
        Busy: a run is on.
    """
    where = parse_url(url)
    with _engine(url, read_only=True) as engine:
        migrate.require_head(engine)  # a mistyped name makes no new file
    with hold_database(url, None, command="batcher db vacuum"), _engine(url) as engine:
        before = _size(engine)
        with outside_transactions(engine) as connection:
            for statement in _VACUUM[engine.dialect.name]:
                connection.exec_driver_sql(statement)
        return f"{where.shown}: {before:,} bytes before, {_size(engine):,} after"


def _size(engine: Engine) -> int:
    with reading(engine) as connection:
        return int(connection.exec_driver_sql(_SIZE[engine.dialect.name]).scalar_one())


@contextmanager
def _engine(url: str, *, read_only: bool = False) -> Iterator[Engine]:
    engine = open_engine(url, read_only=read_only)
    try:
        yield engine
    finally:
        engine.dispose()


def _copy(engine: Engine, target: Path) -> int:
    if target.exists():
        raise CannotCreate(f"the file {target} is there already: name a new one")
    part = target.with_name(f"{target.name}.part")
    try:
        os.close(os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600))
        with storage_errors(engine.url), closing(engine.raw_connection()) as source:
            _copy_pages(cast("sqlite3.Connection", source.driver_connection), part)
        part.rename(target)
    except (OSError, sqlite3.Error) as error:
        raise CannotCreate(f"the backup {target} cannot be written: {error}") from error
    finally:
        with suppress(OSError):
            part.unlink()
    return target.stat().st_size


def _copy_pages(source: sqlite3.Connection, part: Path) -> None:
    # All pages in one step: one state of the database, and a writer is not held up.
    with closing(sqlite3.connect(part)) as copy:
        source.backup(copy, pages=-1)


def _for_pg_dump(shown: str) -> str:
    return shown.replace("postgresql+psycopg://", "postgresql://", 1)
