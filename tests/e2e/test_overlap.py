"""Two runs at once: refused where they would meet, side by side where they would not."""

import socket
import subprocess

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything, open_books
from tests.e2e.ledgers import count
from tests.e2e.processes import finish, kill, suspend, wait_until


@pytest.fixture
def long_run(folder, simulate):
    """Starts a run of a named input that would last for minutes, and waits until it pays."""
    simulator = simulate()

    def start(name, database):
        slow = [
            {"prompt": f"{name} {i} [[latency:60000]]", "model": "claude-haiku-4-5"}
            for i in range(8)
        ]
        write_jsonl(folder.path / name, slow)
        before = simulator.billed()
        process = folder.start(*command(name, database))
        assert wait_until(lambda: simulator.billed() > before, process)
        return process

    def command(name, database):
        where = ("--endpoint", "simulator", "--base-url", simulator.url)
        return ("run", name, *where, "--database", database)

    start.command, start.simulator = command, simulator
    return start


def test_a_second_run_on_a_sqlite_file_is_refused_and_told_who_holds_it(folder, long_run):
    holder = long_run("rows.jsonl", "batcher.db")
    sent = long_run.simulator.billed()
    write_jsonl(folder.path / "other.jsonl", rows(3))
    refused = folder.batcher(*long_run.command("other.jsonl", "batcher.db"))
    assert refused.code == 75
    assert str(holder.pid) in refused.err
    assert socket.gethostname() in refused.err
    assert long_run.simulator.billed() == sent


def test_a_killed_holder_leaves_no_lock(folder, long_run):
    kill(long_run("rows.jsonl", "batcher.db"))
    write_jsonl(folder.path / "other.jsonl", rows(3))
    assert folder.batcher(*long_run.command("other.jsonl", "batcher.db")).code == 0
    assert count(str(folder.path / "batcher.db"), "v_attempts", "state = 'open'") == 0


def test_a_stopped_process_still_holds_its_database(folder, long_run):
    holder = long_run("rows.jsonl", "batcher.db")
    suspend(holder)
    assert folder.batcher(*long_run.command("rows.jsonl", "batcher.db")).code == 75


def test_the_same_file_by_another_name_is_the_same_database(folder, long_run):
    long_run("rows.jsonl", "batcher.db")
    (folder.path / "link.db").symlink_to("batcher.db")
    for name in ("link.db", f"sqlite:///{folder.path}/batcher.db", "./batcher.db"):
        assert folder.batcher(*long_run.command("rows.jsonl", name)).code == 75


def test_no_name_and_no_lost_lock_file_makes_it_another_database(folder, long_run):
    holder = long_run("rows.jsonl", "batcher.db")
    sent = long_run.simulator.billed()
    (folder.path / "hard.db").hardlink_to(folder.path / "batcher.db")
    (folder.path / "batcher.db.lock").unlink()
    (folder.path / "batcher.db.lock").symlink_to("rows.jsonl")
    kept = (folder.path / "rows.jsonl").read_bytes()
    for name in ("batcher.db", "hard.db"):
        refused = folder.batcher(*long_run.command("rows.jsonl", name))
        assert refused.code == 75, refused.err
    assert long_run.simulator.billed() == sent
    assert holder.poll() is None
    assert (folder.path / "rows.jsonl").read_bytes() == kept


def test_a_file_with_several_names_is_refused(folder, long_run):
    kill(long_run("rows.jsonl", "batcher.db"))
    sent = long_run.simulator.billed()
    (folder.path / "hard.db").hardlink_to(folder.path / "batcher.db")
    for words in (long_run.command("rows.jsonl", "hard.db"), ("report",), ("verify",)):
        refused = folder.batcher(*words)
        assert refused.code == 78, refused.err
        assert "names (hard links)" in refused.err
    assert long_run.simulator.billed() == sent


def test_reading_is_possible_while_a_run_is_on(folder, long_run):
    holder = long_run("rows.jsonl", "batcher.db")
    for words in (("report",), ("status",), ("export", "-o", "out.jsonl")):
        told = folder.batcher(*words)
        assert told.code == 0, told.err
    assert holder.poll() is None


def test_on_a_server_the_same_run_twice_is_refused(folder, long_run, postgres_url):
    holder = long_run("rows.jsonl", postgres_url)
    refused = folder.batcher(*long_run.command("rows.jsonl", postgres_url))
    assert refused.code == 75
    assert str(holder.pid) in refused.err
    assert socket.gethostname() in refused.err


def test_on_a_server_two_runs_work_side_by_side(folder, simulate, postgres_server):
    url = postgres_server.new_database()  # both find it empty, and want to make its tables
    simulator = simulate("--latency-ms", "5-30")
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    processes, pipe = [], {"stderr": subprocess.PIPE}
    for name, first in (("a.jsonl", 0), ("b.jsonl", 1000)):
        write_jsonl(folder.path / name, rows(200, first=first))
        command = ("run", name, *where, "--database", url)
        processes.append(folder.start(*command, **pipe))
    ends = [finish(process) for process in processes]
    assert [end.code for end in ends] == [0, 0], ends
    inputs = {"a.jsonl": 200, "b.jsonl": 200}
    books = check_everything(folder, url, simulator, inputs)
    assert {line["run_id"] for line in books.answers} == {1, 2}


def test_one_run_of_a_server_does_not_recover_the_attempts_of_a_living_one(
    folder, long_run, postgres_url
):
    long_run("slow.jsonl", postgres_url)
    write_jsonl(folder.path / "quick.jsonl", rows(5))
    assert folder.batcher(*long_run.command("quick.jsonl", postgres_url)).code == 0
    books = open_books(postgres_url, long_run.simulator.bill())
    states = {line["source"]: line["state"] for line in books.attempts.values()}
    assert states == {"slow.jsonl": "open", "quick.jsonl": "answered"}


def test_status_watches_a_run_until_it_ends(folder, long_run):
    holder = long_run("rows.jsonl", "batcher.db")
    with (folder.path / "watched.txt").open("w+") as shown:
        watcher = folder.start("status", "--watch", stdout=shown)
        seen = (folder.path / "watched.txt").read_text
        assert wait_until(lambda: "is running" in seen(), watcher)
        kill(holder)
        assert watcher.wait(60) == 0
        assert "died without a word" in seen()


def test_status_of_several_runs_is_a_line_each_the_newest_first(folder, simulate):
    where = ("--endpoint", "simulator", "--base-url", simulate().url)
    for name in ("first.jsonl", "second.jsonl"):
        write_jsonl(folder.path / name, rows(2))
        assert folder.batcher("run", name, *where, "--name", name).code == 0
    lines = folder.batcher("status").out.splitlines()
    assert [line.split()[:4] for line in lines[2:4]] == [
        ["2", "second.jsonl", "2", "2"],
        ["1", "first.jsonl", "2", "2"],
    ]
