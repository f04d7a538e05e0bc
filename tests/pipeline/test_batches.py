"""Whole runs over Message Batches, against the simulator and its bill."""

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import anthropic
import msgspec
import pytest

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.ledger.money.estimates import EndpointTimes
from batcher.pipeline.choices import Deadline, LaneChoice
from batcher.pipeline.run.by_hand import adopt, forget
from batcher.pipeline.run.run import run_by_deadline
from batcher.report.render.status_text import render_status
from batcher.report.status import deadline_missed_unseen, read_status
from batcher.simulator.settings import BatchSettings
from tests.bill import cost_pico_usd
from tests.making_runs import endpoint_of, row, simulating

SLOW = 3_600.0  # longer than any test


@contextmanager
def batching(case, **batches):
    """The case at a simulator of its own."""
    with simulating(batches=BatchSettings(**batches)) as simulator:
        yield replace(case, endpoint=endpoint_of(simulator)), simulator


def rows_of(count):
    return [row(f"prompt {number}", f"id-{number}") for number in range(count)]


def cost_of(bill):
    shown = [{name: getattr(line, name) for name in line.__struct_fields__} for line in bill]
    return sum(map(cost_pico_usd, shown))


def billed_once(case, simulator):
    """Every line of the bill is an attempt, none of a row twice; both books agree."""
    bill = simulator.bill
    uids = [line.attempt_uid for line in bill]
    known = case.ask("SELECT attempt_uid, row_number, state FROM v_attempts")
    rows = {uid: number for uid, number, _ in known}
    assert set(uids) <= rows.keys()
    assert max(Counter(rows[uid] for uid in uids).values(), default=1) == 1
    assert case.one("SELECT SUM(cost_pico_usd) FROM v_answers_all") == cost_of(bill)


def found_against(case, bill):
    """What `verify --bill` finds."""
    path = case.folder / "bill.jsonl"
    path.write_bytes(msgspec.json.Encoder().encode_lines(bill))
    engine = open_engine(case.database)
    try:
        return [str(each) for each in verify(engine, path).findings]
    finally:
        engine.dispose()


def test_rows_are_packed_answered_and_charged_at_half_the_price(on_both):
    on_both.write(rows_of(7))
    with batching(on_both) as (case, simulator):
        ended = case.in_batches(pack=3)
        billed_once(case, simulator)
        assert {line.service_tier for line in simulator.bill} == {"batch"}
        assert found_against(case, simulator.bill) == []
    assert (ended.exit_code, ended.error) == (0, "")
    assert [number for number, _ in case.texts()] == list(range(1, 8))
    states = case.ask("SELECT state, requests, succeeded FROM v_batches ORDER BY batch_number")
    assert states == [("collected", 3, 3), ("collected", 3, 3), ("collected", 1, 1)]
    assert case.ask("SELECT DISTINCT lane, service_tier FROM v_answers") == [("batch", "batch")]
    assert case.one("SELECT COUNT(*) FROM v_attempts") == 7
    assert case.in_batches().exit_code == 0
    assert case.one("SELECT COUNT(*) FROM v_attempts") == 7


