"""Sessions on PostgreSQL that last as long as a run: their settings, the locks they hold."""

import hashlib
from typing import Final

from sqlalchemy import Connection, text

from batcher.errors import Busy
from batcher.ledger.connect import DatabaseUrl

# Every run holds this one shared, so that a schema is not changed under it.
IN_USE: Final = "in use"
# The server notices a dead client machine after 25 s, not after two hours, and ends no idle
# holder. Versions differ in what they know.
_SETTINGS: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "client_connection_check_interval": "5s",
    "idle_session_timeout": "0",
}
_SET: Final = text("SELECT set_config(name, :value, false) FROM pg_settings WHERE name = :name")
_HOLDERS: Final = text(
    "SELECT a.application_name, a.backend_start"
    " FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid"
    " WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1"
    " AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    " AND (CAST(l.classid AS bigint) << 32) | CAST(l.objid AS bigint) = :number"
    " ORDER BY a.backend_start LIMIT 1"
)


def settle_in(connection: Connection, *, most_idle_seconds: float | None = None) -> None:
    """Let the server notice soon when we are gone; transactions of the caller's stay open.

    `most_idle_seconds` is how long it waits for us inside a transaction before it ends the
    session: a process that is stopped there must not hold its locks for ever.
    """
    wanted = dict(_SETTINGS)
    if most_idle_seconds is not None:
        milliseconds = max(round(most_idle_seconds * 1000), 1)
        wanted["idle_in_transaction_session_timeout"] = str(milliseconds)
    for name, value in wanted.items():
        connection.execute(_SET, {"name": name, "value": value})


def lock_all(connection: Connection, where: DatabaseUrl) -> None:
    """Hold the database for us alone until the session ends; raises `Busy`."""
    _try(connection, where, "pg_try_advisory_lock")


def lock_shared(connection: Connection, where: DatabaseUrl) -> None:
    """Keep others from holding all of the database until the session ends; raises `Busy`."""
    _try(connection, where, "pg_try_advisory_lock_shared")


def _try(connection: Connection, where: DatabaseUrl, function: str) -> None:
    number = _number(IN_USE)
    if connection.scalar(text(f"SELECT {function}(:number)"), {"number": number}):
        return
    found = connection.execute(_HOLDERS, {"number": number}).first()
    who = f": {found[0]}, since {found[1]:%Y-%m-%dT%H:%M:%SZ}" if found and found[1] else ""
    raise Busy(
        f"another run uses all of the database {where.shown}{who}; run the same command again"
        " when it has ended"
    )


def _number(name: str) -> int:
    return int.from_bytes(hashlib.sha256(f"batcher: {name}".encode()).digest()[:8], signed=True)
