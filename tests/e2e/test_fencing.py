"""A run on PostgreSQL that was suspended, and wakes up when another has taken its place."""

import os
import signal
import subprocess

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read
from tests.e2e.processes import finish, wait_until

ROWS = 80
INPUTS = {"rows.jsonl": ROWS}
WAKES = ("--if-running", "wait")


@pytest.fixture
def suspended(folder, simulate, postgres_url):
    """A run that was stopped in the middle, its simulator and its command; leases are short.

    All answers take equally long, so eight requests leave together, and then none for a while:
    it is stopped when all of its open ones were billed and none is answered.
    """
    simulator = simulate("--latency-ms", "700")
    folder.environment["BATCHER_LEASE"] = "1s"
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    command = ("run", *INPUTS, *where, "--database", postgres_url, "--concurrency", 8)
    process = folder.start(*command, stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 24, process)
    os.kill(process.pid, signal.SIGSTOP)
    return process, simulator, command


def wake(process):
    os.kill(process.pid, signal.SIGCONT)
    return finish(process)


def test_a_woken_owner_sends_nothing_and_records_late_what_it_had_paid(
    folder, suspended, postgres_url
):
    process, simulator, command = suspended
    follower = folder.batcher(*command, *WAKES)
    assert follower.code == 0, follower.err
    billed = simulator.billed()
    ended = wake(process)
    assert (ended.code, simulator.billed()) == (75, billed)
    assert "has taken over" in ended.err.splitlines()[-1]
    assert "Traceback" not in ended.err
    assert "never retrieved" not in ended.err
    check_everything(folder, postgres_url, simulator, INPUTS)
    late = count(postgres_url, "v_attempts", "state = 'late'")
    assert late == billed - ROWS > 0
    assert count(postgres_url, "invocations", "ended_at IS NULL") == 0
    assert not list(folder.path.glob("*lifeboat*"))


def test_a_late_answer_is_the_answer_of_a_row_that_has_none(folder, suspended, postgres_url):
    process, simulator, command = suspended
    follower = folder.batcher(*command, *WAKES, "--on-unknown", "hold")
    assert follower.code == 65, follower.err
    held = count(postgres_url, "v_failures", "kind = 'held'")
    assert 0 < held <= 8
    assert wake(process).code == 75
    assert count(postgres_url, "v_failures") == 0
    assert folder.batcher(*command).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS, "nothing was paid twice"


def test_both_may_work_at_once_and_the_books_agree(folder, suspended, postgres_url):
    process, simulator, command = suspended
    before = simulator.billed()
    follower = folder.start(*command, *WAKES, stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= before + 4, follower)
    assert wake(process).code == 75
    ended = finish(follower)
    assert ended.code == 0, ended.err
    check_everything(folder, postgres_url, simulator, INPUTS)


def test_an_owner_that_nobody_followed_goes_on_when_it_wakes(folder, suspended, postgres_url):
    process, simulator, _ = suspended
    expired = "SELECT 1 FROM leases WHERE expires_at < extract(epoch FROM now()) * 1000000"
    assert wait_until(lambda: bool(read(postgres_url, expired)), process)
    assert wake(process).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS


def test_a_living_owner_is_not_followed_however_long_it_waits(folder, simulate, postgres_url):
    simulator = simulate("--latency-ms", "2500-3000")
    folder.environment["BATCHER_LEASE"] = "1s"
    write_jsonl(folder.path / "rows.jsonl", rows(4))
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    command = ("run", "rows.jsonl", *where, "--database", postgres_url)
    process = folder.start(*command)
    assert wait_until(lambda: simulator.billed() >= 1, process)
    patient = folder.batcher(*command, *WAKES)
    assert (patient.code, process.wait()) == (0, 0)
    check_everything(folder, postgres_url, simulator, {"rows.jsonl": 4})
    assert simulator.billed() == 4
