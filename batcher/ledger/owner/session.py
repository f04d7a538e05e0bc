"""The writer's transactions: fenced on PostgreSQL, and each done or not, never unknown.

After commits to a SQLite file its write-ahead log is looked at. SQLite begins the log anew when
all of it is in the main file and no reader needs any of it. Readers that follow each other
leave no such moment: beyond a bound they are waited for, once. A reader that stays keeps all
that was written since it began, and nobody can help that.
"""

import os
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from batcher.clock import boot_seconds
from batcher.ledger.database_errors import passes
from batcher.ledger.owner.database_file import HeldFile
from batcher.ledger.owner.lease import (
    Lease,
    fence,
    lost_transactions,
    most_idle_ms,
    written,
)
from batcher.ledger.server import BEGIN, MOST_IDLE, ONE_BY_ONE
from batcher.ledger.sqlite_file import BUSY_SECONDS

BOUND_BYTES: Final = 2**27  # twice of what is left of it when it begins anew
LOOK_EVERY: Final = 64  # commits
_WAIT_SECONDS: Final = 1  # for readers; a run writes nothing meanwhile
_LOCKS: Final = Path("/proc/locks")
_READ_MARKS: Final = range(123, 128)  # bytes of the -shm file that readers lock


class WriteAheadLog:
    """Looked at by whoever writes, after its commits. Belongs to one thread.

    `told` gets a sentence when the log has grown beyond a bound and cannot begin anew, and
    again whenever it has doubled.
    """

    def __init__(
        self, path: Path, told: Callable[[str], object], bound: int = BOUND_BYTES
    ) -> None:
        self._log = path.with_name(f"{path.name}-wal")
        self._index = path.with_name(f"{path.name}-shm")
        self._told = told
        self._least = self._bound = bound
        self._commits = 0

    def committed(self, connection: Connection) -> None:
        """Look at its size now and then; `connection` is in no transaction."""
        self._commits += 1
        if self._commits % LOOK_EVERY:
            return
        size = self._size()
        if size < self._least:
            self._bound = self._least
        elif size >= self._bound:
            with suppress(DBAPIError):  # the next commit says what is wrong
                self._begin_anew(connection, size)

    def _begin_anew(self, connection: Connection, size: int) -> None:
        if _is_emptied(connection):
            self._bound = self._least
            return
        self._bound = 2 * size
        self._told(
            f"{self._log} has {size // 2**20:,} MB and grows: {self._readers()} has read from"
            " the database for long, and what is written meanwhile cannot leave the log: end"
            " old reports, backups and shells that have it open"
        )

    def _size(self) -> int:
        try:
            return self._log.stat().st_size
        except OSError:
            return 0

    def _readers(self) -> str:
        """Who reads, by their locks; as far as the system tells."""
        with suppress(OSError, ValueError, IndexError):
            inode = str(self._index.stat().st_ino)
            lines = [line.split() for line in _LOCKS.read_text().splitlines()]
            pids = {
                int(words[4])
                for words in lines
                if words[1] == "POSIX"
                and words[5].rpartition(":")[2] == inode
                and int(words[6]) in _READ_MARKS
            } - {os.getpid()}
            if pids:
                return f"process {', '.join(map(str, sorted(pids)))}"
        return "another process"


def _is_emptied(connection: Connection) -> bool:
    options = {BEGIN: None}
    with connection.execution_options(**options).begin():
        connection.exec_driver_sql(f"PRAGMA busy_timeout = {1_000 * _WAIT_SECONDS}")
        try:
            found = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").one()
        finally:
            connection.exec_driver_sql(f"PRAGMA busy_timeout = {1_000 * BUSY_SECONDS}")
    connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
    return not found[0]


T = TypeVar("T")

PATIENCE_SECONDS: Final = 300.0
_PAUSES: Final = (0.05, 0.2, 0.5, 1.0, 2.0, 5.0)  # between tries to connect again


