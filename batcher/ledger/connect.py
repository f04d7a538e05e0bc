"""Connections to the ledger, durable by default, on SQLite and PostgreSQL.

SQLite: WAL with `synchronous=FULL`: NORMAL would lose acknowledged transactions, which are paid
answers, when the power fails. Foreign keys are declared, not enforced; `verify` checks them.
Every transaction of a writable engine is `BEGIN IMMEDIATE`, so that a lock is waited for at its
start and never in its middle; `reading` makes one that is not.
"""

import os
import pwd
import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sqlalchemy import Connection, Engine, create_engine, event

from batcher.errors import CannotCreate, ConfigurationError, UsageError
from batcher.ledger.address import DatabaseUrl, parse_url
from batcher.ledger.database_errors import BUSY, storage_errors
from batcher.ledger.file_system import network_file_system

if TYPE_CHECKING:
    import sqlite3

__all__ = [
    "DatabaseUrl",
    "application_name",
    "open_engine",
    "outside_transactions",
    "parse_url",
    "place",
    "reading",
    "storage_errors",
    "user_name",
    "writing",
]

BUSY_SECONDS = 30
_WAL_ATTEMPTS = 300
_BEGIN = "batcher_begin"
# An option of connections to PostgreSQL: many rows do not go through the driver's pipeline. At
# its end the server gets a Flush after the Sync, and forgets to watch how long we idle.
ONE_BY_ONE = "batcher_one_by_one"
_SQLITE_SETTINGS = (
    "PRAGMA synchronous=FULL",
    "PRAGMA fullfsync=1",  # macOS: fsync alone does not reach the disk
    "PRAGMA secure_delete=ON",  # what is dropped is overwritten
    "PRAGMA journal_size_limit=67108864",  # a reader's WAL shrinks again
)
# A dead machine is noticed after 25 s, not after the system's two hours.
_KEEPALIVE = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "25000",  # the same for bytes on their way, in milliseconds
    "client_encoding": "utf8",
}
# A plan that is kept was made for a small table, and reads all of it when it has grown. Servers
# older than 12 do not know it.
_PLANS = (
    "SELECT set_config(name, 'force_custom_plan', false) FROM pg_settings"
    " WHERE name = 'plan_cache_mode'"
)
# PostgreSQL: every statement of the transaction sees the same state.
_SNAPSHOT = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine for the ledger at `url`; nothing is connected yet, but a missing file is made.

    A new SQLite file is readable by its owner only. A read-only engine makes nothing, writes
    nothing, and its transactions see one state of the database.

    Raises:
        ConfigurationError: the URL is wrong, its driver is missing, or a file lies on a network
            file system, where locks do not hold.
        CannotCreate: the file cannot be made.
        UsageError: the file to read is not there.
    """
    where = parse_url(url)
    if where.path is None:
        return _open_postgresql(where, read_only=read_only)
    return _open_sqlite(where, where.path, read_only=read_only)


def place(engine: Engine) -> DatabaseUrl:
    """The address that `engine` was opened with."""
    return parse_url(engine.url)


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one state of the database, and no lock to wait for."""
    options: dict[str, Any] = {_BEGIN: "BEGIN"}
    if engine.dialect.name == "postgresql":
        options = _SNAPSHOT
    with storage_errors(engine.url), engine.connect() as connection:
        yield connection.execution_options(**options)


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back by an error."""
    with storage_errors(engine.url), engine.begin() as connection:
        yield connection


@contextmanager
def outside_transactions(engine: Engine) -> Iterator[Connection]:
    """Every statement commits by itself, for those that refuse to be in a transaction."""
    options: dict[str, Any] = {_BEGIN: None}
    if engine.dialect.name == "postgresql":
        options = {"isolation_level": "AUTOCOMMIT"}
    with storage_errors(engine.url), engine.connect() as connection:
        yield connection.execution_options(**options)


# --- SQLite


def _open_sqlite(where: DatabaseUrl, path: Path, *, read_only: bool) -> Engine:
    _check_file_system(where, path)
    if read_only:
        _check_exists(path)
    else:
        _make_file(path)
    engine = create_engine(
        where.url, creator=lambda: _connect_sqlite(path, read_only=read_only)
    )
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda begun: _begin_sqlite(begun, begin))
    return engine


def _begin_sqlite(connection: Connection, usual: str) -> None:
    # The driver would begin before data changes only, and leave DDL outside of transactions.
    statement = connection.get_execution_options().get(_BEGIN, usual)
    if statement is not None:
        connection.exec_driver_sql(statement)


def _connect_sqlite(path: Path, *, read_only: bool) -> "sqlite3.Connection":
    import sqlite3  # noqa: PLC0415  a process that uses a server does without it

    connection = sqlite3.connect(
        f"file:{quote(str(path))}?{_mode(path, read_only=read_only)}",
        uri=True,
        timeout=BUSY_SECONDS,
        isolation_level=None,  # `_begin_sqlite` begins
        check_same_thread=False,  # the pool lends a connection to one thread at a time
    )
    try:
        if not read_only:
            _use_wal(connection)
            for setting in _SQLITE_SETTINGS:
                connection.execute(setting)
    except BaseException:
        connection.close()
        raise
    return connection


def _mode(path: Path, *, read_only: bool) -> str:
    if not read_only:
        return "mode=rw"
    # A reader of a WAL needs its index file; where none can be made, nobody can be writing.
    waiting = path.with_name(f"{path.name}-wal").exists()
    return "mode=ro" if waiting or os.access(path.parent, os.W_OK) else "mode=ro&immutable=1"


def _use_wal(connection: "sqlite3.Connection") -> None:
    import sqlite3  # noqa: PLC0415  as above

    # The switch does not wait for a process that switches at the same moment.
    for _ in range(_WAL_ATTEMPTS):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != BUSY:
                raise
            threading.Event().wait(0.02)
        else:
            return
    connection.execute("PRAGMA journal_mode=WAL")


def _check_file_system(where: DatabaseUrl, path: Path) -> None:
    if where.any_file_system:
        return
    kind = network_file_system(path)
    if kind is not None:
        raise ConfigurationError(
            f"the database {path} would lie on a network file system ({kind}), where locks do"
            " not hold: use a local disk or PostgreSQL, or force it with"
            f" --database 'sqlite:///{path}?network=allow'"
        )


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise UsageError(f"there is no database {path}; name it with --database")


def _make_file(path: Path) -> None:
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    except FileExistsError:
        return
    except FileNotFoundError:
        raise CannotCreate(
            f"the database {path} cannot be created: there is no folder {path.parent}; make it,"
            " or name another with --database"
        ) from None
    except OSError as error:
        raise CannotCreate(
            f"the database {path} cannot be created: {error.strerror}; name another with"
            " --database"
        ) from error


# --- PostgreSQL


def _open_postgresql(where: DatabaseUrl, *, read_only: bool) -> Engine:
    ours = _KEEPALIVE | {"application_name": application_name()}
    given = {name: value for name, value in ours.items() if name not in where.url.query}
    options = _SNAPSHOT if read_only else {}
    try:
        engine = create_engine(where.url, connect_args=given, execution_options=options)
    except ImportError as error:
        raise ConfigurationError(
            f"the database {where.shown} needs the PostgreSQL driver: type"
            " pip install 'messages-batcher[postgres]'"
        ) from error
    event.listen(engine, "connect", lambda raw, _: _set_up(raw, read_only=read_only))
    event.listen(engine, "do_executemany", _execute_one_by_one)
    return engine


def _execute_one_by_one(cursor: Any, statement: str, rows: Any, context: Any) -> bool:  # noqa: ANN401  psycopg is optional
    """See `ONE_BY_ONE`; `False`: the driver is to do it its way."""
    if not context.execution_options.get(ONE_BY_ONE):
        return False
    for row in rows:
        cursor.execute(statement, row)
    return True


def application_name() -> str:
    """Who we are in pg_stat_activity: at most 63 bytes, as the server cuts there."""
    return f"batcher pid {os.getpid()} of {user_name()} on {socket.gethostname()}"[:63]


def user_name() -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _set_up(raw: Any, *, read_only: bool) -> None:  # noqa: ANN401  psycopg is optional
    raw.autocommit = True
    with closing(raw.cursor()) as cursor:
        cursor.execute(
            "SET TIME ZONE 'UTC'; SET synchronous_commit = on"
            + ("; SET default_transaction_read_only = on" if read_only else "")
        )
        cursor.execute(_PLANS)
    raw.autocommit = False
