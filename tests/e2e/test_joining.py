"""Several processes do one run together: by `--join`, and by `--processes`."""

import os
import signal
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, opened
from tests.e2e.processes import PIPES, finish, kill, suspend, wait_until


@pytest.fixture
def team(folder, simulate, gated, postgres_url):
    """Starts commands for one input of so many rows on one database.

    They get `answers` answers, and the others when `team.gate` is opened.
    """

    class Team:
        url = postgres_url

        def begin(self, number, *options, answers=0):
            self.rows = number
            self.simulator = simulate("--latency-ms", "20-40")
            self.gate = gated(self.simulator, answers)
            write_jsonl(folder.path / "rows.jsonl", rows(number))
            where = ("--endpoint", "simulator", "--base-url", self.gate.url)
            common = ("--database", postgres_url, "--concurrency", "8", "--json")
            self.command = ("run", "rows.jsonl", *where, *common, *options)
            return self

        def start(self, *more, **streams):
            return folder.start(*self.command, *more, **PIPES | streams)

        def check(self):
            return check_everything(folder, self.url, self.simulator, {"rows.jsonl": self.rows})

        def workers(self):
            """How many processes have something under way."""
            with opened(postgres_url) as ask:
                found = ask(
                    "SELECT DISTINCT invocation_id FROM v_attempts WHERE state = 'open'"
                )
            return len(found)

    return Team()


def test_three_join_and_one_of_them_is_killed(folder, team):
    team.begin(400, "--join", "-o", "out.jsonl", answers=100)
    processes = [team.start() for _ in range(3)]
    assert wait_until(lambda: team.workers() == 3, processes[0])
    kill(processes[2])
    team.gate.open()
    ends = [finish(process) for process in processes[:2]]
    assert [end.code for end in ends] == [0, 0], ends
    books = team.check()
    lost = [line for line in books.attempts.values() if line["state"] == "unknown"]
    assert 0 < len(lost) <= 8
    assert all(end.json["answered"] + end.json["elsewhere"] == 400 for end in ends)
    assert sorted(end.json["rows_written"] or 0 for end in ends) == [0, 400]
    assert len((folder.path / "out.jsonl").read_text().splitlines()) == 400
    assert count(team.url, "quota_leases", "true") <= 3  # that of the dead one expires


def test_rows_of_the_dead_go_before_those_that_nobody_has_begun(team):
    team.begin(800, "--join", answers=20)  # 8 at a time take 20 ms and more: two seconds
    first, second = team.start(), team.start()
    assert wait_until(lambda: team.workers() == 2, first)
    kill(second)
    team.gate.open()
    assert finish(first).code == 0
    team.check()
    lost = "SELECT row_number FROM v_attempts WHERE state = 'unknown'"
    again = f"attempt > 1 AND row_number IN ({lost})"
    later = f"sent_at > (SELECT max(sent_at) FROM v_attempts WHERE {again})"
    assert count(team.url, "v_attempts", later) > 100


def test_status_shows_who_does_the_run_and_who_is_silent(folder, team):
    team.begin(300, "--join", answers=100)
    first, second = team.start(), team.start(environment={"BATCHER_LEASE": "2s"})
    assert wait_until(lambda: team.workers() == 2, first)
    look = ("status", "--database", team.url)

    def seen():
        (run,) = folder.batcher(*look, "--json").json["runs"]
        return run

    # Who has just begun claims all of a quota, until it has told how much it needs.
    assert wait_until(lambda: seen()["limited_by"] == "", first)
    run = seen()
    assert {worker["pid"] for worker in run["workers"]} == {first.pid, second.pid}
    assert run["nodes"] == 1
    assert all(0 < worker["in_flight"] <= 8 for worker in run["workers"])
    assert all(worker["shards"] > 0 and worker["rows"] > 0 for worker in run["workers"])
    suspend(second)

    def silent():
        return [worker["pid"] for worker in seen()["workers"] if worker["lease_seconds"] < 0]

    assert wait_until(lambda: silent() == [second.pid], first)
    words = folder.batcher(*look).out
    assert "2 workers on 1 node" in words
    assert "silent, its lease ended" in words
    kill(second)
    team.gate.open()
    assert finish(first).code == 0
    assert "worker" not in folder.batcher(*look).out


def test_status_shows_what_limits_all_workers(folder, team):
    team.begin(600, "--join", answers=100)
    processes = [team.start("--rpm", 120) for _ in range(2)]
    assert wait_until(lambda: team.workers() == 2, processes[0])
    look = ("status", "--database", team.url)

    def limit():
        (run,) = folder.batcher(*look, "--json").json["runs"]
        return run["limited_by"]

    assert wait_until(lambda: limit().startswith("the quota of claude-"), processes[0])
    assert "limited   by the quota of claude-" in folder.batcher(*look).out
    for process in processes:
        process.send_signal(signal.SIGTERM)
    team.gate.open()
    assert [finish(process).code for process in processes] == [75, 75]


