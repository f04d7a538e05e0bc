"""Connections to the ledger, durable by default, on SQLite and PostgreSQL.

A ledger is named by a path or a URL, taken apart once; its passwords are never shown. Foreign
keys are declared, not enforced on SQLite; `verify` checks them. Every SQLite transaction of a
writable engine is `BEGIN IMMEDIATE`, so that a lock is waited for at its start and never in its
middle; `reading` makes one that is not. On PostgreSQL a ledger is in a schema: there, made, or
asked for.
"""

import os
import pwd
import re
import shlex
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import sqlalchemy
from sqlalchemy import URL, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError, ProgrammingError

from batcher.errors import BatcherError, ConfigurationError
from batcher.ledger.database_errors import NO_RIGHT, sqlstate, translate
from batcher.ledger.server import BEGIN, BEGIN_READING, open_server, quoted, schema_of
from batcher.ledger.sqlite_file import (
    LOOK_SECONDS,
    check_exists,
    check_file_system,
    check_one_name,
    connect_sqlite,
    damaged,
    damages_of,
    make_file,
)

# What other rooms carry around without looking inside.
Connection = sqlalchemy.Connection
Engine = sqlalchemy.Engine

POSTGRESQL = ("postgresql", "postgresql+psycopg", "postgres")
_SECRETS = ("password", "sslpassword", "passfile")
_ALLOW_NETWORK = "network"


@dataclass(frozen=True, slots=True, kw_only=True)
class DatabaseUrl:
    """One ledger: a SQLite file or a PostgreSQL database.

    `path` is absolute, `None` on PostgreSQL. `shown` is safe to print: the path, or the URL
    with its password masked. `any_file_system` is true when `?network=allow` forced a path on
    a network file system.
    """

    url: URL = field(repr=False)
    shown: str
    path: Path | None = None
    any_file_system: bool = False

    @property
    def option(self) -> str:
        """`--database …` as a shell takes it, to be named in a sentence."""
        return f"--database {shlex.quote(self.shown)}"


def parse_url(text: str | URL) -> DatabaseUrl:
    """Understand a plain path, `sqlite:///path` or `postgresql+psycopg://…`.

    Raises:
        ConfigurationError: it is none of these; the message does not repeat a password.
    """
    if isinstance(text, URL):
        return _of_url(text)
    if "://" not in text:
        return _of_path(text, query={})
    try:
        return _of_url(make_url(text))
    except (ArgumentError, ValueError):
        scheme = text.split("://", 1)[0]
        raise ConfigurationError(
            f"the database URL that starts with {scheme}:// cannot be read; write it like"
            " postgresql+psycopg://user@host:5432/name, with %40 for an @ in the password"
        ) from None


def without_passwords(text: str) -> str:
    """`text`, such as a command as typed, with the passwords in its addresses masked."""
    masked = re.sub(r"(://[^\s:/@]*:)\S*@", r"\1***@", text)
    return re.sub(rf"([?&](?:{'|'.join(_SECRETS)})=)[^\s&'\"]*", r"\1***", masked)


def open_engine(url: str, *, read_only: bool = False) -> Engine:
    """An engine for the ledger at `url`; nothing is connected yet, but a missing file is made.

    A new SQLite file is readable by its owner only. A read-only engine makes nothing, writes
    nothing, and its transactions see one state of the database.

    Raises:
        ConfigurationError: the URL is wrong, its driver is missing, or a file has several names
            or lies on a network file system, where locks do not hold.
        CannotCreate: the file cannot be made.
        UsageError: the file to read is not there.
    """
    where = parse_url(url)
    if where.path is None:
        name = application_name()
        return open_server(where.url, where.shown, our_name=name, read_only=read_only)
    return _open_sqlite(where, where.path, read_only=read_only)


@contextmanager
def engine_at(url: str, *, read_only: bool = False) -> Iterator[Engine]:
    """See `open_engine`: one whose connections are closed at the end."""
    engine = open_engine(url, read_only=read_only)
    try:
        yield engine
    finally:
        engine.dispose()


def place(engine: Engine) -> DatabaseUrl:
    """The address that `engine` was opened with."""
    return parse_url(engine.url)


@contextmanager
def storage_errors(url: str | URL) -> Iterator[None]:
    """Turn what a driver raises about the disk, the server or a lock into an error of ours.

    Data that a column refuses and statements that are wrong (`IntegrityError`, `DataError`,
    `ProgrammingError`) pass as they are: the first two are the writer's to bisect, the last is
    a bug; only missing rights are translated. Whatever nobody expected is blamed on the file
    when that turns out to be damaged: what is read from it may be anything.

    Raises:
        StorageError: disk, file or server trouble, or the server refuses the connection.
        CannotCreate: the file cannot be opened or made.
        Busy: another program holds a lock for longer than the time-out.
    """
    try:
        yield
    except (BatcherError, OSError):
        raise
    except Exception as error:
        where = parse_url(url)
        translated = _translated(where, error)
        if translated is None:
            _blame_damage(where, error)
            raise
        raise translated from error


def _translated(where: DatabaseUrl, error: Exception) -> BatcherError | None:
    if not isinstance(error, DBAPIError):
        if type(error).__module__ != "sqlite3":
            return None
        error = OperationalError(None, None, error)  # of a cursor that is read directly
    passwords = (where.url.password, where.url.query.get("password"))
    return translate(error, where.shown, [str(p) for p in passwords if p])


def _blame_damage(where: DatabaseUrl, error: Exception) -> None:
    damages = damages_of(where.path, seconds=LOOK_SECONDS) if where.path else None
    if where.path and damages:
        raise damaged(where.path, damages) from error


