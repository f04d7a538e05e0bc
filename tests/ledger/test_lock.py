"""Who may run at once, and who is told about whom."""

import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import event

from batcher.errors import Busy, CannotCreate, ConfigurationError, StorageError
from batcher.ledger.connect import open_engine
from batcher.ledger.owner.database_file import check_log
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.owner.session import Session

HOLD = """
import sys
from batcher.ledger.owner.lock import hold_database
with hold_database(sys.argv[1], sys.argv[2], command="batcher run rows.jsonl"):
    print("held", flush=True)
    sys.stdin.readline()
"""

PARENT = """
import subprocess, sys
from batcher.ledger.owner.lock import hold_database
with hold_database(sys.argv[1], "a", command="batcher run rows.jsonl"):
    child = subprocess.Popen(["cat"], close_fds=False)
    print(child.pid, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def holder(url, run_key="a", program=HOLD):
    """A process that holds the database until the body ends."""
    command = [sys.executable, "-c", program, url, run_key]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        process.said = process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.communicate()


def hold(url, run_key="a"):
    with hold_database(url, run_key, command="batcher run other.jsonl"):
        return True


def test_the_same_run_twice_is_refused_and_told_who_holds_it(database_url):
    with holder(database_url) as other, pytest.raises(Busy) as caught:
        hold(database_url)
    assert re.search(rf"{other.pid} of \w+ on .*, since \d{{4}}-", str(caught.value))
    assert caught.value.exit_code == 75
    assert "run the same command again" in str(caught.value)


def test_a_sqlite_file_takes_one_run_whatever_its_name(sqlite_url):
    with holder(sqlite_url, "a"), pytest.raises(Busy, match=r"\(batcher run rows.jsonl\)"):
        hold(sqlite_url, "b")


def test_different_runs_go_side_by_side_on_a_server(postgres_url):
    with holder(postgres_url, "a"):
        assert hold(postgres_url, "b")


def test_the_whole_database_is_free_only_when_no_run_is_on(database_url):
    with holder(database_url, "a"), pytest.raises(Busy, match="another run"):
        hold(database_url, None)
    assert hold(database_url, None)


def test_no_run_starts_while_the_whole_database_is_held(database_url):
    held = hold_database(database_url, None, command="batcher db upgrade")
    with held, pytest.raises(Busy):
        hold(database_url, "a")


def test_it_is_free_when_the_holder_has_ended(database_url):
    assert hold(database_url)
    assert hold(database_url)


def test_it_is_free_after_the_body_raised(database_url):
    with pytest.raises(ZeroDivisionError), hold_database(database_url, "a", command="x"):
        raise ZeroDivisionError
    assert hold(database_url)


def test_a_killed_holder_frees_it(sqlite_url):
    with holder(sqlite_url) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert hold(sqlite_url)


def test_a_killed_holder_frees_it_on_a_server_too(postgres_url):
    with holder(postgres_url) as other:
        other.send_signal(signal.SIGKILL)
        other.wait()
        assert eventually(lambda: hold(postgres_url))


def test_a_child_process_does_not_keep_the_lock(sqlite_url):
    with holder(sqlite_url, program=PARENT) as parent:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert Path(f"/proc/{int(parent.said)}").exists()
        assert hold(sqlite_url)


def test_the_lock_file_stays_and_says_who_holds_it(sqlite_url):
    lock = Path(f"{sqlite_url}.lock")
    with hold_database(sqlite_url, "a", command="batcher run x"):
        line = json.loads(lock.read_text())
        assert set(line) == {
            "pid",
            "host",
            "user",
            "started_at",
            "command",
            "process",
            "commits",
        }
        assert line["command"] == "batcher run x"
    assert lock.read_text() == ""
    assert stat.S_IMODE(lock.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["", "garbage", '{"pid": "x"}', "\xff" * 10])
def test_a_lock_file_that_cannot_be_read_hinders_nobody(sqlite_url, content):
    Path(f"{sqlite_url}.lock").write_text(content)
    with hold_database(sqlite_url, "a", command="x"):
        Path(f"{sqlite_url}.lock").write_text(content)
        with pytest.raises(Busy, match=r"holds the database /[^:]*; run the same"):
            hold(sqlite_url)


def test_a_database_in_a_missing_folder_is_refused(tmp_path):
    with pytest.raises(CannotCreate, match="there is no folder"):
        hold(str(tmp_path / "absent" / "batcher.db"))


def eventually(attempt, times=2000):
    """The server notices a closed connection when it next looks: ask it again."""
    for _ in range(times - 1):
        try:
            return attempt()
        except Busy:
            continue
    return attempt()


# --- One file, whatever it is called


def test_a_lock_file_that_is_removed_or_replaced_lets_nobody_in(sqlite_url):
    lock = Path(f"{sqlite_url}.lock")
    with holder(sqlite_url):
        lock.unlink()
        with pytest.raises(Busy):
            hold(sqlite_url)
        lock.write_text("of somebody else")
        with pytest.raises(Busy):
            hold(sqlite_url)


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_a_lock_file_that_is_a_link_leads_to_no_write(sqlite_url, tmp_path, link):
    kept = tmp_path / "kept"
    kept.write_text("what somebody keeps")
    link(Path(f"{sqlite_url}.lock"), kept)
    with hold_database(sqlite_url, "a", command="x"), pytest.raises(Busy):
        hold(sqlite_url)
    assert kept.read_text() == "what somebody keeps"


def test_a_pipe_in_the_place_of_the_lock_file_is_not_waited_for(sqlite_url):
    os.mkfifo(f"{sqlite_url}.lock")
    assert hold(sqlite_url)


def test_a_hard_link_of_a_held_file_is_busy_and_of_a_free_one_refused(sqlite_url, tmp_path):
    link = tmp_path / "link.db"
    with holder(sqlite_url):
        link.hardlink_to(sqlite_url)
        with pytest.raises(Busy):
            hold(str(link))
    for name in (str(link), sqlite_url):
        with pytest.raises(ConfigurationError, match=r"has 2 names .* -samefile"):
            hold(name)
        for read_only in (False, True):
            with pytest.raises(ConfigurationError, match="has 2 names"):
                open_engine(name, read_only=read_only)
    link.unlink()
    assert hold(sqlite_url)


def test_a_symbolic_link_has_the_lock_of_what_it_leads_to(sqlite_url, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(sqlite_url)
    with holder(str(link)), pytest.raises(Busy, match=r"\(batcher run rows.jsonl\)"):
        hold(sqlite_url)


def test_the_mount_of_a_held_file_is_busy(sqlite_url, tmp_path):
    mount = tmp_path / "elsewhere.db"
    mount.touch()
    if subprocess.run(["mount", "--bind", sqlite_url, mount], check=False).returncode:
        pytest.skip("only who may mount can do this")
    try:
        with holder(sqlite_url), pytest.raises(Busy):
            hold(str(mount))
    finally:
        subprocess.run(["umount", mount], check=True)


def test_a_file_that_is_replaced_is_another(sqlite_url, tmp_path):
    with hold_database(sqlite_url, "a", command="x") as held:
        held.check_file()
        Path(sqlite_url).rename(tmp_path / "moved.db")
        with pytest.raises(StorageError, match="removed or replaced"):
            held.check_file()
        Path(sqlite_url).touch()
        with pytest.raises(StorageError, match="removed or replaced"):
            held.check_file()
        Path(sqlite_url).unlink()
        (tmp_path / "moved.db").rename(sqlite_url)
        held.check_file()


def test_no_commit_goes_into_a_file_that_was_replaced(sqlite_url, tmp_path):
    with hold_database(sqlite_url, "a", command="x") as held:
        engine = open_engine(sqlite_url)
        with Session(engine, file=held.file) as session:
            shutil.copy(sqlite_url, tmp_path / "copy.db")
            (tmp_path / "copy.db").rename(sqlite_url)
            with pytest.raises(StorageError, match="removed or replaced"):
                session.transact(
                    lambda c: c.exec_driver_sql("UPDATE ledger_info SET value = 1")
                )
        engine.dispose()


def test_no_unread_answer_of_a_checkpoint_is_in_the_way_of_a_commit(sqlite_url):
    """It was, until its cursor was collected: some runs ended with 74 at their first commit."""
    kept = []
    with hold_database(sqlite_url, "a", command="x") as held:
        engine = open_engine(sqlite_url)
        event.listen(engine, "after_cursor_execute", lambda _, cursor, *__: kept.append(cursor))
        with Session(engine, file=held.file) as session:
            session.transact(
                lambda c: c.exec_driver_sql("UPDATE ledger_info SET value = value")
            )
        engine.dispose()
    assert kept


# Leaving the log behind is possible only where no other process has a connection.
ALONE = """
import sqlite3, sys
try:
    connection = sqlite3.connect(sys.argv[1], timeout=0, isolation_level=None)
    print(*connection.execute("PRAGMA journal_mode = DELETE").fetchone())
