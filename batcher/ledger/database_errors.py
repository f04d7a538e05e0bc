"""What drivers raise, as one sentence of ours: what, where and what to do."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import URL
from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from batcher.errors import BatcherError, Busy, CannotCreate, StorageError
from batcher.ledger.address import DatabaseUrl, parse_url

# Primary result codes, https://www.sqlite.org/rescode.html. The driver has names for them, but
# importing it costs a run on a server 1 MB; a test compares.
PERM, BUSY, LOCKED, READONLY, INTERRUPT = 3, 5, 6, 8, 9
IOERR, CORRUPT, FULL, CANTOPEN, NOTADB = 10, 11, 13, 14, 26

_SQLITE: dict[int, tuple[type[BatcherError], str]] = {
    PERM: (StorageError, "may not be used by this user: check its permissions"),
    BUSY: (Busy, "is locked by another program: try again when it has ended"),
    LOCKED: (Busy, "is locked by another program: try again when it has ended"),
    READONLY: (
        StorageError,
        "cannot be written: check the permissions of the file and of its folder",
    ),
    IOERR: (
        StorageError,
        "could not be read or written by the disk: check the disk, then run the command again",
    ),
    CORRUPT: (
        StorageError,
        "is damaged: restore a backup of it, or what `sqlite3 FILE .recover` makes of it",
    ),
    FULL: (
        StorageError,
        "cannot grow, the disk is full: free some space and run the same command again",
    ),
    CANTOPEN: (
        CannotCreate,
        "cannot be opened: check that its folder exists and may be written",
    ),
    NOTADB: (StorageError, "is not a SQLite database: name another file"),
}

# https://www.postgresql.org/docs/current/errcodes-appendix.html, the longest prefix wins.
_POSTGRESQL: dict[str, tuple[type[BatcherError], str]] = {
    "25006": (StorageError, "is read-only: it may be a standby; use the primary"),
    "42501": (StorageError, "does not let this user do that: grant the rights"),
    "53100": (StorageError, "cannot grow, the disk is full: free some space on the server"),
    "53300": (StorageError, "has no connection left: raise max_connections or wait"),
    "55P03": (Busy, "is locked by another program: try again when it has ended"),
    "57P0": (StorageError, "was shut down: run the same command again when it is back"),
}
# What may pass by itself: the server restarts, is a standby until it takes over, has no room
# for the moment, or chose our transaction to end a deadlock. Prefixes of the same codes.
_PASSING = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57014", "57P", "58030")
# How libpq words a connection that failed; it gives no code.
_CONNECTING = (
    (r"password|authentication|pg_hba", "check the user and the password in its URL"),
    (r"database .* does not exist", "create the database first, for example with createdb"),
    (r"role .* does not exist", "check the user in its URL"),
    (r"too many (clients|connections)|connection slots", "raise max_connections or wait"),
    (r"", "check that the server runs and that the host and port in its URL are right"),
)


@contextmanager
def storage_errors(url: str | URL) -> Iterator[None]:
    """Turn what a driver raises about the disk, the server or a lock into an error of ours.

    Data that a column refuses and statements that are wrong (`IntegrityError`, `DataError`,
    `ProgrammingError`) pass as they are: the first two are the writer's to bisect, the last is
    a bug; only missing rights are translated.

    Raises:
        StorageError: disk, file or server trouble, or the server refuses the connection.
        CannotCreate: the file cannot be opened or made.
        Busy: another program holds a lock for longer than the time-out.
    """
    try:
        yield
    except DBAPIError as error:
        translated = translate(error, parse_url(url))
        if translated is None:
            raise
        raise translated from error


def passes(error: DBAPIError) -> bool:
    """Whether the same work may succeed later, in a new connection to the server."""
    if _is_of_sqlite(error):
        return False
    code = getattr(error.orig, "sqlstate", None)
    if code is None:  # libpq gives none for a connection that failed or was lost
        return error.connection_invalidated or isinstance(error, OperationalError)
    return error.connection_invalidated or str(code).startswith(_PASSING)


def translate(error: DBAPIError, where: DatabaseUrl) -> BatcherError | None:
    """The error of ours that says the same, or `None` where `error` is about data or a bug."""
    code = getattr(error.orig, "sqlstate", None)
    if _is_about_data(error) and code != "42501":
        return None
    if _is_of_sqlite(error):
        number = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return _sentence(where, _SQLITE.get(number), error)
    if code is None:
        return _of_connecting(where, error)
    found = (_POSTGRESQL[code[:n]] for n in (5, 4) if code[:n] in _POSTGRESQL)
    return _sentence(where, next(found, None), error)


def _is_of_sqlite(error: DBAPIError) -> bool:
    return type(error.orig).__module__ == "sqlite3"


def _is_about_data(error: DBAPIError) -> bool:
    # SQLite's driver calls a value it cannot bind an interface error, up to Python 3.11.
    unbound = isinstance(error, InterfaceError) and _is_of_sqlite(error)
    return unbound or isinstance(error, (IntegrityError, DataError, ProgrammingError))


def _sentence(
    where: DatabaseUrl, known: tuple[type[BatcherError], str] | None, error: DBAPIError
) -> BatcherError:
    if known is None:
        return StorageError(f"the database {where.shown} failed: {_words(where, error)}")
    kind, says = known
    return kind(f"the database {where.shown} {says} ({_words(where, error)})")


def _of_connecting(where: DatabaseUrl, error: DBAPIError) -> BatcherError:
    words = _words(where, error)
    advice = next(says for pattern, says in _CONNECTING if re.search(pattern, words))
    return StorageError(f"the database {where.shown} cannot be reached: {advice} ({words})")


def _words(where: DatabaseUrl, error: DBAPIError) -> str:
    """The driver's own words in one line; a driver may quote the connection string."""
    lines = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
    words = lines[-1].strip().removeprefix("connection failed: ").rstrip(".")
    for secret in (where.url.password, where.url.query.get("password")):
        if secret:
            words = words.replace(str(secret), "***")
    return words
