"""Addresses, connections, and what drivers raise as sentences of ours."""

import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import pytest
from sqlalchemy import create_engine, event, text
from sqlalchemy.exc import IntegrityError, OperationalError

from batcher.clock import SystemClock
from batcher.errors import Busy, CannotCreate, ConfigurationError, StorageError, UsageError
from batcher.ledger import database_errors
from batcher.ledger.connect import open_engine, parse_url, reading, storage_errors, writing
from batcher.ledger.migrate import prepare
from batcher.ledger.sqlite_file import network_file_system
from batcher.ledger.write.transaction import Recorder
from tests.ledger.settling import RunLedger

SECRET = "hunter2@%"


@pytest.fixture
def engine(database_url):
    opened = open_engine(database_url)
    yield opened
    opened.dispose()


def one(engine, statement):
    with reading(engine) as connection:
        return connection.scalar(text(statement))


# --- addresses


def test_a_plain_path_and_a_sqlite_url_are_the_same_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    expected = tmp_path / "my ledger.db"
    for given in ("my ledger.db", "sqlite:///my ledger.db", f"sqlite:///{expected}"):
        assert parse_url(given).path == expected


@pytest.mark.parametrize("scheme", ["postgresql+psycopg", "postgresql", "postgres"])
def test_every_spelling_of_postgresql_uses_the_one_driver(scheme):
    address = parse_url(f"{scheme}://me@host/name")
    assert address.url.drivername == "postgresql+psycopg"
    assert address.path is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql+psycopg://me:hunter2%40%25@host/name",
        "postgresql+psycopg://me@host/name?password=hunter2%40%25&sslpassword=hunter2%40%25",
    ],
)
def test_a_password_is_never_shown(url):
    address = parse_url(url)
    for shown in (address.shown, address.option, repr(address), str(address)):
        assert "hunter2" not in shown
        assert "***" in shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        ":memory:",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://host/x",
        "sqlite:///a.db?mode=ro",
        "a\0.db",
        "l\udce4nder.db",
    ],
)
def test_what_is_no_ledger_is_refused(url):
    with pytest.raises(ConfigurationError):
        parse_url(url)


