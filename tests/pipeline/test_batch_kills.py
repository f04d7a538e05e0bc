"""Processes that die around create, poll and collect: nothing is lost, nothing paid twice."""

import multiprocessing
import signal
from dataclasses import replace

import pytest

from batcher.simulator.settings import BatchSettings
from tests.making_runs import endpoint_of, simulating
from tests.pipeline.dying import Death, run_and_die
from tests.pipeline.test_batches import billed_once, rows_of

STEPS = ("intended", "create", "made", "look", "results")
DEATHS = [
    *(Death(step, after) for step in STEPS for after in (False, True)),
    Death("create", after=True, count=2),
    Death("results", after=True, count=2),
]


@pytest.mark.parametrize("death", DEATHS, ids=lambda d: f"{d.step}-{d.after}-{d.count}")
def test_a_death_at_any_step_costs_nothing(case, death):
    case.write(rows_of(4))
    with simulating(batches=BatchSettings()) as simulator:
        die(case, simulator, death)
        case = replace(case, endpoint=endpoint_of(simulator))
        case.in_batches(pack=2, wait=False)
        ended = case.in_batches(pack=2, wait=False)  # looks at once at what was out before
        billed_once(case, simulator)
        never_sent = (death.step, death.after) in {("intended", True), ("create", False)}
        if never_sent:  # nobody can know, so those two rows are held for a day
            assert ended.exit_code == 75
            assert len(simulator.bill) == 2
            assert len(case.texts()) == 2
        else:
            while ended.exit_code == 75:
                ended = case.in_batches(pack=2)
            assert ended.exit_code == 0
            billed_once(case, simulator)
            assert len(simulator.bill) == len(case.texts()) == 4


@pytest.mark.parametrize("death", [Death("create", after=True), Death("results", after=True)])
def test_a_death_costs_nothing_on_a_server_either(case, postgres_url, death):
    case = replace(case, database=postgres_url)
    case.write(rows_of(4))
    with simulating(batches=BatchSettings()) as simulator:
        die(case, simulator, death)
        case = replace(case, endpoint=endpoint_of(simulator))
        case = replace(case, options={"lease_seconds": 5.0})
        while case.in_batches(pack=2).exit_code:
            pass
        billed_once(case, simulator)
        assert len(simulator.bill) == len(case.texts()) == 4


def die(case, simulator, death):
    """Run it in a process of its own, which does not survive that."""
    arguments = (case.folder, case.database, simulator.base_url, death)
    process = multiprocessing.get_context("spawn").Process(target=run_and_die, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