def test_a_worker_that_is_told_to_end_leaves_its_rows_to_the_other(team):
    team.begin(300, "--join", answers=100)
    first, second = team.start(), team.start()
    assert wait_until(lambda: team.workers() == 2, first)
    first.send_signal(signal.SIGTERM)
    team.gate.open()
    assert finish(first).code == 75
    ended = finish(second)
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    assert not [line for line in team.check().attempts.values() if line["state"] == "unknown"]


def test_a_worker_that_was_stopped_is_followed_and_sends_nothing_more(team):
    team.begin(300, "--join", answers=100)
    first, second = team.start(), team.start(environment={"BATCHER_LEASE": "2s"})
    assert wait_until(lambda: team.workers() == 2, first)
    suspend(second)
    stopped = datetime.now(UTC)
    team.gate.open()
    ended = finish(first)
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    sent = team.simulator.billed()
    second.send_signal(signal.SIGCONT)
    followed = finish(second)
    assert followed.code == 75, followed
    assert "has taken over" in followed.json["error"]
    attempts = team.check().attempts
    # What it had handed over to its event loop before it was stopped can still leave.
    since = [attempts[line["attempt_uid"]] for line in team.simulator.bill()[sent:]]
    assert len(since) <= 8
    assert all(datetime.fromisoformat(str(attempt["opened_at"])) < stopped for attempt in since)


def test_workers_keep_one_budget(team):
    team.begin(400, "--join", "--max-cost", "0.05")
    team.gate.open()
    ends = [finish(process) for process in [team.start(), team.start()]]
    assert {end.code for end in ends} == {77}, ends
    with opened(team.url) as ask:
        (budget,) = ask("SELECT cap, granted, settled FROM budgets")
    assert budget["granted"] + budget["settled"] <= budget["cap"]
    assert 0.5 * budget["cap"] < budget["settled"]


def test_a_second_worker_is_refused_unless_both_join(folder, team):
    team.begin(8)
    alone = team.start()
    assert wait_until(lambda: team.simulator.billed() > 0, alone)
    refused = folder.batcher(*team.command, "--join")
    assert refused.code == 75
    assert str(alone.pid) in refused.json["error"]
    kill(alone)


def test_other_settings_and_other_files_do_not_join(folder, team):
    team.begin(8, "--join")
    first = team.start()
    assert wait_until(lambda: team.simulator.billed() > 0, first)
    assert folder.batcher(*team.command, "--max-tokens", "99").code == 78
    assert folder.batcher(*team.command[:-1]).code == 75  # without --join
    write_jsonl(folder.path / "rows.jsonl", rows(9))
    assert folder.batcher(*team.command).code == 75
    kill(first)


@pytest.mark.parametrize("option", [("--join",), ("--processes", "2")])
def test_a_file_as_database_cannot_be_shared(folder, nobody, option):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    where = ("--endpoint", "simulator", "--base-url", nobody.url)
    refused = folder.batcher("run", "rows.jsonl", *where, *option)
    assert refused.code == 78
    assert f"{option[0]} needs a PostgreSQL database" in refused.err
    assert not nobody.was_called()
    assert not (folder.path / "batcher.db").exists()


def test_standard_input_cannot_be_shared(folder, nobody, postgres_url):
    where = ("--endpoint", "simulator", "--base-url", nobody.url, "--database", postgres_url)
    assert folder.batcher("run", "-", *where, "--join", stdin=b"{}").code == 2


def test_processes_end_with_one_summary(folder, team):
    team.begin(300, "--processes", "3", "-o", "out.jsonl", answers=100)
    process = team.start()
    assert wait_until(lambda: team.workers() == 3, process)
    team.gate.open()
    ended = finish(process)
    assert ended.code == 0, ended
    assert (ended.json["answered"], ended.json["rows_written"]) == (300, 300)
    assert ended.json["sent"] == len(team.check().attempts)


def children_of(process):
    listed = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return [int(number) for number in listed.split()]


def test_a_signal_drains_all_processes(team):
    team.begin(400, "--processes", "2", answers=100)
    process = team.start()
    assert wait_until(lambda: team.workers() == 2, process)
    process.send_signal(signal.SIGTERM)
    team.gate.open()
    ended = finish(process)
    assert (ended.code, ended.json["rows_left"]) == (75, True), ended
    assert count(team.url, "attempts", "state <> 'answered'") == 0
    assert ended.json["answered"] == count(team.url, "answers", "true")


def test_a_killed_process_is_done_without(team):
    team.begin(400, "--processes", "2", answers=100)
    process = team.start()
    assert wait_until(lambda: team.workers() == 2, process)
    (child,) = children_of(process)
    os.kill(child, signal.SIGKILL)
    team.gate.open()
    ended = finish(process)
    assert (ended.code, ended.json["rows_left"]) == (0, False), ended
    team.check()


def test_processes_end_with_the_one_that_was_started(team):
    team.begin(400, "--processes", "2", answers=100)
    process = team.start()
    assert wait_until(lambda: team.workers() == 2, process)
    (child,) = children_of(process)
    kill(process)
    team.gate.open()
    gone = subprocess.run(
        ["tail", "--pid", str(child), "-f", "/dev/null"], timeout=60, check=False
    )
    assert gone.returncode == 0
    assert finish(team.start()).code == 0
    team.check()
