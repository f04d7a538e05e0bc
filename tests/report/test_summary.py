from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.errors import UsageError
from batcher.report.figures import ChargeReason, Counts, LineSums, total_of
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.summary import summarise
from tests.report.ledger_rows import MICRO_USD, NOON

HOUR = 3_600_000_000
BIGGEST = 2**63 - 1


def by(*words, **fields):
    return ReportQuery(by=parse_dimensions(words), **fields)


def keys_and_costs(report):
    return {line.key: line.cost() for line in report.lines}


@pytest.fixture
def here(rows):
    """A run with one invocation and one source, all numbered 1."""
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1)
    return rows


def test_an_empty_ledger_has_nothing_to_report(rows, engine):
    report = summarise([engine], ReportQuery())
    assert (report.lines, report.total.counts, report.total.costs) == ((), Counts(), ())


def test_an_answer_counts_with_tokens_and_money(here, engine):
    attempt = here.answer(
        1, 1, cache_write_5m_tokens=3, cache_write_1h_tokens=4, cache_write_tokens=7,
        cache_read_tokens=2, thinking_tokens=1, web_search_requests=1,
    )  # fmt: skip
    here.charge(attempt, 105 * MICRO_USD)
    (line,) = summarise([engine], ReportQuery()).lines
    assert line.key == ("claude-sonnet-5",)
    assert line.costs == (("USD", 105 * MICRO_USD),)
    assert line.counts == Counts(
        requests=1, attempts=1, input_tokens=10, cache_write_5m_tokens=3,
        cache_write_1h_tokens=4, cache_read_tokens=2, output_tokens=5, thinking_tokens=1,
        web_search_requests=1,
    )  # fmt: skip


def test_sums_are_exact_beyond_64_bits(here, engine):
    for row in range(1, 5):
        here.charge(here.answer(1, 1, row), BIGGEST)
        here.attempt(1, 1, row, cost_low=BIGGEST - 1, cost_high=BIGGEST)
    total = summarise([engine], ReportQuery()).total
    assert total.cost() == 4 * BIGGEST
    assert (total.counts.in_doubt_low, total.counts.in_doubt_high) == (
        4 * BIGGEST - 4,
        4 * BIGGEST,
    )


def test_a_late_answer_and_an_earlier_leg_are_paid_but_no_further_requests(here, engine):
    first = here.answer(1, 1, final=0, stop_reason="pause_turn")
    here.charge(first, 7)
    same = {"request_id": first}
    here.charge(here.answer(1, 1, attempt=same | {"leg": 2}, legs=2), 11)
    here.charge(here.answer(1, 1, attempt=same | {"state": "late"}, final=0), 13)
    total = summarise([engine], ReportQuery()).total
    assert (total.counts.requests, total.counts.attempts, total.cost()) == (1, 3, 31)
    assert (total.counts.late_attempts, total.counts.input_tokens) == (1, 30)


def test_answers_of_an_older_version_of_a_file_still_count(here, engine):
    here.source(1, superseded_by=1)
    here.charge(here.answer(1, 2), 5)
    assert summarise([engine], ReportQuery()).total.cost() == 5


def test_every_state_in_doubt_is_an_interval_and_no_cost(here, engine):
    for state in ("partial", "unknown", "unusable", "open"):
        here.attempt(1, 1, state=state, cost_low=1, cost_high=10)
    here.attempt(1, 1, state="unknown", cost_low=1, cost_high=None)
    here.attempt(1, 1, state="rejected", cost_low=0, cost_high=99)
    here.attempt(1, 1, state="not_sent", cost_low=0, cost_high=99)
    total = summarise([engine], ReportQuery()).total
    assert total.costs == ()
    assert total.counts == Counts(
        attempts=7, in_doubt_attempts=5, open_attempts=1, refused_attempts=1,
        not_sent_attempts=1, in_doubt_low=5, in_doubt_high=40, in_doubt_unbounded=1,
        maybe_billed_attempts=1, maybe_billed_high=99,
    )  # fmt: skip


def test_what_came_of_a_broken_stream_is_in_doubt_not_answered(here, engine):
    partial = {"state": "partial", "cost_low": 3, "cost_high": 9}
    here.answer(1, 1, attempt=partial, final=0)
    counts = summarise([engine], ReportQuery()).total.counts
    assert counts == Counts(attempts=1, in_doubt_attempts=1, in_doubt_low=3, in_doubt_high=9)


def test_a_refusal_that_is_not_billed_costs_nothing_and_is_not_unpriced(here, engine):
    refused = here.answer(1, 1, stop_reason="refusal")
    here.charge(refused, 0, status="unbilled", currency=None, reason="refusal_before_output")
    report = summarise([engine], ReportQuery())
    assert (report.total.cost(), report.total.counts.unpriced_requests) == (0, 0)


