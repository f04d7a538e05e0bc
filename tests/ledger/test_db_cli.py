"""`batcher db`, as a person types it."""

import resource
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from batcher.cli.menu import group
from batcher.clock import SystemClock
from batcher.errors import BatcherError, StorageError
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.maintenance import check_after_crash
from batcher.ledger.migrate import SHIPPED, current
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.sqlite_file import connect_sqlite, limited_look


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
    assert f"was created at schema {SHIPPED.head}" in done.stdout
    assert batcher("current", "--database", empty_database_url).stdout == f"{SHIPPED.head}\n"


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
    change(database_url, "UPDATE batcher_version SET version_num = '9999'")
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


def test_a_file_that_holds_no_ledger_is_not_backed_up(tmp_path):
    (tmp_path / "empty.db").touch()
    done = batcher("backup", tmp_path / "copy.db", "--database", tmp_path / "empty.db")
    assert done.returncode == 74
    assert "holds no ledger yet" in done.stderr
    assert not (tmp_path / "copy.db").exists()


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


# --- When something is wrong


def damage(url, table="attempts"):
    """Overwrite the first page of a table."""
    with closing(sqlite3.connect(url)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        query = "SELECT rootpage FROM sqlite_master WHERE name = ?"
        (page,) = connection.execute(query, (table,)).fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with Path(url).open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(b"\x55" * size)


def test_check_reads_the_whole_file_and_finds_damage(sqlite_url):
    damage(sqlite_url, "estimates")
    done = batcher("check", "--database", sqlite_url)
    assert done.returncode == 74
    assert "is damaged: restore a backup" in done.stderr


def test_a_look_after_a_crash_finds_damage_and_says_what_to_do(sqlite_url):
    unclean(sqlite_url)
    damage(sqlite_url, "estimates")
    engine = open_engine(sqlite_url)
    with pytest.raises(StorageError, match="is damaged: restore a backup"):
        check_after_crash(engine, SystemClock())
    engine.dispose()


def test_a_look_that_takes_too_long_is_given_up_and_said(sqlite_url):
    class Hasty(SystemClock):
        looks = 0

        def monotonic(self):
            self.looks += 100
            return self.looks

    unclean(sqlite_url)
    engine = open_engine(sqlite_url)
    with writing(engine) as connection:
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 20000)"
        connection.execute(text(f"CREATE TABLE many AS {numbers} SELECT i FROM n"))
        connection.execute(text("CREATE INDEX many_i ON many (i)"))
    assert "too large to be checked" in check_after_crash(engine, Hasty())
    assert "is whole" in check_after_crash(engine, SystemClock())
    engine.dispose()


def test_one_long_step_of_sqlite_does_not_outlast_the_time_for_a_look(sqlite_url):
    class Standing(SystemClock):
        def monotonic(self):
            return 0.0

    long = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 50000000)"
    with (
        closing(connect_sqlite(Path(sqlite_url), read_only=True)) as connection,
        pytest.raises(sqlite3.OperationalError, match="interrupted"),
        limited_look(connection, 0.0, Standing()),
    ):
        connection.execute(f"{long} SELECT count(*) FROM n").fetchall()


def unclean(url):
    """What a killed run leaves behind."""
    change(url, "INSERT INTO runs (key, created_at) VALUES ('k', 1)")
    change(
        url,
        "INSERT INTO invocations (run_id, started_at, host, pid, os_user, version, command,"
        " endpoint, base_url, lane, simulated, settings_digest, options, tags, settled_below,"
        " clean) SELECT run_id, 1, 'h', 1, 'u', 'v', 'c', 'e', 'b', 'live', 0, 'd', '{}', '{}',"
        " 0, 0 FROM runs",
    )


def test_a_database_that_was_closed_well_is_not_looked_at(database_url):
    engine = open_engine(database_url)
    assert check_after_crash(engine, SystemClock()) is None
    engine.dispose()


def limited(size, *arguments):
    """`batcher db …` in a process that can write no file beyond `size` bytes."""
    done = subprocess.run(
        [sys.executable, "-m", "batcher", "db", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )
    return Done(done.returncode, done.stdout, done.stderr)


def test_a_backup_onto_a_full_disk_leaves_nothing_and_says_so(sqlite_url, tmp_path):
    done = limited(50_000, "backup", tmp_path / "copy", "--database", sqlite_url)
    assert done.returncode == 73
    assert "cannot be written" in done.stderr
    assert not list(tmp_path.glob("copy*"))


def test_vacuum_on_a_full_disk_harms_nothing(sqlite_url):
    change(sqlite_url, "INSERT INTO runs (key, created_at) VALUES ('kept', 1)")
    done = limited(50_000, "vacuum", "--database", sqlite_url)
    assert done.returncode == 74, done
    assert batcher("check", "--database", sqlite_url).stdout == "no difference\n"


def test_a_backup_follows_no_link_that_somebody_planted(sqlite_url, tmp_path):
    (tmp_path / "copy").symlink_to(tmp_path / "elsewhere")
    done = batcher("backup", tmp_path / "copy", "--database", sqlite_url)
    assert done.returncode == 73
    assert not (tmp_path / "elsewhere").exists()