except sqlite3.OperationalError:
    print("others")
"""


def is_alone(path):
    command = [sys.executable, "-c", ALONE, path]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def descriptors():
    return len([*Path("/proc/self/fd").iterdir()])


def test_the_locks_of_a_connection_outlive_the_lock_of_its_owner(sqlite_url):
    """Closing a descriptor of a file takes all locks of the process on it away."""
    held = hold_database(sqlite_url, "a", command="x")
    held.__enter__()
    engine = open_engine(sqlite_url)
    connection = engine.connect()
    connection.exec_driver_sql("SELECT 1 FROM ledger_info").all()
    with pytest.raises(Busy):  # has a descriptor of its own, and gives it back
        hold(sqlite_url)
    held.__exit__(None, None, None)
    before = descriptors()
    assert is_alone(sqlite_url) == "others\n"
    connection.close()
    engine.dispose()
    assert before - descriptors() >= 4  # file, log and two that waited
    assert is_alone(sqlite_url) == "delete\n"


def test_a_copy_by_another_program_before_a_runs_first_commit_is_whole(sqlite_url, tmp_path):
    """The mark of a run that has begun stands in the main file: it says nothing of a copy."""
    engine = open_engine(sqlite_url)
    with hold_database(sqlite_url, "a", command="run") as held, Session(engine, file=held.file):
        with (
            closing(sqlite3.connect(sqlite_url)) as whole,
            closing(sqlite3.connect(tmp_path / "b")) as copy,
        ):
            whole.backup(copy)
        check_log(tmp_path / "b")
    engine.dispose()
