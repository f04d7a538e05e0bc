"""`batcher db`, as a person types it."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from batcher.cli import group
from batcher.errors import BatcherError
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.lock import hold_database
from batcher.ledger.migrate import HEAD, current, downgrade


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


def batcher(*arguments):
    """What `batcher db …` prints and exits with, in this process: it is quicker."""
    done = CliRunner().invoke(group, ["db", *map(str, arguments)])
    if isinstance(done.exception, BatcherError):  # `main` prints it
        return Done(done.exception.exit_code, done.stdout, str(done.exception))
    return Done(done.exit_code, done.stdout, done.stderr)


def change(url, statement):
    engine = open_engine(url)
    with writing(engine) as connection:
        connection.execute(text(statement))
    engine.dispose()


def revision_of(url):
    engine = open_engine(url)
    found = current(engine)
    engine.dispose()
    return found


def test_upgrade_makes_a_ledger_of_an_empty_database(empty_database_url):
    done = batcher("upgrade", "--database", empty_database_url)
    assert done.returncode == 0, done.stderr
    assert f"was created at schema {HEAD}" in done.stdout
    assert batcher("current", "--database", empty_database_url).stdout == f"{HEAD}\n"


def test_upgrade_brings_an_older_ledger_to_head(database_url):
    engine = open_engine(database_url)
    downgrade(engine, "0001")
    engine.dispose()
    done = batcher("upgrade", "--database", database_url)
    assert f"went from schema 0001 to schema {HEAD}" in done.stdout
    assert batcher("check", "--database", database_url).returncode == 0


def test_upgrade_of_a_ledger_at_head_says_so(sqlite_url):
    assert "is already at schema" in batcher("upgrade", "--database", sqlite_url).stdout


def test_upgrade_waits_for_nobody_while_a_run_is_on(database_url):
    with hold_database(database_url, "a", command="batcher run rows.jsonl"):
        done = batcher("upgrade", "--database", database_url)
    assert done.returncode == 75
    assert "another run" in done.stderr


def test_an_error_is_one_sentence_and_an_exit_code(sqlite_url):
    command = [sys.executable, "-m", "batcher", "db", "backup", sqlite_url]
    done = subprocess.run(
        [*command, "--database", sqlite_url], capture_output=True, text=True, check=False
    )
    assert done.returncode == 73
    assert done.stderr == f"batcher: the file {sqlite_url} is there already: name a new one\n"


def test_upgrade_refuses_a_newer_ledger(database_url):
    change(database_url, "UPDATE alembic_version SET version_num = '9999'")
    done = batcher("upgrade", "--database", database_url)
    assert done.returncode == 78
    assert "9999" in done.stderr
    assert revision_of(database_url) == "9999"


def test_check_tells_differences_and_exits_with_1(database_url):
    assert batcher("check", "--database", database_url).stdout == "no difference\n"
    change(database_url, "DROP VIEW v_failures")
    done = batcher("check", "--database", database_url)
    assert (done.returncode, done.stdout.count("\n")) == (1, 1)
    assert "v_failures" in done.stdout


def test_current_of_an_empty_database_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "batcher.db").touch()
    assert batcher("current").stdout == "empty\n"


@pytest.mark.parametrize("command", ["current", "check", "vacuum"])
def test_a_mistyped_name_makes_no_file(tmp_path, command):
    done = batcher(command, "--database", tmp_path / "absent.db")
    assert done.returncode == 2
    assert "there is no database" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_backup_is_a_ledger_with_the_same_rows_also_while_a_run_writes(sqlite_url, tmp_path):
    change(sqlite_url, "INSERT INTO runs (key, created_at) VALUES ('kept', 1)")
    copy = tmp_path / "copy.db"
    with closing(sqlite3.connect(sqlite_url, isolation_level=None)) as writer:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("INSERT INTO runs (key, created_at) VALUES ('not yet', 1)")
        assert batcher("backup", copy, "--database", sqlite_url).returncode == 0
    assert batcher("check", "--database", copy).returncode == 0
    engine = open_engine(str(copy), read_only=True)
    with reading(engine) as connection:
        assert connection.scalars(text("SELECT key FROM runs")).all() == ["kept"]
    engine.dispose()
    assert copy.stat().st_mode & 0o777 == 0o600


def test_a_backup_overwrites_nothing(sqlite_url, tmp_path):
    taken = tmp_path / "taken"
    taken.write_text("mine")
    done = batcher("backup", taken, "--database", sqlite_url)
    assert done.returncode == 73
    assert taken.read_text() == "mine"


def test_a_backup_that_cannot_be_written_leaves_nothing(sqlite_url, tmp_path):
    done = batcher("backup", tmp_path / "absent" / "copy.db", "--database", sqlite_url)
    assert done.returncode == 73
    assert "cannot be written" in done.stderr
    assert not list(tmp_path.glob("**/*.part"))


def test_the_tool_for_a_backup_of_a_server_is_named(postgres_url):
    done = batcher("backup", "copy", "--database", postgres_url)
    assert done.returncode == 78
    assert "pg_dump --format=custom --file=copy 'postgresql://" in done.stderr


def test_vacuum_gives_space_back(sqlite_url):
    change(sqlite_url, "CREATE TABLE big AS SELECT zeroblob(3000000) AS x")
    change(sqlite_url, "DROP TABLE big")
    assert batcher("vacuum", "--database", sqlite_url).returncode == 0
    assert Path(sqlite_url).stat().st_size < 1_000_000


def test_vacuum_works_on_a_server(postgres_url):
    done = batcher("vacuum", "--database", postgres_url)
    assert done.returncode == 0, done.stderr
    assert " bytes before, " in done.stdout


def test_vacuum_is_refused_while_a_run_is_on(sqlite_url):
    with hold_database(sqlite_url, "a", command="batcher run rows.jsonl"):
        assert batcher("vacuum", "--database", sqlite_url).returncode == 75
