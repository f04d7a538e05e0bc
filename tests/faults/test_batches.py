"""Every entry of the fault table of Message Batches, against the simulator's own bill."""

from collections import Counter
from dataclasses import replace

import pytest

from batcher.clock import SystemClock
from batcher.simulator.settings import BatchSettings
from tests.faults.batches import ALWAYS, BATCH_FAULTS, CANCELS, ROWS, BatchFault, error
from tests.faults.between import Instead, standing_between
from tests.making_runs import Case, endpoint_of, row, simulating
from tests.pipeline.test_batches import SLOW, cost_of

_DOUBTS = "('partial', 'unknown', 'unusable')"


class Hurried(SystemClock):
    """Nobody waits longer than a moment."""

    async def sleep(self, seconds):
        await super().sleep(min(seconds, 0.02))


@pytest.fixture(scope="module")
def simulator():
    with simulating(batches=BatchSettings()) as running:
        yield running


@pytest.fixture
def case(tmp_path, sqlite_url, simulator):
    case = Case(folder=tmp_path, database=sqlite_url, endpoint=endpoint_of(simulator))
    case.write(row(f"prompt {number}", f"id-{number}") for number in range(ROWS))
    return case


def test_the_table_is_as_long_as_it_claims():
    assert len(BATCH_FAULTS) >= 60
    assert len({name for name, _ in BATCH_FAULTS}) == len(BATCH_FAULTS)


@pytest.mark.parametrize(
    "fault", [each for _, each in BATCH_FAULTS], ids=[name for name, _ in BATCH_FAULTS]
)
def test_what_goes_wrong_with_batches_is_paid_once_or_told(case, simulator, fault):
    before = len(simulator.bill)
    with standing_between(simulator.base_url, fault.scripts, fault.times) as url:
        meddled = replace(case, endpoint=replace(case.endpoint, base_url=url))
        code = finish(meddled, fault)
    follows = fault.follows
    refused = dict(
        case.ask("SELECT attempt_uid, state FROM v_attempts WHERE state = 'rejected'")
    )
    whole = simulator.bill[before:]
    bill = [line for line in whole if line.attempt_uid not in refused]
    assert len(whole) - len(bill) == follows.unbilled
    assert (code, len(case.texts()), len(bill)) == (
        follows.code,
        follows.answered,
        follows.paid,
    )
    attempts = case.one("SELECT COUNT(*) FROM v_attempts")
    assert follows.attempts in {None, attempts}
    in_doubt = f"SELECT COUNT(*) FROM v_attempts WHERE state IN {_DOUBTS}"
    assert case.one(in_doubt) == follows.in_doubt
    open_ones = case.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'open'")
    assert open_ones == (ROWS if follows.held else 0)
    audit(case, bill)


@pytest.mark.parametrize("fault", CANCELS, ids=lambda fault: fault.id)
def test_what_goes_wrong_with_a_cancel_is_asked_again(case, fault):
    with simulating(batches=BatchSettings(queue_seconds=(SLOW, SLOW))) as slow:
        where = replace(case.endpoint, base_url=slow.base_url)
        case = replace(case, endpoint=where)
        with standing_between(slow.base_url, fault.scripts, fault.times) as url:
            case = replace(case, endpoint=replace(where, base_url=url))
            assert case.in_batches(wait=False, clock=Hurried()).exit_code == 75
            ended = case.in_batches(cancel=True, clock=Hurried())
        assert ended.error == ""
        assert slow.bill == []
    assert case.ask("SELECT DISTINCT state FROM v_batches") == [("collected",)]
    assert case.ask("SELECT DISTINCT state FROM v_attempts") == [("rejected",)]
    assert case.one("SELECT SUM(cost_high_pico_usd) FROM v_attempts") == 0


class HoursLater(Hurried):
    """Some hours ahead."""

    def __init__(self, hours):
        self._ahead_us = hours * 3_600 * 10**6

    def now_us(self):
        return super().now_us() + self._ahead_us


@pytest.mark.parametrize(
    ("kind", "hours", "given_up"),
    [
        ("look", 23, False),
        ("look", 26, True),
        ("results", 26, False),
        ("results", 28 * 24, False),
        ("results", 30 * 24, True),
    ],
)
def test_what_is_gone_for_good_is_in_doubt_when_its_time_is_over(
    case, simulator, kind, hours, given_up
):
    """It was deleted, or expired, before it was collected: paid, and its rows are to do."""
    before = len(simulator.bill)
    gone = [Instead(404, error("not_found_error"))]
    with standing_between(simulator.base_url, {kind: gone}, ALWAYS) as url:
        meddled = replace(case, endpoint=replace(case.endpoint, base_url=url))
        assert meddled.in_batches(wait=False, clock=Hurried()).exit_code == 75
        later = HoursLater(hours)
        assert meddled.in_batches(wait=False, clock=later).exit_code == 75
    states = case.ask("SELECT DISTINCT state FROM v_attempts")
    assert states == [("unknown",) if given_up else ("open",)]
    assert len(simulator.bill) - before == ROWS
    assert case.one("SELECT COUNT(*) FROM v_attempts") == ROWS
    audit(case, simulator.bill[before:])


def finish(case, fault: BatchFault) -> int:
    """The last exit code; what only waits goes on, where it is not going to be held."""
    for _ in range(2 if fault.follows.held else 1):
        ended = case.in_batches(wait=not fault.follows.held, clock=Hurried())
    return int(ended.exit_code)


def audit(case, bill):
    """Every billed request is an attempt; beyond the first of a row they are in doubt."""
    known = {
        uid: (number, state)
        for uid, number, state in case.ask(
            "SELECT attempt_uid, row_number, state FROM v_attempts"
        )
    }
    uids = [line.attempt_uid for line in bill]
    assert set(uids) <= known.keys()
    sure = Counter(known[uid][0] for uid in uids if known[uid][1] == "answered")
    assert max(sure.values(), default=0) <= 1
    low, high = case.ask(
        "SELECT COALESCE(SUM(cost_low_pico_usd), 0), COALESCE(SUM(cost_high_pico_usd), 0)"
        " FROM v_attempts"
    )[0]
    assert low <= cost_of(bill) <= high