@contextmanager
def reading(engine: Engine) -> Iterator[Connection]:
    """A transaction that only reads: one state of the database, and no lock to wait for."""
    begin = BEGIN_READING if engine.dialect.name == "postgresql" else "BEGIN"
    with storage_errors(engine.url), engine.connect() as connection:
        yield connection.execution_options(**{BEGIN: begin})


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """A transaction that writes: committed at the end, rolled back by an error."""
    with storage_errors(engine.url), engine.begin() as connection:
        yield connection


@contextmanager
def outside_transactions(engine: Engine) -> Iterator[Connection]:
    """Every statement commits by itself, for those that refuse to be in a transaction."""
    with storage_errors(engine.url), engine.connect() as connection:
        yield connection.execution_options(**{BEGIN: None})


def application_name() -> str:
    """Who we are in pg_stat_activity: at most 63 bytes, as the server cuts there."""
    return f"batcher pid {os.getpid()} of {user_name()} on {socket.gethostname()}"[:63]


def user_name() -> str:
    """The user's name, or the number where it has none."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


# --- Addresses


def _of_url(url: URL) -> DatabaseUrl:
    if url.drivername == "sqlite":
        return _of_path(url.database or "", query=dict(url.query))
    if url.drivername in POSTGRESQL:
        url = url.set(drivername="postgresql+psycopg")
        schema_of(url)
        return DatabaseUrl(url=url, shown=_masked(url))
    raise ConfigurationError(
        f"the database {url.drivername}://… is not supported; use a file name or"
        " postgresql+psycopg://user@host/name"
    )


def _of_path(text: str, *, query: dict[str, str | tuple[str, ...]]) -> DatabaseUrl:
    if text in {"", ":memory:"} or text.startswith("file:"):
        raise ConfigurationError(
            f"the database {text!r} is not a file on disk; name one, like batcher.db"
        )
    forced = query.pop(_ALLOW_NETWORK, None) == "allow"
    if query:
        raise ConfigurationError(
            f"the database URL has the unknown option {sorted(query)[0]!r}; SQLite takes only"
            f" ?{_ALLOW_NETWORK}=allow"
        )
    path = Path(_plain_path(text)).absolute()
    url = URL.create("sqlite", database=str(path))
    return DatabaseUrl(url=url, shown=str(path), path=path, any_file_system=forced)


def _plain_path(text: str) -> str:
    """`text` with a leading `~` replaced; raises for what SQLite takes no name from."""
    try:
        str(Path(text).absolute()).encode()
    except UnicodeEncodeError:
        raise ConfigurationError(
            f"the database {text!r} cannot be there: SQLite takes UTF-8 names only; rename the"
            " folder, or name another place with --database"
        ) from None
    if "\0" in text:
        raise ConfigurationError(f"the database {text!r} cannot be there: no name holds a NUL")
    return os.path.expanduser(text)  # noqa: PTH111 - raises nothing for an unknown user


def _masked(url: URL) -> str:
    hidden = {name: "***" for name in _SECRETS if name in url.query}
    shown = url.update_query_dict(hidden).render_as_string(hide_password=True)
    return shown.replace("%2A%2A%2A", "***")


# --- SQLite


def _open_sqlite(where: DatabaseUrl, path: Path, *, read_only: bool) -> Engine:
    if not where.any_file_system:
        check_file_system(path)
    if read_only:
        check_exists(path)
    else:
        make_file(path)
    check_one_name(path)
    engine = create_engine(where.url, creator=lambda: connect_sqlite(path, read_only=read_only))
    begin = "BEGIN" if read_only else "BEGIN IMMEDIATE"
    event.listen(engine, "begin", lambda begun: _begin_sqlite(begun, begin))
    return engine


def _begin_sqlite(connection: Connection, usual: str) -> None:
    # The driver would begin before data changes only, and leave DDL outside of transactions.
    statement = connection.get_execution_options().get(BEGIN, usual)
    if statement is not None:
        connection.exec_driver_sql(statement)


def make_schema(connection: Connection, where: DatabaseUrl) -> None:
    """Make the schema that the URL names, where it is not there.

    Raises:
        ConfigurationError: we may not, or the URL names none and there is none.
    """
    name = schema_of(where.url)
    if name is not None and not _has_schema(connection):
        try:
            connection.exec_driver_sql(f"CREATE SCHEMA {quoted(name)}")
        except ProgrammingError as error:
            if sqlstate(error) != NO_RIGHT:
                raise
            raise ConfigurationError(
                f"the database {where.shown} has no schema {name} and does not let this user"
                f" make one: let its administrator type CREATE SCHEMA {quoted(name)}"
                f" AUTHORIZATION {quoted(where.url.username or user_name())}"
            ) from error
    check_schema(connection, where)


def check_schema(connection: Connection, where: DatabaseUrl) -> None:
    """Raise `ConfigurationError` where there is no schema in which tables could be made."""
    if _has_schema(connection):
        return
    name = schema_of(where.url)
    if name is None:
        raise ConfigurationError(
            f"the database {where.shown} has no schema of the search_path that it was given:"
            " name one by the setting schema, then type batcher db upgrade"
        )
    raise ConfigurationError(
        f"the database {where.shown} has no schema {name} yet: type batcher db upgrade"
        f" {where.option}"
    )


def _has_schema(connection: Connection) -> bool:
    if connection.dialect.name != "postgresql":
        return True
    return connection.scalar(text("SELECT current_schema()")) is not None
