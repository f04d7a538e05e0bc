"""Who may run at once: on SQLite one run per file, on PostgreSQL one process per run.

Both locks are the system's own, so that they are free as soon as their holder is killed: a
`flock` on a file beside the database, a session's advisory lock on the server. What is written
beside them, who holds it since when, is information for people and decides nothing.
"""

import fcntl
import hashlib
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from sqlalchemy import Connection, text

from batcher.clock import SystemClock
from batcher.errors import Busy, CannotCreate, StorageError
from batcher.ledger.address import DatabaseUrl, parse_url
from batcher.ledger.connect import open_engine, storage_errors, user_name

_MICROSECONDS = 1_000_000


class Holder(msgspec.Struct, frozen=True, kw_only=True):
    """The line in a lock file; `started_at` is ISO-8601 in UTC."""

    pid: int
    host: str
    user: str
    started_at: str
    command: str


@contextmanager
def hold_database(url: str, run_key: str | None, *, command: str) -> Iterator[None]:
    """Be the only run while the body lasts; no waiting.

    On SQLite the whole file is held. On PostgreSQL it is the run named `run_key`, and other
    runs go on beside it; `None` asks for all of the database, which is free when no run is on.
    `command` is told to whoever comes second. A child process that executes something does not
    inherit the lock.

    Raises:
        Busy: somebody else holds it; the sentence says who, since when.
        CannotCreate: the lock file cannot be made.
    """
    where = parse_url(url)
    if where.path:  # behind a link is the same database, so it has the same lock
        held = _hold_file(where, where.path.resolve(), command)
    else:
        held = _hold_server(url, run_key)
    with held:
        yield


# --- SQLite


@contextmanager
def _hold_file(where: DatabaseUrl, database: Path, command: str) -> Iterator[None]:
    descriptor = _open_lock(database.with_name(f"{database.name}.lock"))
    try:
        _lock(descriptor, where)
        _write(descriptor, msgspec.json.encode(_this_process(command)) + b"\n")
        yield
        _write(descriptor, b"")
    finally:
        os.close(descriptor)  # frees the lock; the file stays, or two could hold it


def _open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except FileNotFoundError:
        raise CannotCreate(
            f"the database cannot be in {path.parent}: there is no such folder; make it, or"
            " name another with --database"
        ) from None
    except OSError as error:
        raise CannotCreate(
            f"the lock file {path} cannot be opened: {error.strerror}; check the permissions of"
            " its folder"
        ) from error


def _lock(descriptor: int, where: DatabaseUrl) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Busy(
            f"another run holds the database {where.shown}{_described(descriptor)}; run the"
            " same command again when it has ended"
        ) from None
    except OSError as error:
        raise StorageError(
            f"the database {where.shown} cannot be locked: {error.strerror}; use a local disk"
        ) from error


def _described(descriptor: int) -> str:
    """Who the lock file says it is; nothing while the holder is about to write it."""
    with suppress(msgspec.DecodeError, OSError):
        holder = msgspec.json.decode(os.pread(descriptor, 65536, 0), type=Holder)
        return (
            f": process {holder.pid} of {holder.user} on {holder.host}, since"
            f" {holder.started_at} ({holder.command})"
        )
    return ""


def _write(descriptor: int, line: bytes) -> None:
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, line, 0)


def _this_process(command: str) -> Holder:
    now = SystemClock().now_us()
    return Holder(
        pid=os.getpid(),
        host=socket.gethostname(),
        user=user_name(),
        started_at=_iso(now),
        command=command,
    )


def _iso(microseconds: int) -> str:
    return f"{datetime.fromtimestamp(microseconds // _MICROSECONDS, UTC):%Y-%m-%dT%H:%M:%SZ}"


# --- PostgreSQL

# Every run holds this one shared, so that a schema is not changed under it.
_IN_USE = "in use"
# The server notices a dead client machine after 25 s, not after two hours, and ends no idle
# holder. Versions differ in what they know.
_SERVER_SETTINGS = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "5s",
    "idle_session_timeout": "0",
}
_HOLDERS = text(
    "SELECT a.application_name, a.backend_start"
    " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (CAST(l.classid AS bigint) << 32) | CAST(l.objid AS bigint) = :number"
    " ORDER BY a.backend_start LIMIT 1"
)


@contextmanager
def _hold_server(url: str, run_key: str | None) -> Iterator[None]:
    engine = open_engine(url)
    try:
        with storage_errors(url):
            connection = engine.connect().execution_options(isolation_level="AUTOCOMMIT")
        with connection:
            with storage_errors(url):
                _take(connection, parse_url(url), run_key)
            yield
    finally:
        engine.dispose()  # the session ends, and its locks with it


def _take(connection: Connection, where: DatabaseUrl, run_key: str | None) -> None:
    for name, value in _SERVER_SETTINGS.items():
        setting = "SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name"
        connection.execute(text(setting), {"name": name, "value": value})
    if run_key is None:
        _try(connection, where, "pg_try_advisory_lock", _IN_USE)
        return
    _try(connection, where, "pg_try_advisory_lock_shared", _IN_USE)
    _try(connection, where, "pg_try_advisory_lock", f"run {run_key}")


def _try(connection: Connection, where: DatabaseUrl, function: str, name: str) -> None:
    number = _number(name)
    if connection.scalar(text(f"SELECT {function}(:number)"), {"number": number}):
        return
    found = connection.execute(_HOLDERS, {"number": number}).first()
    who = f": {found[0]}, since {found[1]:%Y-%m-%dT%H:%M:%SZ}" if found and found[1] else ""
    what = "uses all of" if name == _IN_USE else "is on in"
    raise Busy(
        f"another run {what} the database {where.shown}{who}; run the same command again when"
        " it has ended"
    )


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"batcher: {name}".encode()).digest()[:8], signed=True)
