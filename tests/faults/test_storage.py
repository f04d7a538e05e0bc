"""Faults of the ledger: what was paid is kept, and the same command finishes the work."""

import pytest

from batcher.errors import BatcherError
from tests.faults.storage import ROWS, STORAGE
from tests.making_runs import Case, FakeLane, row


@pytest.mark.parametrize("fault", STORAGE, ids=lambda fault: f"{fault.stage}: {fault.id}")
def test_a_ledger_that_fails(tmp_path, sqlite_url, fault):
    case = Case(folder=tmp_path, database=sqlite_url).limit(concurrency=4)
    case.write(row(f"row {n}", f"id-{n}", max_tokens=4096) for n in range(1, ROWS + 1))
    with fault.cause(case) as script:
        lane = FakeLane(script)
        assert _exit_of(case, lane) == fault.exit
    if fault.expected == "none":
        assert not lane.sent
    again = FakeLane()
    assert case.run(again).exit_code == 0
    assert not set(again.prompts) & set(lane.prompts), "what was paid was sent again"
    _check_books(case, [*lane.sent, *again.sent])


def _exit_of(case: Case, lane: FakeLane) -> int:
    try:
        return case.run(lane).exit_code
    except BatcherError as error:
        return error.exit_code


def _check_books(case: Case, sent: list) -> None:
    """Every row has one answer, every request that left is an attempt, and exactly priced."""
    assert [number for number, _ in case.texts()] == list(range(1, ROWS + 1))
    attempts = case.ask(
        "SELECT attempt_uid, state, cost_low_pico_usd = cost_high_pico_usd FROM v_attempts"
    )
    assert {attempt.uid for attempt in sent} <= {uid for uid, *_ in attempts}
    answered = [uid for uid, state, exact in attempts if state == "answered" and exact]
    assert sorted(answered) == sorted(attempt.uid for attempt in sent)