def test_what_has_no_price_is_counted_apart_with_its_reason(here, engine):
    unknown = here.answer(1, 1, model="other")
    here.charge(unknown, None, model="other")
    here.charge(unknown, None, model="other", line=1, input_quantity=1, output_quantity=None)
    here.charge(here.answer(1, 1, 2), 8)
    report = summarise([engine], ReportQuery())
    assert (report.total.counts.unpriced_requests, report.total.counts.unpriced_tokens) == (
        1,
        16,
    )
    assert report.unpriced == (ChargeReason(text="unknown_model", model="other", charges=2),)
    assert keys_and_costs(report) == {("claude-sonnet-5",): 8, ("other",): 0}


def test_an_answer_that_was_never_rated_is_unpriced_not_free(here, engine):
    here.answer(1, 1, cache_write_tokens=4, cache_write_1h_tokens=1)
    counts = summarise([engine], ReportQuery()).total.counts
    assert (counts.unpriced_requests, counts.unpriced_tokens) == (1, 19)
    assert (counts.cache_write_5m_tokens, counts.cache_write_1h_tokens) == (3, 1)


def test_several_usage_lines_count_their_answer_once(here, engine):
    attempt = here.answer(1, 1)
    for line in range(3):
        here.charge(attempt, 2, line=line)
    total = summarise([engine], ReportQuery()).total
    assert (total.counts.attempts, total.counts.input_tokens, total.cost()) == (1, 10, 6)


def test_only_the_rating_in_force_counts(here, engine):
    here.insert_many("ratings", [
        {"rating_id": 2, "price_book_id": 1, "created_at": NOON, "reason": "reprice"}
    ])  # fmt: skip
    attempt = here.answer(1, 1)
    here.charge(attempt, 100, current=0)
    here.charge(attempt, 50, rating_id=2)
    report = summarise([engine], ReportQuery())
    assert (report.total.cost(), report.price_books) == (50, ("2026-01",))


def test_currencies_are_never_added(here, engine):
    here.charge(here.answer(1, 1, 1), 5)
    here.charge(here.answer(1, 1, 2), 7, currency="CRUN")
    report = summarise([engine], ReportQuery())
    assert report.total.costs == (("CRUN", 7), ("USD", 5))
    assert report.currencies == ("USD", "CRUN")


def test_simulated_charges_stay_out_beside_real_ones(here, engine):
    here.charge(here.answer(1, 1), 5)
    here.run("demo.jsonl")
    here.invocation(2, endpoint="simulator", simulated=1)
    here.source(2)
    here.charge(here.answer(2, 2, run_id=2), 70)
    here.attempt(2, 2, cost_high=4)
    report = summarise([engine], by("endpoint"))
    assert (keys_and_costs(report), report.simulated_left_out) == ({("anthropic",): 5}, True)
    alone = summarise([engine], by("endpoint", run=2))
    assert (keys_and_costs(alone), alone.simulated_left_out) == ({("simulator",): 70}, False)
    assert (alone.total.counts.in_doubt_high, alone.simulated_only) == (4, True)


@pytest.mark.parametrize(
    ("word", "key", "doubtful"),
    [
        ("model", "claude-sonnet-5", "claude-sonnet"),
        ("requested_model", "claude-sonnet", "claude-sonnet"),
        ("stop_reason", "end_turn", None),
        ("run", 1, 1),
        ("invocation", 1, 1),
        ("job", "nightly", "nightly"),
        ("endpoint", "anthropic", "anthropic"),
        ("lane", "live", "live"),
        ("source", "rows.jsonl", "rows.jsonl"),
        ("tag:team", None, None),
        ("day", "2026-01-05", "2026-01-05"),
        ("hour", "2026-01-05T12:00+00:00", "2026-01-05T12:00+00:00"),
        ("week", "2026-W02", "2026-W02"),
        ("month", "2026-01", "2026-01"),
    ],
)
def test_every_dimension_finds_answers_and_doubts(here, engine, word, key, doubtful):
    asked = {"requested_model": "claude-sonnet"}
    here.charge(here.answer(1, 1, attempt=asked, **asked), 5)
    here.attempt(1, 1, 2, **asked, cost_high=3)
    lines = {line.key[0]: line for line in summarise([engine], by(word)).lines}
    assert (lines[key].cost(), lines[doubtful].counts.in_doubt_high) == (5, 3)
    assert lines.keys() == {key, doubtful}


def test_several_dimensions_make_one_key(here, engine):
    here.invocation(1, tags='{"team":"a"}')
    here.charge(here.answer(1, 1, 1), 5)
    here.charge(here.answer(2, 1, 2), 7)
    report = summarise([engine], by("tag:team", "job"))
    assert keys_and_costs(report) == {("a", "nightly"): 7, (None, "nightly"): 5}
    assert [line.label for line in report.lines] == [
        ("a", "nightly"),
        ("(untagged)", "nightly"),
    ]


