"""Rows that one endpoint does not answer go to the next, and what that costs is known."""

import asyncio
from dataclasses import replace

import pytest

from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.messages.request import Purpose
from batcher.pacing.backoff import BreakerPolicy, RetryPolicy
from batcher.pipeline.choices import FallbackRules
from batcher.pipeline.engine.supply import PATIENCE_SECONDS
from batcher.pipeline.job import Fallback
from batcher.transport.endpoint import Endpoint
from tests.bill import read_bill, total_pico_usd
from tests.making_runs import (
    MODEL,
    Case,
    FakeLane,
    FastClock,
    answered,
    endpoint_of,
    in_turn,
    not_sent,
    photograph,
    prompt_of,
    refused,
    rows,
    simulating,
    unknown,
)

OTHER = Endpoint(name="other", base_url="http://127.0.0.1:9", price_list="anthropic")
DEARER = "claude-opus-4-8"
TWICE = RetryPolicy(max_attempts=2, first_wait_seconds=0, max_wait_seconds=0)


def with_fallback(case: Case, *fallbacks: Fallback, **rules) -> Case:
    options = {
        "fallback": fallbacks or (Fallback(endpoint=OTHER),),
        "fallback_rules": FallbackRules(**rules),
    }
    return replace(case.limit(retry=TWICE), options=case.options | options)


def attempts_of(case: Case) -> list[tuple[str, str, str]]:
    return case.ask(
        "SELECT endpoint, purpose, state FROM v_attempts ORDER BY row_number, attempt"
    )


@pytest.mark.parametrize("status", [500, 503, 529])
def test_a_row_that_has_spent_its_attempts_goes_to_the_next_endpoint(on_both, status):
    case = with_fallback(on_both)
    case.write(rows(2))
    first = FakeLane(in_turn({"row 2": [refused(status)] * 9}))
    second = FakeLane()
    ended = case.run(first, FastClock(), further=[second])
    assert (ended.exit_code, ended.progress.answered) == (0, 2)
    assert second.prompts == ["row 2"]
    assert attempts_of(case)[1:] == [
        ("simulator", "first", "rejected"),
        ("simulator", "retry", "rejected"),
        ("other", "fallback", "answered"),
    ]
    assert ended.progress.fallback_rows == {"other": 1}
    assert case.ask("SELECT endpoint, text FROM v_answers ORDER BY row_number") == [
        ("simulator", "yes"),
        ("other", "yes"),
    ]
    assert second.closed


def test_a_first_row_that_goes_elsewhere_keeps_nobody_waiting(case):
    """The model it is asked for there is not the one whose first row it was."""
    case = with_fallback(case, Fallback(endpoint=OTHER, model=DEARER))
    case.write(rows(20))
    case = case.limit(retry=RetryPolicy(max_attempts=1))
    first = FakeLane(in_turn({"row 1": [refused(500)]}))
    ended = case.run(first, FastClock(factor=1), further=[FakeLane()])
    assert (ended.exit_code, ended.progress.answered) == (0, 20)
    assert ended.seconds < PATIENCE_SECONDS


@pytest.mark.parametrize("outcome", [refused(400), answered(stop_reason="refusal")])
def test_what_is_refused_for_its_content_goes_nowhere_else(case, outcome):
    case = with_fallback(case)
    case.write(rows(2))
    second = FakeLane()
    case.run(FakeLane(in_turn({"row 2": [outcome]})), FastClock(), further=[second])
    assert second.sent == []


def test_an_attempt_in_doubt_goes_elsewhere_only_if_that_was_asked_for(case):
    case.write(rows(2))
    lost = {"row 2": [unknown(), refused(500), refused(500), refused(500)]}
    second = FakeLane()
    ended = with_fallback(case).run(FakeLane(in_turn(lost)), FastClock(), further=[second])
    assert (ended.exit_code, second.sent) == (65, [])
    case = replace(case, key="another", database=f"{case.database}2")
    bold = with_fallback(case, on_doubt=True)
    ended = bold.run(FakeLane(in_turn(lost)), FastClock(), further=[second])
    assert (ended.exit_code, second.prompts) == (0, ["row 2"])