def test_the_home_of_a_user_who_is_not_known_is_a_folder_like_any_other(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_url("~nobody-here/a.db").path == tmp_path / "~nobody-here" / "a.db"


def test_a_url_that_cannot_be_read_is_refused_without_its_password():
    with pytest.raises(ConfigurationError, match="starts with postgresql://") as caught:
        parse_url("postgresql://me:hunter2@host:not-a-port/name")
    assert "hunter2" not in str(caught.value)


MOUNTS = """\
27 1 254:0 / / rw - ext4 /dev/vda rw
30 27 0:50 / /mnt/share rw - nfs4 server:/x rw
31 27 0:51 / /mnt/share/local rw - xfs /dev/vdb rw
32 27 0:52 / /mnt/with\\040blank rw - fuse.sshfs x rw
33 27 0:53 / /box rw - fuse.fuse-overlayfs x rw
34 27 0:54 / /twice rw - ext4 /dev/vdc rw
35 27 0:55 / /twice rw - cifs //server/x rw
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/home/me/batcher.db", None),
        ("/mnt/share/batcher.db", "nfs4"),
        ("/mnt/shared.db", None),
        ("/mnt/share/local/batcher.db", None),
        ("/mnt/with blank/batcher.db", "fuse.sshfs"),
        ("/box/batcher.db", None),
        ("/twice/batcher.db", "cifs"),
    ],
)
def test_network_file_systems_are_recognised(path, kind):
    assert network_file_system(Path(path), MOUNTS) == kind


@pytest.mark.parametrize(
    ("kind", "refused"),
    [
        *[(each, True) for each in (
            "lustre", "gpfs", "glusterfs", "fuse.glusterfs", "virtiofs", "beegfs", "ocfs2",
            "smb2",            "vboxsf", "prl_fs", "davfs", "drvfs",
        )],
        *[(each, False) for each in ("ext4", "xfs", "btrfs", "overlay", "ecryptfs", "fuseblk")],
    ],
)  # fmt: skip
def test_file_systems_that_machines_share_are_refused(kind, refused):
    mounts = f"1 0 0:1 / / rw - ext4 /dev/x rw\n2 1 0:2 / /mnt/x rw - {kind} source rw\n"
    assert (network_file_system(Path("/mnt/x/batcher.db"), mounts) == kind) is refused


def test_where_nothing_is_known_of_mounts_nothing_is_refused():
    assert network_file_system(Path("/home/me/batcher.db"), "") is None


def test_a_network_file_system_can_be_forced(tmp_path):
    assert parse_url(f"sqlite:///{tmp_path}/a.db?network=allow").any_file_system
    assert not parse_url(f"sqlite:///{tmp_path}/a.db").any_file_system


# --- connections


def test_a_new_file_belongs_to_its_owner_alone(tmp_path):
    path = tmp_path / "batcher.db"
    engine = open_engine(str(path))
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))
        names = ("batcher.db", "batcher.db-wal", "batcher.db-shm")
        assert {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in names} == {0o600}
    engine.dispose()


def test_commits_are_durable(engine):
    if engine.dialect.name == "sqlite":
        assert one(engine, "PRAGMA journal_mode") == "wal"
        assert one(engine, "PRAGMA synchronous") == 2
        assert one(engine, "PRAGMA busy_timeout") == 30_000
    else:
        assert one(engine, "SHOW synchronous_commit") == "on"
        assert one(engine, "SHOW timezone") == "UTC"
        assert "batcher pid" in one(engine, "SHOW application_name")


def test_the_isolation_of_transactions_is_ours_whatever_the_database_says(postgres_server):
    """Serializable ones fail beside others, and a run would end."""
    url = postgres_server.new_database()
    name = url.split("?")[0].rpartition("/")[2]
    postgres_server.execute(
        f"ALTER DATABASE {name} SET default_transaction_isolation = 'serializable'"
    )
    opened = open_engine(url)
    with writing(opened) as connection:
        assert connection.scalar(text("SHOW transaction_isolation")) == "read committed"
    assert one(opened, "SHOW transaction_isolation") == "repeatable read"
    opened.dispose()


def test_nothing_is_left_on_a_session_that_another_application_may_get(postgres_url):
    """No prepared statement either, whose plan would be that of an empty table for ever."""
    left = (
        "SELECT (SELECT COUNT(*) FROM pg_prepared_statements),"
        " (SELECT COUNT(*) FROM pg_settings WHERE source = 'session'),"
        " (SELECT COUNT(*) FROM pg_locks WHERE pid = pg_backend_pid()"
        "  AND locktype = 'advisory')"
    )
    ledger = RunLedger(postgres_url)
    with ledger.engine.connect() as connection:
        batch = Recorder(ledger.engine.dialect, ledger.scope, SystemClock())
        for _ in range(20):
            batch.write(connection, ledger.answered())
        connection.commit()
        raw = connection.connection.driver_connection
        assert raw.execute(left).fetchone() == (0, 0, 0)
    ledger.engine.dispose()


def test_a_schema_change_is_rolled_back_with_its_transaction(engine):
    def make_and_fail():
        with writing(engine) as connection:
            connection.execute(text("CREATE TABLE t (x INTEGER)"))
            connection.execute(text("INSERT INTO t VALUES (1)"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        make_and_fail()
    with writing(engine) as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER)"))


def test_a_reader_sees_one_state_while_others_write(engine):
    count = text("SELECT count(*) FROM price_books")
    insert = text(
        "INSERT INTO price_books (version, sha256, source, content) VALUES ('','','','')"
    )
    with reading(engine) as reader:
        assert reader.scalar(count) == 0
        with writing(engine) as writer:
            writer.execute(insert)
        assert reader.scalar(count) == 0
    assert one(engine, "SELECT count(*) FROM price_books") == 1


def test_a_read_only_engine_writes_nothing(database_url):
    engine = open_engine(database_url, read_only=True)
    assert not prepare(engine).created
    with (
        pytest.raises(StorageError, match=r"cannot be written|read-only"),
        writing(engine) as c,
    ):
        c.execute(text("UPDATE ledger_info SET value = 'x'"))
    engine.dispose()


def test_the_codes_of_sqlite_are_those_of_its_driver():
    names = ("PERM", "BUSY", "LOCKED", "READONLY", "INTERRUPT", "IOERR", "CORRUPT", "FULL")
    for name in (*names, "CANTOPEN", "AUTH", "NOTADB"):
        assert getattr(database_errors, name) == getattr(sqlite3, f"SQLITE_{name}"), name


def test_a_process_that_uses_a_server_imports_no_driver_of_sqlite(postgres_url):
    program = (
        "import sys\n"
        "import batcher.wiring.ready\n"
        "from batcher.ledger.connect import open_engine, reading\n"
        "with reading(open_engine(sys.argv[1])):\n"
        "    print('sqlite3' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program, postgres_url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_a_read_only_engine_makes_no_file(tmp_path):
    with pytest.raises(UsageError, match="there is no database"):
        open_engine(str(tmp_path / "absent.db"), read_only=True)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_in_a_folder_that_cannot_be_written_can_be_read(sqlite_url, tmp_path):
    """As another user, since root may write anywhere."""
    program = (
        "import os, sqlite3, sys\n"  # all, while it may
        "from batcher.ledger.connect import open_engine\n"
        "from batcher.ledger.migrate import current, require_head\n"
        "if os.geteuid() == 0:\n"
        "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
        "engine = open_engine('batcher.db', read_only=True)\n"
        "require_head(engine)\n"
        "print(current(engine))\n"
    )
    folder = Path(tempfile.mkdtemp(dir="/tmp"))
    shutil.copytree(tmp_path, folder, dirs_exist_ok=True)
    try:
        (folder / "batcher.db").chmod(0o444)
        folder.chmod(0o555)
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    finally:
        folder.chmod(0o755)
        shutil.rmtree(folder)
    assert done.stdout.strip(), done.stderr


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(CannotCreate, match=f"there is no folder {tmp_path}/absent"):
        open_engine(str(tmp_path / "absent" / "batcher.db"))


def test_a_folder_is_no_database(tmp_path):
    engine = open_engine(str(tmp_path))
    with pytest.raises(CannotCreate, match="cannot be opened"):
        prepare(engine)
    engine.dispose()


# --- what drivers raise


def test_a_file_that_is_no_database_is_said_to_be_none(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "x"}\n' * 100)
    engine = open_engine(str(path))
    with pytest.raises(StorageError, match="is not a SQLite database"):
        prepare(engine)
    engine.dispose()
    assert path.read_text().startswith('{"prompt"')


def test_a_damaged_file_is_said_to_be_damaged(sqlite_url):
    content = bytearray(Path(sqlite_url).read_bytes())
    content[4096 * 2 :] = b"\xff" * (len(content) - 4096 * 2)
    Path(sqlite_url).write_bytes(content)
    engine = open_engine(sqlite_url)
    with pytest.raises(StorageError, match="is damaged: restore a backup"):
        one(engine, "SELECT * FROM ledger_info")
    engine.dispose()


def test_a_full_disk_is_said_to_be_full(sqlite_url):
    engine = open_engine(sqlite_url)
    event.listen(engine, "connect", lambda raw, _: raw.execute("PRAGMA max_page_count=1"))
    with pytest.raises(StorageError, match="the disk is full"), writing(engine) as connection:
        connection.execute(text("CREATE TABLE t AS SELECT zeroblob(1000000) AS x"))
    engine.dispose()


def test_a_lock_of_another_program_is_said_to_be_one(sqlite_url):
    impatient = create_engine(f"sqlite:///{sqlite_url}", connect_args={"timeout": 0})
    with closing(sqlite3.connect(sqlite_url, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with (
            pytest.raises(Busy, match="is locked by another program"),
            storage_errors(sqlite_url),
            impatient.begin() as connection,
        ):
            connection.execute(text("UPDATE ledger_info SET value = 'x'"))
    impatient.dispose()


def test_data_that_a_column_refuses_is_left_to_the_writer(engine):
    with pytest.raises(IntegrityError), writing(engine) as connection:
        connection.execute(text("INSERT INTO ledger_info (name, value) VALUES ('a', NULL)"))


def test_a_server_that_is_not_there_is_said_to_be_out_of_reach(tmp_path):
    engine = open_engine(f"postgresql://me:{'hunter2'}@/x?host={tmp_path}")
    with pytest.raises(StorageError, match="check that the server runs") as caught:
        prepare(engine)
    assert "hunter2" not in str(caught.value)


def prepare_once(url):
    engine = open_engine(url)
    try:
        prepare(engine)
    finally:
        engine.dispose()


@pytest.mark.parametrize(
    "parameter",
    [
        "ssl=true", "pgbouncer=true", "prepare_threshold=0", "autocommit=true", "row_factory=x",
        "port=abc", "connect_timeout=abc", "sslmode=foo", "target_session_attrs=x",
        "service=nope", "options=--nonsense", "options=-cfoo", "client_encoding=klingon",
        "options=-csearch_path%3Dnowhere", "schema=not_there", "keepalives=abc",
        "keepalives_idle=-4", "tcp_user_timeout=1.5", "keepalives=1&keepalives=0",
        "ssl_min_protocol_version=9",
    ],
)  # fmt: skip
def test_a_parameter_that_is_not_understood_is_named(postgres_server, parameter):
    url = postgres_server.new_database()
    with pytest.raises(ConfigurationError, match=f"(?i){parameter.split('=')[0][:4]}"):
        prepare_once(f"{url}&{parameter}")
    postgres_server.drop(url)


def test_a_variable_that_is_not_understood_is_named(postgres_server, monkeypatch):
    url = postgres_server.new_database()
    monkeypatch.setenv("PGOPTIONS", "-c foo")
    with pytest.raises(ConfigurationError, match="the environment has PGOPTIONS, which count"):
        prepare_once(url)
    monkeypatch.delenv("PGOPTIONS")
    postgres_server.drop(url)


@pytest.mark.parametrize(
    ("said", "password", "shown"),
    [
        ("user ro may not read rows", "ro", "user *** may not read rows"),
        ("host=db user=plainer password=plain", "plain", "host=db user=plainer password=***"),
        ("postgresql://ro:ro@host/x", "ro", "postgresql://ro:***@host/x"),
        ("it is correct-horse-battery!", "correct-horse", "it is ***-battery!"),
        ("no password supplied", "p", "no password supplied"),
    ],
)
def test_a_short_password_garbles_no_word(said, password, shown):
    error = OperationalError(None, None, Exception(said))
    assert f"({shown})" in str(database_errors.translate(error, "x", [password]))


def test_all_that_the_driver_says_is_shown(tmp_path):
    engine = open_engine(f"postgresql://me@/x?host={tmp_path}/a,{tmp_path}/b")
    with pytest.raises(StorageError) as caught:
        prepare(engine)
    assert f"{tmp_path}/a" in str(caught.value)
    assert f"{tmp_path}/b" in str(caught.value)


def test_a_refused_password_is_said_to_be_refused(postgres_server):
    postgres_server.execute("CREATE ROLE guarded LOGIN PASSWORD 'right'")
    url = f"postgresql://guarded:hunter2@/postgres?host={postgres_server.folder}"
    engine = open_engine(url)
    with pytest.raises(StorageError, match="check the user and the password") as caught:
        prepare(engine)
    assert "hunter2" not in str(caught.value)


def test_a_server_database_that_is_not_there_is_to_be_created_first(postgres_server):
    engine = open_engine(postgres_server.url("absent"))
    with pytest.raises(StorageError, match="createdb"):
        prepare(engine)


def test_missing_rights_are_told(postgres_server, postgres_url):
    postgres_server.execute("CREATE ROLE stranger LOGIN")
    engine = open_engine(postgres_url.replace("postgres@", "stranger@"))
    with pytest.raises(StorageError, match="grant the rights"):
        prepare(engine)
    engine.dispose()


def test_without_the_driver_the_extra_to_install_is_named():
    program = (
        "import sys\n"
        "sys.modules['psycopg'] = None\n"
        "from batcher.ledger.connect import open_engine\n"
        "open_engine('postgresql://me@host/x')\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "pip install 'messages-batcher[postgres]'" in done.stderr
