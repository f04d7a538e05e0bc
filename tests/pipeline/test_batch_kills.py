"""Processes that die around create, poll and collect: nothing is lost, nothing paid twice."""

import signal
from dataclasses import replace

import pytest

from batcher.simulator.settings import BatchSettings
from tests.e2e.forked import START
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
        unmade = finish(case)
        billed_once(case, simulator)
        if (death.step, death.after) in {("intended", True), ("create", False)}:
            assert unmade == 1
        assert len(simulator.bill) == len(case.texts()) == 4 - 2 * unmade


@pytest.mark.parametrize("death", [Death("create", after=True), Death("results", after=True)])
def test_a_death_costs_nothing_on_a_server_either(case, postgres_url, death):
    case = replace(case, database=postgres_url)
    case.write(rows_of(4))
    with simulating(batches=BatchSettings()) as simulator:
        die(case, simulator, death)
        case = replace(case, endpoint=endpoint_of(simulator))
        case = replace(case, options={"lease_seconds": 5.0})
        unmade = finish(case)
        billed_once(case, simulator)
        assert len(simulator.bill) == len(case.texts()) == 4 - 2 * unmade


def finish(case, most=20):
    """Do what can be done; how many batches were meant to be made and never were.

    Nobody can know that they were not, so that their rows are held for a day.
    """
    for turn in range(most):
        ended = case.in_batches(pack=2, wait=False)
        out = case.ask("SELECT state FROM v_batches WHERE state <> 'collected'")
        looked = turn > 1  # after a first and a second time nothing is to be found any more
        if ended.exit_code == 0 or (looked and {state for (state,) in out} == {"creating"}):
            assert (ended.exit_code == 75) == bool(out)
            return len(out)
    raise AssertionError(out)


def die(case, simulator, death):
    """Run it in a process of its own, which does not survive that."""
    arguments = (case.folder, case.database, simulator.base_url, death)
    process = START.Process(target=run_and_die, args=arguments)
    process.start()
    process.join(120)
    assert process.exitcode == -signal.SIGKILL
