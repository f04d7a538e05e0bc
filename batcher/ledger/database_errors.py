"""What drivers raise, as one sentence of ours: what, where and what to do."""

import re
import resource
from collections.abc import Sequence
from typing import Final

from sqlalchemy.exc import (
    DataError,
    DBAPIError,
    IntegrityError,
    InterfaceError,
    OperationalError,
    ProgrammingError,
)

from batcher.errors import BatcherError, Busy, CannotCreate, DamagedDatabase, StorageError

# Primary result codes, https://www.sqlite.org/rescode.html. The driver has names for them, but
# importing it costs a run on a server 1 MB; a test compares.
PERM, ABORT, BUSY, LOCKED, NOMEM, READONLY, INTERRUPT = 3, 4, 5, 6, 7, 8, 9
IOERR, CORRUPT, FULL, CANTOPEN, AUTH, NOTADB = 10, 11, 13, 14, 23, 26

_SQLITE: dict[int, tuple[type[BatcherError], str]] = {
    PERM: (StorageError, "may not be used by this user: check its permissions"),
    BUSY: (Busy, "is locked by another program: try again when it has ended"),
    LOCKED: (Busy, "is locked by another program: try again when it has ended"),
    READONLY: (
        StorageError,
        "cannot be written: check the permissions of the file and of its folder",
    ),
    IOERR: (
        DamagedDatabase,
        "could not be read or written by the disk: check the disk, then run the command again",
    ),
    CORRUPT: (
        DamagedDatabase,
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

_NO_LIMIT: Final = resource.RLIM_INFINITY
NO_RIGHT = "42501"
# https://www.postgresql.org/docs/current/errcodes-appendix.html, the longest prefix wins.
_POSTGRESQL: dict[str, tuple[type[BatcherError], str]] = {
    "08P01": (  # how PgBouncer says all that it says itself
        StorageError,
        "got no connection from its pooler: raise default_pool_size, or run the same command"
        " again later",
    ),
    "25006": (
        StorageError,
        "is read-only: a standby, then use the primary; or default_transaction_read_only is on,"
        " as some hosts set it when the disk is full",
    ),
    NO_RIGHT: (StorageError, "does not let this user do that: grant the rights"),
    "XX001": (DamagedDatabase, "is damaged: restore a backup of it"),
    "XX002": (DamagedDatabase, "has a damaged index: REINDEX it, or restore a backup"),
    "53100": (StorageError, "cannot grow, the disk is full: free some space on the server"),
    "53300": (StorageError, "has no connection left: raise max_connections or wait"),
    "55P03": (Busy, "is locked by another program: try again when it has ended"),
    "57P0": (StorageError, "was shut down: run the same command again when it is back"),
}
# What may pass by itself: the server restarts, is a standby until it takes over, has no room
# for the moment, or chose our transaction to end a deadlock. Prefixes of the same codes.
_PASSING = ("08", "25006", "25P03", "25P04", "40", "53", "55P03", "57014", "57P", "58030")
# Trouble of a server, a session or of somebody's rights, whatever was written; the same codes.
_NO_TABLE, _NO_COLUMN = "42P01", "42703"
_NOT_ABOUT_DATA = (
    *_PASSING,
    _NO_TABLE,
    _NO_COLUMN,
    "25",
    "28",
    "3D",
    NO_RIGHT,
    "55",
    "58",
    "F0",
    "XX001",
    "XX002",
)
# How SQLite's driver words that a text is none: nothing that is not UTF-8 was ever written.
_UNDECODABLE = re.compile(r"Could not decode to UTF-8 (column '\w*')")
_SHORT: Final = 8  # letters of a password that may be a part of other words by chance
# How libpq words a connection that failed; it gives no code.
_CONNECTING = (
    (r"password|authentication|pg_hba", "check the user and the password in its URL"),
    (r"database .* does not exist", "create the database first, for example with createdb"),
    (r"role .* does not exist", "check the user in its URL"),
    (
        r"too many (clients|connections)|connection slots|no more connections allowed",
        "raise max_connections, or max_client_conn of its pooler, or wait",
    ),
    (r"", "check that the server runs and that the host and port in its URL are right"),
)


def sqlstate(error: DBAPIError) -> str | None:
    """The server's code for it; `None` on SQLite, and where no server could answer."""
    code: str | None = getattr(error.orig, "sqlstate", None)
    return code


def passes(error: DBAPIError) -> bool:
    """Whether the same work may succeed later, in a new connection to the server."""
    if _is_of_sqlite(error):
        return False
    code = sqlstate(error)
    if code is None:  # libpq gives none for a connection that failed or was lost
        return error.connection_invalidated or isinstance(error, OperationalError)
    return error.connection_invalidated or code.startswith(_PASSING)


def may_be_about_data(error: Exception) -> bool:
    """Whether other records may land where this was raised: not so when the database is ill.

    Everything counts as such but what is known to have another cause, since what a database
    refuses about data has no end.
    """
    if isinstance(error, (BatcherError, OSError, MemoryError)):
        return False
    if not isinstance(error, DBAPIError):
        return True  # no driver has seen it: a value that cannot even be written down
    if _is_of_sqlite(error):
        number = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        return number not in _SQLITE and number not in (ABORT, INTERRUPT, NOMEM, AUTH)
    code = sqlstate(error)
    if code is None:
        return not passes(error)
    return not (error.connection_invalidated or code.startswith(_NOT_ABOUT_DATA))


def translate(error: DBAPIError, shown: str, passwords: Sequence[str]) -> BatcherError | None:
    """The error of ours that says the same, or `None` where `error` is about data or a bug.

    `shown` is what the database is called in the sentence; `passwords` are masked in it.
    """
    code = sqlstate(error)
    if _is_about_data(error) and code != NO_RIGHT:
        return None
    words = _words(error, passwords)
    if _is_of_sqlite(error):
        number = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
        column = _UNDECODABLE.match(words)
        if column:  # the driver would go on with all of the text
            number, words = CORRUPT, f"{column[1]} is no UTF-8"
        known = _SQLITE.get(number)
        if number == IOERR and resource.getrlimit(resource.RLIMIT_FSIZE)[0] != _NO_LIMIT:
            known = (
                StorageError,
                "could not be written: files may not be that large, raise `ulimit -f`",
            )
        return _sentence(shown, known, words)
    if code is None:
        return _of_connecting(shown, words)
    found = (_POSTGRESQL[code[:n]] for n in (5, 4) if code[:n] in _POSTGRESQL)
    return _sentence(shown, next(found, None), words)


def _is_of_sqlite(error: DBAPIError) -> bool:
    return type(error.orig).__module__ == "sqlite3"


def _is_about_data(error: DBAPIError) -> bool:
    # SQLite's driver calls a value it cannot bind an interface error, up to Python 3.11.
    unbound = isinstance(error, InterfaceError) and _is_of_sqlite(error)
    return unbound or isinstance(error, (IntegrityError, DataError, ProgrammingError))


def _sentence(
    shown: str, known: tuple[type[BatcherError], str] | None, words: str
) -> BatcherError:
    if known is None:
        return StorageError(f"the database {shown} failed: {words}")
    kind, says = known
    return kind(f"the database {shown} {says} ({words})")


def _of_connecting(shown: str, words: str) -> BatcherError:
    advice = next(says for pattern, says in _CONNECTING if re.search(pattern, words))
    return StorageError(f"the database {shown} cannot be reached: {advice} ({words})")


def _words(error: DBAPIError, passwords: Sequence[str]) -> str:
    """All of the driver's own words in one line; it may quote the connection string."""
    said = " ".join(str(error.orig).split()) or type(error.orig).__name__
    words = said.removeprefix("connection failed: ").rstrip(".")
    for password in passwords:
        words = _masked(words, password)
    return words


def _masked(words: str, password: str) -> str:
    """A long password is masked anywhere, a short one where it is one, not within words."""
    known = re.escape(password)
    if len(password) < _SHORT:
        known = rf"(?<=password=){known}(?!\w)|(?<=:){known}(?=@)|(?<!\S){known}(?!\S)"
    return re.sub(known, "***", words)
