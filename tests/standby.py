"""A PostgreSQL primary with a streaming standby, to be killed and promoted by tests."""

import contextlib
import ctypes
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg

from tests.databases import (
    RULES,
    SETTINGS,
    PostgresServer,
    _binaries,
    _run,
    server_folder,
)

__all__ = ["Pair", "replicating"]

REPLICATION = "local replication all trust\n"
IPC_RMID = 0
# Shared memory in files of the data folder: it goes with that, however its server ended.
MEMORY = "dynamic_shared_memory_type = 'mmap'\n"


@dataclass
class Pair:
    """Two servers: the standby has what it received from the primary."""

    primary: PostgresServer
    standby: PostgresServer
    programs: Path

    def url(self, database: str, attributes: str = "read-write") -> str:
        """One URL for both, as docs/database.md says."""
        hosts = f"{self.primary.folder},{self.standby.folder}"
        where = f"postgresql+psycopg://postgres@/{database}?host={hosts}"
        return f"{where}&target_session_attrs={attributes}"

    def stop_sending(self) -> None:
        """From here on the standby gets nothing."""
        where = f"host={self.primary.folder} user=postgres dbname=postgres"
        with contextlib.closing(psycopg.connect(where)) as connection:
            ((sender,),) = connection.execute("SELECT pid FROM pg_stat_replication")
        os.kill(sender, signal.SIGSTOP)

    def lose_primary(self) -> None:
        """All its processes end in the middle of whatever they do, as when its machine dies."""
        known = (self.primary.folder / "data/postmaster.pid").read_text().splitlines()
        number = int(known[0])
        os.kill(number, signal.SIGSTOP)  # it starts nobody, and tells nobody
        for process in [*_children(number), number]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        segment = int(known[6].split()[1])  # of shared memory, which nobody frees any more
        ctypes.CDLL(None).shmctl(segment, IPC_RMID, None)

    def promote(self) -> None:
        """The standby becomes the primary; returns when it takes writes."""
        _run(self.programs / "pg_ctl", "-D", self.standby.folder / "data", "-w", "promote")


@contextlib.contextmanager
def replicating(*, synchronous: bool) -> Iterator[Pair]:
    """A pair; `synchronous`: whatever is committed on the primary is on the standby too."""
    with contextlib.ExitStack() as stack:
        programs = stack.enter_context(_binaries())
        folders = [stack.enter_context(server_folder(programs)) for _ in range(2)]
        primary, standby = map(PostgresServer, folders)
        _make_primary(primary, programs, synchronous=synchronous)
        _make_standby(standby, primary, programs)
        yield Pair(primary, standby, programs)


def _make_primary(server: PostgresServer, programs: Path, *, synchronous: bool) -> None:
    data = server.folder / "data"
    _run(programs / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--no-locale", "-N")
    (data / "pg_hba.conf").write_text(RULES + REPLICATION)
    lines = (f"{name} = '{value}'\n" for name, value in SETTINGS.items())
    (data / "postgresql.conf").write_text("".join(lines) + MEMORY)
    # On the command line, so that the standby does not inherit it and wait for one of its own.
    _start(server, programs, "-c synchronous_standby_names=*" if synchronous else "")


def _make_standby(server: PostgresServer, primary: PostgresServer, programs: Path) -> None:
    source = f"host={primary.folder} user=postgres"
    data = server.folder / "data"
    _run(programs / "pg_basebackup", "-D", data, "-d", source, "-R", "-c", "fast", "-N")
    _start(server, programs)


def _start(server: PostgresServer, programs: Path, more: str = "") -> None:
    options = f"-c unix_socket_directories={server.folder} {more}"
    log = server.folder / "log"
    _run(
        programs / "pg_ctl",
        "-D",
        server.folder / "data",
        "-w",
        "-l",
        log,
        "-o",
        options,
        "start",
    )


def _children(number: int) -> list[int]:
    found = Path(f"/proc/{number}/task/{number}/children").read_text()
    return [int(child) for child in found.split()]
