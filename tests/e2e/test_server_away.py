"""PostgreSQL restarts, and connections are cut, while a run is on."""

import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

from tests.cutting import cutting, start_server, stop_server
from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_after_crash, check_everything, open_books
from tests.e2e.ledgers import count
from tests.e2e.processes import finish, wait_until

ROWS = 200
INPUTS = {"rows.jsonl": ROWS}


@pytest.fixture
def command(folder, simulate, gated):
    """What is typed for a run on the given database, its simulator, and the gate before it."""
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    simulator = simulate("--latency-ms", "20-80")
    gate = gated(simulator, answers=100)

    def typed(url):
        where = ("--endpoint", "simulator", "--base-url", gate.url)
        return ("run", *INPUTS, *where, "--database", url, "--concurrency", 8)

    typed.simulator, typed.gate = simulator, gate
    return typed


@pytest.fixture
def proxy(postgres_server):
    with (
        tempfile.TemporaryDirectory(prefix="batcher-cut-") as folder,
        cutting(Path(folder), postgres_server) as proxy,
    ):
        yield proxy


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_cut_commits_cost_and_lose_nothing(folder, command, proxy, postgres_url, when):
    command.gate.open()
    getattr(proxy, when).update(range(25, 400, 17))
    ended = folder.batcher(*command(proxy.url(postgres_url)))
    assert ended.code == 0, ended.err
    assert proxy.commits > 25, "something was cut"  # each takes at most eight rows
    check_everything(folder, postgres_url, command.simulator, INPUTS)
    assert command.simulator.billed() == ROWS
    assert count(postgres_url, "v_attempts") == ROWS


def test_a_restart_of_the_server_is_waited_for(folder, command, postgres_server, postgres_url):
    simulator = command.simulator
    process = folder.start(*command(postgres_url), stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 40, process)
    programs = stop_server(postgres_server)
    start_server(postgres_server, programs)
    command.gate.open()
    ended = finish(process)
    assert ended.code == 0, ended.err
    assert "The database is away" in ended.err
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS


def test_a_server_that_stays_away_ends_the_run_and_nothing_is_lost(
    folder, command, postgres_server, postgres_url
):
    simulator = command.simulator
    again = command(postgres_url)
    process = folder.start(
        *again, stderr=subprocess.PIPE, environment={"BATCHER_DATABASE_WAIT": "1s"}
    )
    assert wait_until(lambda: simulator.billed() >= 40, process)
    programs = stop_server(postgres_server)
    command.gate.open()
    try:
        ended = finish(process)
    finally:
        start_server(postgres_server, programs)
    assert ended.code == 74, ended.err
    check_after_crash(open_books(postgres_url, simulator.bill()), INPUTS)
    assert folder.batcher(*again).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
    assert simulator.billed() == ROWS, "the lifeboat kept every paid answer"


def test_an_abort_does_not_wait_for_the_server(folder, command, postgres_server, postgres_url):
    simulator = command.simulator
    process = folder.start(*command(postgres_url), stderr=subprocess.PIPE)
    assert wait_until(lambda: simulator.billed() >= 40, process)
    programs = stop_server(postgres_server)
    command.gate.open()
    try:
        for line in process.stderr:
            if b"is away" in line:
                break
        process.send_signal(signal.SIGINT)
        for line in process.stderr:
            if b"nothing more is sent" in line:
                break
        process.send_signal(signal.SIGINT)
        ended = finish(process)
    finally:
        start_server(postgres_server, programs)
    assert ended.code in {130, 74}
    assert folder.batcher(*command(postgres_url)).code == 0
    check_everything(folder, postgres_url, simulator, INPUTS)
