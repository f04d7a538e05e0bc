"""The write-ahead log of a SQLite file: what keeps it small, and what is said when it grows.

SQLite begins the log anew when all of it is in the main file and no reader needs any of it.
Readers that follow each other leave no such moment: beyond a bound they are waited for, once.
A reader that stays keeps all that was written since it began, and nobody can help that.
"""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from batcher.ledger.server import BEGIN
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
