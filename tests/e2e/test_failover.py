"""The primary of a replicated PostgreSQL dies while a run is on, and its standby takes over."""

import subprocess

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count
from tests.e2e.processes import finish, wait_until
from tests.standby import replicating

ROWS = 160
INPUTS = {"rows.jsonl": ROWS}


@pytest.fixture
def pair(request):
    with replicating(synchronous=request.param == "synchronous") as pair:
        pair.primary.execute("CREATE DATABASE ledger TEMPLATE template0")
        yield pair


@pytest.fixture
def simulator(simulate):
    return simulate("--latency-ms", "20-80")


@pytest.fixture
def gate(gated, simulator):
    """A run cannot end before it is opened."""
    return gated(simulator, answers=120)


@pytest.fixture
def command(folder, gate):
    """What is typed for a run on a given database."""
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    where = ("--endpoint", "simulator", "--base-url", gate.url)
    return lambda url: ("run", *INPUTS, *where, "--database", url, "--concurrency", 8)


def take_over(pair, process):
    """The primary dies; when that was noticed, the standby is promoted."""
    pair.lose_primary()
    for line in process.stderr:
        if b"is away" in line:
            break
    pair.promote()


@pytest.mark.parametrize("pair", ["synchronous"], indirect=True)
def test_a_run_goes_on_with_the_standby_that_takes_over(folder, command, pair, simulator, gate):
    url = pair.url("ledger", "read-write")
    process = folder.start(*command(url), stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 40, process)
    take_over(pair, process)
    gate.open()
    ended = finish(process)
    assert ended.code == 0, ended.err
    check_everything(folder, url, simulator, INPUTS)
    assert simulator.billed() == ROWS
    assert count(url, "v_attempts") == ROWS


@pytest.mark.parametrize("pair", ["asynchronous"], indirect=True)
def test_what_a_standby_that_lagged_has_forgotten_is_recorded_again(
    folder, command, pair, simulator, gate
):
    # "any": until it is promoted, the standby is found, which refuses to be written.
    url = pair.url("ledger", "any")
    process = folder.start(*command(url), stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 40, process)
    pair.stop_sending()
    known = simulator.billed() + 8
    assert wait_until(lambda: simulator.billed() >= known + 24, process)
    take_over(pair, process)
    gate.open()
    ended = finish(process)
    assert ended.code == 74, ended.err
    assert "came back without the last" in ended.err
    assert "outcomes, still in memory, are recorded again" in ended.err
    again = folder.batcher(*command(url))
    assert again.code == 0, again.err
    check_everything(folder, url, simulator, INPUTS)
    assert simulator.billed() == ROWS, "no row was paid twice"
