"""A run on PostgreSQL that was suspended, and wakes up when another has taken its place."""

import os
import signal
import subprocess

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read
from tests.e2e.processes import finish, suspend, wait_until

ROWS = 80
OPEN = 8
INPUTS = {"rows.jsonl": ROWS}
WAKES = ("--if-running", "wait")


@pytest.fixture
def suspended(folder, simulate, gated, postgres_url):
    """A run that was stopped in the middle, its simulator, gate and command; leases are short.

    It is stopped when all of its workers wait for an answer: their requests are billed and
    open, everything before them is settled, nothing is on its way.
    """
    simulator = simulate("--latency-ms", "10-30")
    gate = gated(simulator, answers=20)
    folder.environment["BATCHER_LEASE"] = "1s"
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    where = ("--endpoint", "simulator", "--base-url", gate.url)
    command = ("run", *INPUTS, *where, "--database", postgres_url, "--concurrency", OPEN)
    process = folder.start(*command, stderr=subprocess.PIPE)
    assert wait_until(lambda: gate.waiting == OPEN, process)
    suspend(process)
    assert simulator.billed() == 20 + OPEN
    return process, simulator, gate, command


def wake(process):
    os.kill(process.pid, signal.SIGCONT)
    return finish(process)


def test_a_woken_owner_sends_nothing_and_records_late_what_it_had_paid(
    folder, suspended, postgres_url
):
    process, simulator, gate, command = suspended
    gate.open()
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
    assert late == billed - ROWS == OPEN
    assert count(postgres_url, "invocations", "ended_at IS NULL") == 0
    assert not list(folder.path.glob("*lifeboat*"))


def test_a_late_answer_is_the_answer_of_a_row_that_has_none(folder, suspended, postgres_url):
    process, simulator, gate, command = suspended
    gate.open()
    follower = folder.batcher(*command, *WAKES, "--on-unknown", "hold")
    assert follower.code == 65, follower.err
    assert count(postgres_url, "v_failures", "kind = 'held'") == OPEN
    assert wake(process).code == 75
    assert count(postgres_url, "v_failures") == 0
    assert folder.batcher(*command).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS, "nothing was paid twice"


def test_both_may_work_at_once_and_the_books_agree(folder, suspended, postgres_url):
    process, simulator, gate, command = suspended
    follower = folder.start(*command, *WAKES, stderr=subprocess.PIPE)
    assert wait_until(lambda: gate.waiting > OPEN, follower)
    os.kill(process.pid, signal.SIGCONT)
    gate.open()
    assert finish(process).code == 75
    ended = finish(follower)
    assert ended.code == 0, ended.err
    check_everything(folder, postgres_url, simulator, INPUTS)


def test_an_owner_that_nobody_followed_goes_on_when_it_wakes(folder, suspended, postgres_url):
    process, simulator, gate, _ = suspended
    gate.open()
    expired = "SELECT 1 FROM leases WHERE expires_at < extract(epoch FROM now()) * 1000000"
    assert wait_until(lambda: bool(read(postgres_url, expired)), process)
    assert wake(process).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS


def test_a_living_owner_is_not_followed_however_long_it_waits(folder, simulate, postgres_url):
    simulator = simulate("--latency-ms", "4500")
    folder.environment["BATCHER_LEASE"] = "3s"
    write_jsonl(folder.path / "rows.jsonl", rows(3))  # one of each model: they go together
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    command = ("run", "rows.jsonl", *where, "--database", postgres_url)
    process = folder.start(*command)
    assert wait_until(lambda: simulator.billed() >= 1, process)
    patient = folder.batcher(*command, *WAKES)
    assert (patient.code, process.wait()) == (0, 0)
    check_everything(folder, postgres_url, simulator, {"rows.jsonl": 3})
    assert simulator.billed() == 3