def test_people_see_a_run_with_its_name_and_an_invocation_with_its_start(here, engine):
    here.charge(here.answer(1, 1), 5)
    (line,) = summarise([engine], by("run", "invocation")).lines
    assert (line.key, line.label) == ((1, 1), ("1 nightly", "1 2026-01-05T12:00:00Z"))


def test_days_follow_the_moment_of_sending_in_the_zone(here, engine):
    here.charge(here.answer(1, 1, attempt={"sent_at": NOON + 11 * HOUR}), 5)
    here.attempt(1, 1, sent_at=None, opened_at=NOON + 11 * HOUR, state="not_sent")
    assert keys_and_costs(summarise([engine], by("day"))) == {("2026-01-05",): 5}
    paris = summarise([engine], by("day", timezone="Europe/Paris"))
    assert keys_and_costs(paris) == {("2026-01-06",): 5}


def test_since_is_inclusive_and_until_is_not(here, engine):
    for row, sent_at in enumerate((NOON - 1, NOON, NOON + 1), start=1):
        here.charge(here.answer(1, 1, row, attempt={"sent_at": sent_at}), 10**row)
        here.attempt(1, 1, row, sent_at=sent_at, cost_high=10**row)
    total = summarise([engine], by("model", since=NOON, until=NOON + 1)).total
    assert (total.cost(), total.counts.in_doubt_high) == (100, 100)


def test_a_run_that_is_not_there_is_refused(rows, engine):
    with pytest.raises(UsageError, match="there is no run 9 here"):
        summarise([engine], ReportQuery(run=9))


def test_an_unknown_zone_is_refused_before_the_ledger_is_read(rows, engine):
    with pytest.raises(UsageError, match="no time zone"):
        summarise([engine], ReportQuery(timezone="Nowhere"))


def test_random_money_equals_exact_fractions_under_any_grouping(here, engine):
    amounts = [(index * 7_919 * 10**13 + 1) % 2**62 for index in range(300)]
    attempts = [here_row(index) for index in range(300)]
    here.insert_many("attempts", [attempt for attempt, _ in attempts])
    here.insert_many("answers", [answer for _, answer in attempts])
    here.insert_many("charges", [
        {"attempt_id": index + 1, "line": 0, "rating_id": 1, "current": 1, "status": "priced",
         "currency": "USD", "total_amount": amount} for index, amount in enumerate(amounts)
    ])  # fmt: skip
    exact = sum((Fraction(amount, 10**12) for amount in amounts), Fraction(0))
    for words in (("model",), ("hour", "stop_reason"), ("invocation", "day", "model")):
        report = summarise([engine], by(*words))
        assert Fraction(report.total.cost(), 10**12) == exact
        assert report.total.counts.requests == 300


def here_row(index):
    sent_at = NOON + index * HOUR
    shared = {
        "attempt_id": index + 1, "invocation_id": 1, "request_id": index + 1, "source_id": 1,
        "row_number": index, "params_hash": b"h", "requested_model": f"model-{index % 3}",
    }  # fmt: skip
    attempt = shared | {
        "attempt_uid": str(index), "number": 1, "leg": 1, "purpose": "first", "lane": "live",
        "state": "answered", "pending": 0, "opened_at": sent_at, "sent_at": sent_at,
        "settled_at": sent_at, "cost_low": 0, "cost_high": 0,
    }  # fmt: skip
    answer = shared | {
        "run_id": 1, "identity": index, "final": 1, "model": f"model-{index % 3}",
        "stop_reason": f"reason-{index % 5}", "text": "", "text_repaired": 0, "content": "[]",
        "attempts": 1, "legs": 1, "latency_us": 0, "answered_at": sent_at,
    }  # fmt: skip
    return attempt, answer


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["USD", "CRUN"]),
                          st.integers(0, 2**70))))  # fmt: skip
def test_charges_add_up_under_any_grouping(charges):
    lines, everything = {}, LineSums()
    for group, currency, amount in charges:
        lines.setdefault(group, LineSums()).add(Counts(attempts=1), currency, amount)
        everything.add(Counts(attempts=1), currency, amount)
    total = total_of(sums.line((group,)) for group, sums in lines.items())
    assert total == everything.line(())


def test_what_cost_most_comes_first_within_each_bucket_of_time(here, engine):
    day = 86_400_000_000
    for number, (model, after, cost) in enumerate(
        [("a", 0, 5), ("b", 0, 7), ("c", 1, 6), ("b", 1, 1), ("a", 1, 9)]
    ):
        sent = {"sent_at": NOON + after * day}
        here.charge(here.answer(1, 1, number, model=model, attempt=sent), cost, model=model)
    by_model = summarise([engine], ReportQuery(by=parse_dimensions(["model"])))
    assert [line.key for line in by_model.lines] == [("a",), ("b",), ("c",)]
    by_day = summarise([engine], ReportQuery(by=parse_dimensions(["model", "day"])))
    assert [line.key[0] for line in by_day.lines] == ["b", "a", "a", "c", "b"]