def test_rows_go_elsewhere_while_an_endpoint_is_down_and_come_back_when_it_is(case):
    case = with_fallback(case, after_seconds=5).limit(breaker=BreakerPolicy(trips_after=3))
    case.write(rows(200))
    clock = FastClock()
    began = clock.monotonic()

    async def down_for_a_while(attempt):
        await clock.sleep(0.5)
        return not_sent() if 2 < clock.monotonic() - began < 20 else answered()

    async def at_leisure(attempt):
        await clock.sleep(1)
        return answered()

    first, second = FakeLane(down_for_a_while), FakeLane(at_leisure)
    ended = case.run(first, clock, further=[second])
    assert (ended.exit_code, ended.progress.answered) == (0, 200)
    there = set(second.prompts)
    assert there
    assert {attempt.purpose for attempt in second.sent} == {Purpose.FALLBACK}
    here = case.one("SELECT count(*) FROM v_answers WHERE endpoint = 'simulator'")
    assert here == 200 - len(there)
    assert case.one("SELECT max(row_number) FROM v_answers WHERE endpoint = 'simulator'") > max(
        int(prompt.split()[1]) for prompt in there
    )


def test_an_endpoint_that_never_answers_is_left_and_the_run_ends_well(case):
    case = with_fallback(case, after_seconds=600)
    case.write(rows(50))
    second = FakeLane()
    ended = case.run(FakeLane(lambda _: not_sent()), FastClock(), further=[second])
    assert (ended.exit_code, len(second.sent)) == (0, 50)
    assert any("its rows go to endpoint other" in words for words in case.watcher.waits)


def test_what_nobody_else_takes_ends_the_run_with_why(case):
    case = replace(
        with_fallback(case, after_seconds=5), accepts=lambda request: request.row_number != 7
    )
    case.write(rows(20))
    second = FakeLane()
    ended = case.run(FakeLane(lambda _: not_sent()), FastClock(), further=[second])
    assert (ended.exit_code, ended.rows_left, len(second.sent)) == (69, True, 19)
    assert "endpoint simulator does not answer" in ended.error


def test_the_last_endpoint_that_does_not_answer_ends_the_run(case):
    case = with_fallback(case, after_seconds=5)
    case.write(rows(20))
    down = FakeLane(lambda _: not_sent())
    ended = case.run(FakeLane(lambda _: not_sent()), FastClock(), further=[down])
    assert ended.exit_code == 69
    assert "endpoint other does not answer" in ended.error


def test_a_refused_key_at_the_next_endpoint_stops_the_whole_run(case):
    case = with_fallback(case)
    case.write(rows(300))
    clock = FastClock()

    async def slowly(attempt):
        await clock.sleep(1)
        return refused(500) if prompt_of(attempt) == "row 2" else answered()

    first, second = FakeLane(slowly), FakeLane(lambda _: refused(401))
    ended = case.run(first, clock, further=[second])
    assert (ended.exit_code, ended.rows_left) == (77, True)
    assert "endpoint other refused the run" in ended.error
    assert len(first.sent) < 300


def test_rows_go_from_endpoint_to_endpoint_with_the_model_of_each(case):
    third = replace(OTHER, name="third")
    case = with_fallback(case, Fallback(endpoint=OTHER), Fallback(endpoint=third, model=DEARER))
    case.write(rows(1))
    bad = FakeLane(lambda _: refused(503))
    last = FakeLane()
    patient = case.limit(breaker=BreakerPolicy(first_contact_seconds=10**6))
    ended = patient.run(bad, FastClock(), further=[bad, last])
    assert ended.exit_code == 0
    assert {attempt.request.model for attempt in bad.sent} == {MODEL}
    assert f'"{DEARER}"'.encode() in last.sent[0].body
    assert case.ask("SELECT endpoint, requested_model FROM v_answers") == [("third", DEARER)]
    again = case.run(FakeLane(), FastClock(), further=[FakeLane(), FakeLane()])
    assert again.progress.sent == 0  # the row's identity is what it was


