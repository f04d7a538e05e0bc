"""Who may run at once, and who is told about whom."""

import json
import re
import signal
import stat
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

from batcher.errors import Busy, CannotCreate
from batcher.ledger.owner.lock import hold_database

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
        assert set(line) == {"pid", "host", "user", "started_at", "command", "process"}
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
    with pytest.raises(CannotCreate, match="there is no such folder"):
        hold(str(tmp_path / "absent" / "batcher.db"))


def eventually(attempt, times=2000):
    """The server notices a closed connection when it next looks: ask it again."""
    for _ in range(times - 1):
        try:
            return attempt()
        except Busy:
            continue
    return attempt()
