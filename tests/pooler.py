"""A real PgBouncer in front of the tests' PostgreSQL server, where one is installed.

Debian: `apt-get install pgbouncer`. Where it is not there, tests that need it are skipped, and
the last lines of a test run say so.
"""

import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from tests.databases import NOBODY, USER, PostgresServer

__all__ = ["Pooler", "pooling"]

MISSING = "NOT TESTED: PgBouncer, which is not installed; on Debian: apt-get install pgbouncer"
SETTINGS = """[databases]
* = host={server} user=postgres
[pgbouncer]
pool_mode = {mode}
unix_socket_dir = {folder}
listen_port = {port}
auth_type = any
default_pool_size = {sessions}
logfile = {folder}/log
pidfile = {folder}/pid
"""
PORT = 6432


@dataclass(frozen=True, slots=True)
class Pooler:
    """One that runs. `folder` holds its socket and its log."""

    folder: Path

    def url(self, direct: str) -> str:
        """The same database as `direct`, through it."""
        return f"{direct.split('?')[0]}?host={self.folder}&port={PORT}"

    def connect(self, direct: str) -> psycopg.Connection:
        """A connection such as another application has, each statement by itself."""
        name = direct.split("?")[0].rpartition("/")[2]
        where = f"host={self.folder} port={PORT} user=postgres dbname={name}"
        return psycopg.connect(where, autocommit=True, prepare_threshold=None)


@contextmanager
def pooling(
    server: PostgresServer, mode: str, *, sessions: int = 2, more: str = ""
) -> Iterator[Pooler]:
    """A pooler in `mode` (transaction or session) with so many sessions of the server.

    `more` are further lines of its settings.
    """
    program = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
    if program is None:
        pytest.skip(MISSING)
    with tempfile.TemporaryDirectory(prefix="batcher-pool-", dir="/tmp") as name:
        folder = Path(name)
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            SETTINGS.format(
                server=server.folder, mode=mode, folder=folder, port=PORT, sessions=sessions
            )
            + more
        )
        if USER:
            shutil.chown(folder, NOBODY, NOBODY)
            folder.chmod(0o755)
        with subprocess.Popen(
            [program, str(settings)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **USER,
        ) as process:
            try:
                _wait(process)
                # What it says later is read, too: it stands still when the pipe is full.
                threading.Thread(target=process.stderr.read, daemon=True).start()
                yield Pooler(folder)
            finally:
                process.kill()


def _wait(process: subprocess.Popen) -> None:
    """Until it listens: it says so."""
    for line in process.stderr:
        if "process up" in line:
            return
    pytest.fail("PgBouncer did not start")