def test_a_cap_binds_at_all_endpoints_together(on_both):
    case = with_fallback(on_both, Fallback(endpoint=OTHER, model=DEARER))
    case.write(rows(40))
    one = 5 * 10**9  # pico-USD; the bound of a row at the dearer model is a little more
    capped = case.limit(max_cost=12 * one)
    broken = FakeLane(lambda a: refused(500) if a.request.row_number % 2 else answered())
    patient = capped.limit(breaker=BreakerPolicy(trips_after=10**6))
    ended = patient.run(broken, FastClock(), further=[FakeLane()])
    assert ended.progress.cap_spent <= 12 * one
    findings = findings_of(case)
    assert findings == []


def findings_of(case: Case) -> list[str]:
    engine = open_engine(case.database, read_only=True)
    try:
        return [finding.text for finding in verify(engine).findings]
    finally:
        engine.dispose()


def test_the_ledger_holds_both_bills_of_two_providers(on_both, tmp_path):
    bills = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    faults = {"500": 0.4, "529": 0.2}
    with (
        simulating(faults=faults, retry_after_seconds=0, seed=3, bill_path=bills[0]) as here,
        simulating(bill_path=bills[1]) as there,
    ):
        case = replace(on_both, endpoint=endpoint_of(here))
        case.write(rows(120))
        other = replace(endpoint_of(there), name="other")
        case = with_fallback(case, Fallback(endpoint=other, model=DEARER))
        patient = case.limit(breaker=BreakerPolicy(trips_after=10**6))
        ended = patient.run()
    assert (ended.exit_code, ended.progress.answered) == (0, 120)
    by_endpoint = dict(
        case.ask(
            "SELECT endpoint, CAST(SUM(amount_pico_usd) AS BIGINT) FROM v_charges GROUP BY 1"
        )
    )
    assert by_endpoint == {
        "simulator": total_pico_usd(read_bill(bills[0])),
        "other": total_pico_usd(read_bill(bills[1])),
    }
    assert ended.progress.fallback_cost == {"other": by_endpoint["other"]}
    assert findings_of(case) == []


def test_after_a_kill_the_same_command_goes_on_and_nothing_is_lost(case, tmp_path):
    case = with_fallback(case, after_seconds=10**6)
    case.write(rows(30))
    copy = tmp_path / "copy.db"
    broken = FakeLane(lambda a: refused(500) if a.request.row_number % 2 == 0 else answered())

    async def killed_at_tenth(attempt):
        if len(second.sent) == 10:
            photograph(case.database, copy)
        await asyncio.sleep(0)
        return answered()

    second = FakeLane(killed_at_tenth)
    patient = case.limit(breaker=BreakerPolicy(trips_after=10**6))
    patient.run(broken, FastClock(), further=[second])
    survivor = replace(patient, database=str(copy))
    open_ones = survivor.one("SELECT count(*) FROM attempts WHERE state = 'open'")
    third = FakeLane()
    ended = survivor.run(broken, FastClock(), further=[third])
    assert open_ones
    assert survivor.one("SELECT count(*) FROM attempts WHERE state = 'open'") == 0
    assert survivor.one("SELECT count(*) FROM v_answers") == 30 - ended.progress.failed
    answered_before = survivor.one(
        "SELECT count(*) FROM v_answers WHERE invocation_id <= 2 AND endpoint = 'other'"
    )
    assert answered_before + len(third.sent) + ended.progress.failed == 15
    assert findings_of(survivor) == []
