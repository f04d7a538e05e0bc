"""Faults between us and the provider: each is really caused, in a run over a real ledger."""

import shutil

import pytest

from batcher.pacing.backoff import BreakerPolicy
from batcher.transport.endpoint import Endpoint
from tests.faults.kinds import Cost, End, WireFault
from tests.faults.running import Found, Met, check_nothing_lost, group_of, meet
from tests.faults.table import ON_THE_WIRE, PLACES
from tests.making_runs import Case, rows

IMPATIENT = BreakerPolicy(first_contact_seconds=0)  # gives up at the first failure


@pytest.fixture(scope="session")
def met(tmp_path_factory, sqlite_template):
    """What became of a fault's row, in a run that is made when it is first asked for."""
    done: dict[str, Met] = {}

    def of(fault: WireFault) -> Met:
        group = group_of(fault)
        if group not in done:
            folder = tmp_path_factory.mktemp("faults")
            shutil.copy(sqlite_template, folder / "batcher.db")
            alike = [other for other in ON_THE_WIRE if group_of(other) == group]
            done[group] = meet(folder, str(folder / "batcher.db"), alike)
        return done[group]

    return of


@pytest.mark.parametrize("fault", ON_THE_WIRE, ids=lambda fault: f"{fault.stage}: {fault.id}")
def test_a_fault_on_the_wire(met, fault):
    run = met(fault)
    row = run.found[fault.id]
    end = End.ANSWERED if fault.is_overcome else fault.follows.end
    assert row.end is end
    is_fine_at_last = end is End.ANSWERED and fault.expected != "answered"
    expected = [fault.expected] * fault.sent + ["answered"] * is_fine_at_last
    assert [state for state, *_ in row.attempts] == expected
    for _, error_type, low, high in row.attempts[: fault.sent]:
        assert fault.reason in {None, error_type}
        check_cost(fault.follows.cost, low, high)
    check_run(fault, run)


def check_cost(cost: Cost, low: int, high: int | None) -> None:
    match cost:
        case Cost.NOTHING:
            assert (low, high) == (0, 0)
        case Cost.BOUND:
            assert low == 0 < high
        case Cost.USED:
            assert 0 < low < high
        case Cost.BILLED:
            assert low == high
        case Cost.UNPRICED:
            assert (low, high) == (0, None)


def check_run(fault: WireFault, run: Met) -> None:
    """A fault of the run stops it; a fault of a row leaves its neighbours alone."""
    if fault.follows.end is End.TO_DO:
        assert run.exit == fault.follows.exit, run.error
        return
    all_answered = all(row.end is End.ANSWERED for row in run.found.values())
    assert run.exit == (0 if all_answered else 65), run.error
    assert [neighbour.end for neighbour in run.neighbours] == [End.ANSWERED] * 2
    assert all(is_answered_once(neighbour) for neighbour in run.neighbours)


def is_answered_once(row: Found) -> bool:
    return [state for state, *_ in row.attempts] == ["answered"]


@pytest.mark.parametrize("fault", PLACES, ids=lambda fault: f"{fault.stage}: {fault.id}")
def test_a_server_that_cannot_be_reached(tmp_path, sqlite_url, fault):
    case = Case(folder=tmp_path, database=sqlite_url)
    if fault.exit == 69:  # else it is known at once that waiting is no use
        case = case.limit(breaker=IMPATIENT)
    case.write(rows(3))
    with fault.place() as url:
        patience = {"connect_timeout_seconds": 0.2} if fault.is_silent else {}
        case.endpoint = Endpoint(
            name="simulator", base_url=url, price_list="anthropic", **patience
        )
        ended = case.run()
    assert (ended.exit_code, ended.rows_left) == (fault.exit, True), ended.error
    attempts = case.ask(
        "SELECT row_number, state, error_type, cost_low_pico_usd, cost_high_pico_usd"
        " FROM v_attempts"
    )
    assert attempts == [(1, fault.expected, fault.reason, 0, 0)]
    check_nothing_lost(case, 3)
