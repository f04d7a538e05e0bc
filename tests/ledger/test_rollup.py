"""The sums beside the charges: whatever is written, they equal what they are sums of."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy import text

from batcher.clock import SystemClock
from batcher.ledger.connect import reading, writing
from batcher.ledger.verify.totals import expected_rollups, stored_rollups
from batcher.ledger.write.transaction import Recorder
from batcher.messages.request import State
from batcher.pricing.money import LARGEST_AMOUNT
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.summary import summarise
from tests.ledger.settling import MODEL, NOON, RunLedger

QUARTER = 900_000_000
COUNTS = st.none() | st.integers(0, 10**9)
USAGES = st.fixed_dictionaries(
    {},
    optional={
        "input_tokens": COUNTS,
        "output_tokens": COUNTS,
        "cache_read_input_tokens": COUNTS,
        "cache_creation_input_tokens": COUNTS,
        "cache_creation": st.fixed_dictionaries(
            {},
            optional={"ephemeral_5m_input_tokens": COUNTS, "ephemeral_1h_input_tokens": COUNTS},
        ),
        "server_tool_use": st.fixed_dictionaries({"web_search_requests": st.integers(0, 9)}),
        "iterations": st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["message", "compaction"])},
                optional={
                    "input_tokens": COUNTS,
                    "output_tokens": COUNTS,
                    "model": st.sampled_from([MODEL, "unheard-of"]),
                },
            ),
            max_size=3,
        ),
    },
)
MESSAGES = st.fixed_dictionaries(
    {
        "model": st.sampled_from([MODEL, "unheard-of", "", None]),
        "stop_reason": st.sampled_from(["end_turn", "refusal", "", None]),
        "content": st.sampled_from([[], [{"type": "text", "text": "Hello"}]]),
    }
)
STATES = st.sampled_from([State.ANSWERED, State.LATE])
ANSWERS = st.tuples(USAGES, MESSAGES, st.integers(0, 3 * QUARTER), STATES, st.booleans())


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


def sums(ledger):
    with reading(ledger.engine) as connection:
        return stored_rollups(connection), expected_rollups(connection)


def records(ledger, answers):
    for usage, message, later, state, is_rated in answers:
        changes = {"state": state, "final": state is State.ANSWERED}
        if not is_rated:
            changes["charges"] = ()
        yield ledger.answered(usage, message=message, sent_at=NOON + later, **changes)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=st.lists(st.lists(ANSWERS, max_size=6), min_size=1, max_size=3))
def test_the_sums_are_those_of_answers_and_charges_after_any_batches(ledger, batches):
    for answers in batches:
        ledger.write(*records(ledger, answers), ledger.broken(), ledger.unknown())
    stored, expected = sums(ledger)
    assert stored == expected


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=8))
def test_a_report_from_the_sums_is_the_report_from_the_rows(ledger, answers):
    ledger.write(*records(ledger, answers))
    words = ("model", "requested_model", "stop_reason", "hour", "run", "invocation", "lane")
    kept = summarise([ledger.engine], ReportQuery(by=parse_dimensions(words)))
    read = summarise([ledger.engine], ReportQuery(by=parse_dimensions((*words, "source"))))
    by_place = {}
    for line in read.lines:
        by_place[line.key[:-1]] = (line.counts, line.costs)
    assert by_place == {line.key: (line.counts, line.costs) for line in kept.lines}
    assert (kept.total.counts, kept.total.costs) == (read.total.counts, read.total.costs)


def test_a_batch_that_is_rolled_back_leaves_nothing(ledger):
    answered = ledger.answered()
    batch = Recorder(ledger.engine.dialect, ledger.scope, SystemClock())
    with ledger.engine.connect() as connection:
        batch.write(connection, answered)
        connection.rollback()
    assert sums(ledger) == ({}, {})
    ledger.write(answered)
    stored, expected = sums(ledger)
    assert len(stored) == 1
    assert stored == expected


def test_amounts_add_up_beyond_64_bits(ledger):
    for _ in range(3):
        _, settled = ledger.answered()
        (charge,) = settled.charges
        ledger.write(ledger.answered(charges=(replace(charge, total=LARGEST_AMOUNT),)))
    stored, expected = sums(ledger)
    assert stored == expected
    assert summarise([ledger.engine], ReportQuery()).total.cost() == 3 * LARGEST_AMOUNT


@pytest.mark.parametrize("change", ["since", "until"])
def test_a_window_inside_a_quarter_hour_is_exact(ledger, change):
    start = NOON - NOON % QUARTER
    for offset in (0, 1, QUARTER - 1, QUARTER):
        ledger.write(ledger.answered(sent_at=start + offset))
    for moment in (start, start + 1, start + QUARTER - 1, start + QUARTER):
        found = summarise(
            [ledger.engine], ReportQuery(**{change: moment})
        ).total.counts.requests
        before = sum(start + offset < moment for offset in (0, 1, QUARTER - 1, QUARTER))
        assert found == (4 - before if change == "since" else before)


def test_two_runs_never_write_the_same_sums(ledger):
    ledger.write(ledger.answered())
    ledger.next_run("second")
    ledger.write(ledger.answered())
    stored, expected = sums(ledger)
    assert stored == expected
    assert {key[0] for key in stored} == {1, 2}


def test_a_changed_sum_is_seen(ledger):
    ledger.write(ledger.answered())
    with writing(ledger.engine) as connection:
        connection.execute(text("UPDATE rollups SET amount_rest = amount_rest + 1"))
    stored, expected = sums(ledger)
    assert stored != expected