class Session:
    """One connection that comes back when the server does. Belongs to one thread.

    Without a `lease` a transaction is what the database makes of it, and trouble is raised at
    once. With one, each names the lease and has a number: when the connection is lost, also
    while COMMIT is under way, the ledger is asked for the number of the last transaction, and
    the work is done again only if it was not that one. A server that is away is waited for, for
    `patience_seconds` at most.

    `lost` is called with a sentence when the connection is lost, with "" when it is back.
    Commits to a `file` that is held are numbered in it, from the first to the clean end, and
    made only while it has its name. The `log` of a file is looked at after commits.
    """

    def __init__(
        self,
        engine: Engine,
        lease: Lease | None = None,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
        lost: Callable[[str], None] = lambda _: None,
        file: HeldFile | None = None,
        log: WriteAheadLog | None = None,
    ) -> None:
        self._file = file
        self._log = log
        self._engine = engine
        self._lease = lease
        self._patience_seconds = patience_seconds
        self._lost = lost
        self._number = 0
        self._committed = 0
        self._known = 0
        self._hurry = threading.Event()
        self._opened: Connection | None = None

    def __enter__(self) -> "Session":
        self._connect()
        if self._file:
            self._mark(self._file)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._opened is not None:
            with suppress(SQLAlchemyError):
                if self._file and kind is None:
                    self._number_as(0)
                    self._file.committed(0)
                self._opened.close()

    def _mark(self, file: HeldFile) -> None:
        """The main file says that more may be in its log, before anything is."""
        with self._connection.begin():
            found = self._connection.exec_driver_sql("PRAGMA user_version").scalar_one()
            self._number = abs(int(found)) + 1
            self._connection.exec_driver_sql(f"PRAGMA user_version = -{self._number}")
        file.committed(self._number)
        options = {BEGIN: None}
        # A disk that is full fails the run when it matters: until then its log has everything.
        with (
            suppress(DBAPIError),
            self._connection.execution_options(**options).begin(),
        ):
            # An answer that is not read keeps the next transaction from committing.
            self._connection.exec_driver_sql("PRAGMA wal_checkpoint(PASSIVE)").all()
        self._connection.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})
        # Into the log: what SQLite itself copies from now on has it and is whole.
        self._number_as(self._number)

    def _number_as(self, number: int) -> None:
        with self._connection.begin():
            self._connection.exec_driver_sql(f"PRAGMA user_version = {number}")

    def hurry(self) -> None:
        """Wait for a lost server no longer; may be called from any thread."""
        self._hurry.set()

    def transact(
        self, work: Callable[[Connection], T], undone: Callable[[], None] = lambda: None
    ) -> T:
        """What `work` returns, when its transaction is committed. It may be run again.

        `undone` is called before it is run again: what it did before came to nothing.

        Raises:
            Fenced: another process has the lease; the transaction did nothing.
            LostTransactions: the server that came back lacks what it had committed.
            DBAPIError: the database is not back in time, or `work` has a fault of its own.
        """
        if self._lease is None:
            return self._into_file(work)
        self._number += 1
        started: float | None = None
        while True:
            results: list[T] = []
            try:
                self._once(self._lease, work, results)
            except DBAPIError as error:
                if not passes(error):
                    raise
                started = boot_seconds() if started is None else started
                if not self._landed(self._lease, error, started):
                    undone()
                    continue
            self._committed = self._number
            return results[0]

    def _into_file(self, work: Callable[[Connection], T]) -> T:
        number = self._number + 1
        with self._connection.begin():
            result = work(self._connection)
            if self._file:
                self._file.check()
                self._connection.exec_driver_sql(f"PRAGMA user_version = {number}")
        if self._file:
            self._number = number
            self._file.committed(number)
        if self._log:
            self._log.committed(self._connection)
        return result

    @property
    def committed(self) -> int:
        """The number of the last committed transaction; 0 for ever without a lease."""
        return self._committed

    @property
    def known(self) -> int:
        """The number of the last transaction that a server which came back knew of."""
        return self._known

    @property
    def _connection(self) -> Connection:
        if self._opened is None:
            raise RuntimeError("the session is not open")
        return self._opened

    def _once(self, lease: Lease, work: Callable[[Connection], T], results: list[T]) -> None:
        with self._connection.begin():
            fence(self._connection, lease, self._number)
            results.append(work(self._connection))

    def _landed(self, lease: Lease, error: DBAPIError, started: float) -> bool:
        """Whether the transaction that ended in `error` was committed all the same."""
        said = str(error.orig).strip().splitlines() or [type(error.orig).__name__]
        self._lost(said[0])
        tries = 0
        while True:
            waited = boot_seconds() - started
            if waited >= self._patience_seconds or self._hurry.is_set():
                raise error
            try:
                self._connect()
                with self._connection.begin():
                    number = written(self._connection, lease)
            except DBAPIError as again:
                if not passes(again):
                    raise
                error = again
                self._hurry.wait(_PAUSES[min(tries, len(_PAUSES) - 1)])
                tries += 1
            else:
                self._lost("")
                self._known = min(number, self._committed)
                if number < self._committed:
                    raise lost_transactions(number, self._committed)
                return number == self._number

    def _connect(self) -> None:
        """A new connection; what others of this engine's pool know of the server is old."""
        if self._opened is not None:
            with suppress(SQLAlchemyError):
                self._opened.invalidate()
            with suppress(SQLAlchemyError):
                self._opened.close()
            self._engine.dispose()
        self._opened = self._engine.connect()
        if self._lease is not None:
            self._opened.execution_options(
                **{ONE_BY_ONE: True, MOST_IDLE: most_idle_ms(self._lease)}
            )