def test_what_the_live_lane_collects_counts_as_sent_in_a_batch(on_both):
    on_both.write(rows_of(4))
    with batching(on_both, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        assert case.in_batches(wait=False).exit_code == 75
        simulator.end_batches()
        assert case.in_batches(lane=LaneChoice.LIVE).exit_code == 0
        assert found_against(case, simulator.bill) == []


def test_an_answer_that_does_not_say_that_it_was_in_a_batch_may_have_cost_half(case):
    case.write([row("one [[usage:two_fields]]"), row("two")])
    with batching(case) as (case, _):
        assert case.in_batches().exit_code == 0
    found = case.ask("SELECT trust, cost_low_pico_usd, cost_high_pico_usd FROM v_answers"
                     " ORDER BY row_number")  # fmt: skip
    (trust, low, high), (other, *_) = found
    assert (trust, other, 2 * low) == ("assumed", "priced", high)


def test_a_batch_is_filled_whatever_a_server_bears_at_a_time(case):
    case.write(rows_of(300))
    with batching(case) as (case, simulator):
        assert case.in_batches(pack=150).exit_code == 0
        billed_once(case, simulator)
    packed = [requests for (requests,) in case.ask("SELECT requests FROM v_batches")]
    assert sum(packed) == 300
    assert max(packed) > 64, "a pack that lingers too long on a busy machine is not full"


def test_who_does_not_wait_collects_the_next_time(on_both):
    on_both.write(rows_of(5))
    with batching(on_both, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        ended = case.in_batches(pack=2, wait=False)
        assert ended.exit_code == 75
        assert ended.error == "5 rows are in 3 batches; the same command collects them"
        assert (ended.progress.in_batches, ended.progress.batches) == (5, 3)
        assert ended.progress.binding_limit is None, "no option makes a queue faster"
        assert case.in_batches(pack=2, wait=False).exit_code == 75
        assert case.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'open'") == 5
        simulator.end_batches()
        assert case.in_batches(wait=False).exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 5
    assert len(case.texts()) == 5


def test_many_that_expired_are_no_outage(case):
    case.write([row(f"[[batch:expired]] {number}") for number in range(30)])
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        assert case.in_batches(wait=False).exit_code == 75
        simulator.end_batches()
        assert case.in_batches(lane=LaneChoice.LIVE).exit_code == 0
        assert len(simulator.bill) == 30
    assert not [said for said in case.watcher.waits if "does not answer" in said]
    assert case.ask("SELECT DISTINCT lane FROM v_answers") == [("live",)]


def test_what_is_refused_expired_or_canceled_goes_again_as_a_new_attempt(case):
    prompts = ["fine", "[[fault:500*1]] twice", "[[fault:400]] never"]
    case.write([row(prompt) for prompt in prompts])
    with batching(case) as (case, simulator):
        ended = case.in_batches()
        billed_once(case, simulator)
        assert len(simulator.bill) == 2
    assert ended.exit_code == 65
    attempts = case.ask(
        "SELECT row_number, purpose, state, cost_high_pico_usd = 0 FROM v_attempts"
        " WHERE state <> 'answered' ORDER BY row_number"
    )
    assert attempts == [(2, "first", "rejected", 1), (3, "first", "rejected", 1)]
    assert case.ask("SELECT row_number, reason FROM v_failures") == [
        (3, "invalid_request_error")
    ]


def test_a_row_that_no_batch_carries_is_told_and_not_sent(case):
    case.write([row("fine"), row("fast", speed="fast")])
    with batching(case) as (case, simulator):
        ended = case.in_batches()
        assert len(simulator.bill) == 1
    assert ended.exit_code == 65
    ((reason, message),) = case.ask("SELECT reason, message FROM v_failures")
    assert reason == "not_in_batches"
    assert "does not carry speed" in message


@pytest.mark.parametrize("manner", ["lost", "lost_502"])
def test_a_lost_create_is_found_by_its_results_and_never_repeated(on_both, manner):
    on_both.write(rows_of(4))
    with batching(on_both, creations=(manner,)) as (case, simulator):
        ended = case.in_batches(pack=2)
        billed_once(case, simulator)
        assert len(simulator.bill) == 4
    assert ended.exit_code == 0
    assert len(case.texts()) == 4


def test_a_create_that_vanished_holds_its_rows_back(case):
    case.write(rows_of(2))
    with batching(case, creations=("vanished",)) as (case, simulator):
        first = case.in_batches(wait=False)
        second = case.in_batches(wait=False)
        assert not simulator.bill
    assert (first.exit_code, second.exit_code) == (75, 75)
    assert case.ask("SELECT state, batch_id FROM v_batches") == [("creating", None)]
    assert case.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'open'") == 2


def test_a_batch_of_somebody_else_is_not_taken_for_the_lost_one(case):
    case.write(rows_of(2))
    with batching(case, creations=("vanished",)) as (case, simulator):
        case.in_batches(wait=False)
        other = replace(case, database=f"{case.database}.other")
        assert other.in_batches().exit_code == 0  # as many rows, at the same time
        assert case.in_batches(wait=False).exit_code == 75
        assert len(simulator.bill) == 2
    assert case.texts() == []


def test_a_batch_that_is_not_found_for_a_while_is_waited_for(case):
    case.write(rows_of(3))
    with batching(case, looks_missed=3, results_missed=2, results_cut=1) as (case, simulator):
        assert case.in_batches().exit_code == 0
        billed_once(case, simulator)
    assert len(case.texts()) == 3


def test_a_full_queue_is_waited_for_without_attempts_of_any_row(case):
    case.write(rows_of(4))
    with batching(case, creations=("refused",)) as (case, simulator):
        clockless = case.in_batches(pack=2)
        assert clockless.exit_code == 0
        assert len(simulator.bill) == 4
    assert case.one("SELECT COUNT(*) FROM v_attempts") == 4


def test_results_are_ticked_off_and_strange_ones_told(case):
    case.write(
        [
            row("a"),
            row("[[batch:missing]] b"),
            row("[[batch:twice]] c"),
            row("[[batch:foreign]] d"),
        ]
    )
    with batching(case) as (case, simulator):
        ended = case.in_batches()
        bill = simulator.bill
    assert ended.exit_code == 65  # held after three doubts
    assert len(bill) == 6
    told = " ".join(case.watcher.waits)
    assert "1 results that belong to none of our attempts, 1 results that came twice" in told
    assert case.ask("SELECT row_number, kind, reason FROM v_failures") == [
        (2, "held", "parked_in_doubt")
    ]
    doubts = case.ask(
        "SELECT error_type, COUNT(*) FROM v_attempts WHERE row_number = 2 GROUP BY 1"
    )
    assert doubts == [("missing_result", 3)]


def test_batches_that_are_canceled_give_what_was_done(case):
    case.write(rows_of(4))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        case.in_batches(pack=2, wait=False)
        ended = case.in_batches(cancel=True)
        assert not simulator.bill
        assert case.ask("SELECT DISTINCT state, canceled FROM v_batches") == [("collected", 2)]
        assert ended.progress.sent == 0
        case.in_batches(wait=False)
        assert case.one("SELECT COUNT(*) FROM v_batches WHERE state = 'in_progress'") == 1


def test_a_changed_file_is_not_sent_again_while_its_rows_are_out(case):
    case.write(rows_of(3))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        case.in_batches(wait=False)
        case.write([*rows_of(3)[::-1], row("new", "new")])  # moved, and one more
        assert case.in_batches(wait=False).exit_code == 75
        assert case.one("SELECT COUNT(*) FROM v_attempts") == 4
        simulator.end_batches()
        assert case.in_batches().exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 4
    assert len(case.texts()) == 4
    assert case.one("SELECT custom_id FROM v_answers WHERE row_number = 1") == "id-2"


def test_rows_that_left_the_input_are_paid_recorded_and_told(case):
    case.write(rows_of(3))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        case.in_batches(wait=False)
        case.write(rows_of(2))
        simulator.end_batches()
        assert case.in_batches().exit_code == 0
        assert len(simulator.bill) == 3
        low, high = case.ask(
            "SELECT SUM(cost_low_pico_usd), SUM(cost_high_pico_usd) FROM v_answers_all"
        )[0]
        assert low <= cost_of(simulator.bill) <= high  # nobody knows what that row asked for
    assert len(case.texts()) == 2
    assert any("the inputs do not hold any more" in told for told in case.watcher.waits)


def test_legs_of_a_paused_turn_travel_in_further_batches(case):
    case.write([row("[[pause:2]] news"), row("plain")])
    with batching(case) as (case, simulator):
        assert case.in_batches().exit_code == 0
        assert len(simulator.bill) == 4
    assert case.ask("SELECT row_number, legs FROM v_answers ORDER BY 1") == [(1, 3), (2, 1)]


def test_the_live_lane_leaves_rows_in_batches_alone_and_collects_them(case):
    case.write(rows_of(3))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        case.limit(row_limit=2).in_batches(wait=False)
        assert case.one("SELECT COUNT(*) FROM v_attempts") == 2
        assert case.in_batches(lane=LaneChoice.LIVE, wait=False).exit_code == 75
        assert len(simulator.bill) == 1
        simulator.end_batches()
        assert case.in_batches(lane=LaneChoice.LIVE).exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 3
    lanes = case.ask("SELECT row_number, lane FROM v_answers ORDER BY 1")
    assert lanes == [(1, "batch"), (2, "batch"), (3, "live")]


def test_a_cap_counts_what_is_in_batches(case):
    case.write(rows_of(6))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        bound = 10**12 // 500
        capped = case.limit(max_cost=3 * bound)
        ended = capped.in_batches(wait=False)
        out = capped.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'open'")
        high = capped.one("SELECT SUM(cost_high_pico_usd) FROM v_attempts")
        assert 0 < out < 6 or ended.exit_code == 75
        assert high <= 3 * bound
        simulator.end_batches()
        capped.in_batches(wait=False)
        assert cost_of(simulator.bill) <= 3 * bound


class Later(SystemClock):
    """The system's clock, some hours ahead."""

    def __init__(self, hours):
        self._ahead_us = hours * 3_600 * 10**6

    def now_us(self):
        return super().now_us() + self._ahead_us


def test_a_create_that_left_no_trace_for_a_day_never_made_a_batch(on_both):
    on_both.write(rows_of(2))
    with batching(on_both, creations=("vanished",)) as (case, simulator):
        case.in_batches(wait=False)
        assert case.in_batches(wait=False, clock=Later(23)).exit_code == 75
        assert case.in_batches(wait=False, clock=Later(26)).exit_code == 75
        assert case.ask("SELECT state FROM v_batches") == [("not_made",)]
        assert case.in_batches().exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 2


def test_rows_of_a_batch_that_was_never_made_go_live_in_the_same_command(on_both):
    on_both.write(rows_of(2))
    with batching(on_both, creations=("vanished",)) as (case, simulator):
        case.in_batches(wait=False)
        over = replace(case, options={"deadline": Deadline(at_us=1, words="then", pays=False)})
        phases = []

        def run(job):
            phases.append(job.lane)
            return case.in_batches(lane=job.lane, clock=Later(26))

        ended = run_by_deadline(over.job(), EndpointTimes(), Later(26), run, lambda: False)
        assert (ended.exit_code, phases) == (0, [LaneChoice.LIVE, LaneChoice.LIVE])
        assert ended.progress.answered == 2
        billed_once(case, simulator)
        assert len(simulator.bill) == 2


def test_a_deadline_that_passed_while_nobody_worked_is_missed_and_what_is_answered_then_is_late(
    on_both,
):
    on_both.write(rows_of(3))
    with batching(on_both) as (case, _):
        over = replace(case, options={"deadline": Deadline(at_us=1, words="then")})
        assert over.limit(row_limit=1).run().exit_code == 65
        engine = open_engine(case.database)
        (status,) = read_status(engine)
        assert (status.last.deadline_at, status.missed, status.late_rows) == (1, True, 1)
        assert deadline_missed_unseen(engine, case.key) == 1
        never = 2**60
        kept = Deadline(at_us=never, words="then", missed_us=1)
        assert replace(case, options={"deadline": kept}).run().unfinished_rows == {"late": 3}
        (status,) = read_status(engine)
        assert (status.last.deadline_at, status.missed, status.late_rows) == (never, False, 0)
        assert deadline_missed_unseen(engine, case.key) is None
        engine.dispose()


def test_our_lane_collects_what_the_official_client_submitted(case):
    case.write(rows_of(2))
    with batching(case, creations=("vanished",)) as (case, simulator):
        case.in_batches(wait=False)
        client = anthropic.Anthropic(api_key="any", base_url=simulator.base_url)
        uids = [uid for (uid,) in case.ask("SELECT attempt_uid FROM v_attempts ORDER BY 1")]
        client.messages.batches.create(
            requests=[
                {"custom_id": uid, "params": each["params"]}
                for uid, each in zip(uids, rows_of(2), strict=True)
            ]
        )
        assert case.in_batches().exit_code == 0
        billed_once(case, simulator)
    assert len(case.texts()) == 2


def test_the_official_client_reads_back_what_we_submitted(case):
    case.write(rows_of(3))
    with batching(case) as (case, simulator):
        case.in_batches()
        client = anthropic.Anthropic(api_key="any", base_url=simulator.base_url)
        batch_id = case.one("SELECT batch_id FROM v_batches")
        read = {
            line.custom_id: line.result.message.content[0].text
            for line in client.messages.batches.results(batch_id)
        }
    ours = case.ask("SELECT attempt_uid, text FROM v_answers_all")
    assert read == dict(ours)


def test_a_person_settles_what_got_lost(case):
    case.write(rows_of(2))
    with batching(case, creations=("vanished", "made"), queue_seconds=(SLOW, SLOW)) as (
        case,
        simulator,
    ):
        case.in_batches(wait=False)
        assert adopt(case.database, "msgbatch_wrong").attempts == 2
        with pytest.raises(UsageError, match="is known here"):
            adopt(case.database, "msgbatch_wrong")
        done = forget(case.database, "msgbatch_wrong")
        assert (done.attempts, done.command) == (2, "batcher run")
        with pytest.raises(UsageError, match="no batch 1 is out"):
            forget(case.database, "1")
        simulator.end_batches()
        case.in_batches(wait=False)
    states = case.ask("SELECT state, COUNT(*) FROM v_attempts GROUP BY 1 ORDER BY 1")
    assert states == [("open", 2), ("unknown", 2)]


def test_a_batch_that_was_adopted_and_is_not_ours_is_left_alone(case):
    case.write(rows_of(2))
    with batching(case, creations=("vanished",)) as (case, simulator):
        case.in_batches(wait=False)
        client = anthropic.Anthropic(api_key="any", base_url=simulator.base_url)
        other = client.messages.batches.create(
            requests=[{"custom_id": "theirs", "params": rows_of(1)[0]["params"]}]
        )
        adopt(case.database, other.id)
        assert case.in_batches(wait=False).exit_code == 75
        assert any("holds none of our requests" in said for said in case.watcher.waits)
    assert case.ask("SELECT state, batch_id FROM v_batches") == [("creating", None)]


def test_status_shows_what_is_out(case):
    case.write(rows_of(3))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, _):
        case.in_batches(pack=2, wait=False)
    engine = open_engine(case.database, read_only=True)
    try:
        shown = render_status(read_status(engine))
    finally:
        engine.dispose()
    assert "  batches   3 rows in 2 batches (2 in_progress), the oldest of " in shown
