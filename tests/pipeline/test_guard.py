"""`[guard]`: answers unlike those of before stop a run, and say which number was what."""

from dataclasses import replace
from fractions import Fraction

import pytest

from batcher.errors import ConfigurationError
from batcher.messages.request import Answered
from batcher.pipeline.choices import GuardTable, guard_limits
from tests.making_runs import FakeLane, FastClock, answered, refused, row, rows

GUARD = guard_limits(GuardTable(rows=20, window=40, factor=2))
QUESTIONS = 200


@pytest.fixture
def job(on_both):
    """A job that had a night as usual; its guard compares twenty rows at a time."""
    on_both.options["guard"] = GUARD
    on_both.write(rows(QUESTIONS, "night one {}"))
    ended = on_both.run(FakeLane(lambda _: usual()))
    assert ended.exit_code == 0
    assert "compares nothing yet: this job has 0 answers" in on_both.watcher.start.notes[0]
    on_both.write(rows(QUESTIONS, "night two {}"))
    return on_both


def usual(**fields):
    usage = {"input_tokens": 100, "output_tokens": 50}
    return answered(**{"usage": usage} | fields)


def slow(outcome, seconds=60):
    exchange = outcome.exchange
    late = exchange.settled_at + int(seconds * 1_000_000)
    return Answered(replace_settled(exchange, late), outcome.answer)


def replace_settled(exchange, settled_at):
    values = {name: getattr(exchange, name) for name in exchange.__struct_fields__}
    return type(exchange)(**values | {"settled_at": settled_at})


def test_a_night_like_the_one_before_goes_through(job):
    assert job.run(FakeLane(lambda _: usual())).exit_code == 0
    assert job.watcher.start.notes == ()


UNUSUAL = {
    "input_tokens": (
        lambda: usual(usage={"input_tokens": 30, "cache_read_input_tokens": 200,
                             "output_tokens": 50}),
        "230.0 input tokens an answer",
        "had 100.0",
    ),
    "output_tokens": (
        lambda: usual(usage={"input_tokens": 100, "output_tokens": 150}),
        "150.0 output tokens an answer",
        "had 50.0",
    ),
    "latency": (lambda: slow(usual()), "60 seconds until the answer", "had 0.001"),
    "refusals": (lambda: usual(stop_reason="refusal"), "of the answers refusals", "had 0.0%"),
    "truncations": (lambda: usual(stop_reason="max_tokens"), "of the answers cut off", "0.0%"),
}  # fmt: skip


@pytest.mark.parametrize("name", UNUSUAL)
def test_past_the_factor_the_run_ends_and_says_what_was_what(job, name):
    job.options["guard"] = replace(GUARD, factors={name: Fraction(2)})
    make, now, before = UNUSUAL[name]
    lane = FakeLane(lambda _: make())
    ended = job.run(lane)
    assert ended.exit_code == 65
    assert f"[guard] {name}: the latest" in ended.error
    assert now in ended.error, ended.error
    assert before in ended.error, ended.error
    assert ended.rows_left
    assert len(lane.sent) <= 20 + 2 * job.limits.concurrency, "it drains after the first rows"


def test_refused_rows_are_failures(job):
    """Not the first ones: a model whose first rows are all refused ends the run anyway."""

    def script(attempt):
        return usual() if attempt.request.row_number % 3 else refused(400)

    ended = job.run(FakeLane(script))
    assert ended.exit_code == 65
    assert "[guard] failures: the latest" in ended.error, ended.error
    assert "% of the attempts failed, where the 200 before had 0.0%" in ended.error


def test_a_dearer_night_is_told_in_dollars(job):
    job.options["guard"] = replace(GUARD, factors={"cost": Fraction(3, 2)})
    usage = {"input_tokens": 100, "output_tokens": 250}
    ended = job.run(FakeLane(lambda _: usual(usage=usage)))
    assert (ended.exit_code, "$0.00405 an answer" in ended.error) == (65, True), ended.error
    assert "had $0.00105" in ended.error


def test_what_begins_in_the_middle_is_noticed_in_the_window(job):
    seen = []

    def script(_):
        seen.append(1)
        many = 5_000 if len(seen) > 150 else 50
        return usual(usage={"input_tokens": 100, "output_tokens": many})

    ended = job.run(FakeLane(script))
    assert ended.exit_code == 65
    assert "the latest 40 have" in ended.error
    assert len(seen) < QUESTIONS


def test_the_ledger_is_whole_and_the_night_that_was_stopped_is_no_measure(job):
    usage = {"input_tokens": 100, "output_tokens": 5_000}
    for _ in range(3):
        ended = job.run(FakeLane(lambda _: usual(usage=usage)))
        assert (ended.exit_code, "had 50.0" in ended.error) == (65, True), ended.error
    codes = [code for (code,) in job.ask("SELECT exit_code FROM invocations ORDER BY 1")]
    assert codes == [0, 65, 65, 65]
    assert not job.ask("SELECT 1 FROM v_attempts WHERE state = 'open'")
    ended = job.run(FakeLane(lambda _: usual()))
    assert ended.exit_code == 0
    assert job.one("SELECT count(*) FROM v_answers") == QUESTIONS


def test_what_waits_for_quota_is_no_failure(job):
    job.options["guard"] = replace(GUARD, factors={"failures": Fraction(2)})

    def script(attempt):
        waits = attempt.number == 1 and 30 <= attempt.request.row_number < 38
        return refused(429, headers={"retry-after": "1"}) if waits else usual()

    assert job.run(FakeLane(script), FastClock()).exit_code == 0


def test_chance_is_no_reason(job):
    """One refusal in thirty, where there was none before, is less than one in twenty."""
    outcomes = [usual(stop_reason="refusal"), *[usual() for _ in range(29)]]
    assert job.run(FakeLane(lambda a: outcomes[a.request.row_number % 30])).exit_code == 0


def test_a_latency_below_a_second_is_no_reason(job):
    """A local server that is busy with other things takes longer, and nobody minds."""
    job.options["guard"] = replace(GUARD, factors={"latency": Fraction(2)})
    assert job.run(FakeLane(lambda _: slow(usual(), seconds=0.5))).exit_code == 0


def test_without_a_guard_nothing_is_compared(job):
    job.options["guard"] = None
    usage = {"input_tokens": 100, "output_tokens": 9_000}
    assert job.run(FakeLane(lambda _: usual(usage=usage))).exit_code == 0


def test_other_settings_are_compared_with_the_old_ones_until_they_have_a_history(job):
    usage = {"input_tokens": 100, "output_tokens": 500}
    changed = replace(
        job, settings=replace(job.settings, system="Be long."), inputs=("b.jsonl",)
    )
    changed.write([row(f"b {n}", f"b-{n}") for n in range(QUESTIONS)], "b.jsonl")
    ended = changed.run(FakeLane(lambda _: usual(usage=usage)))
    assert (ended.exit_code, "had 50.0" in ended.error) == (65, True), ended.error
    changed.options = {"guard": replace(GUARD, factors={"output_tokens": Fraction(20)})}
    assert changed.run(FakeLane(lambda _: usual(usage=usage))).exit_code == 0
    changed.options = {"guard": GUARD}
    changed.write([row(f"c {n}", f"c-{n}") for n in range(QUESTIONS)], "b.jsonl")
    assert changed.run(FakeLane(lambda _: usual(usage=usage))).exit_code == 0


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ({"rows": 5}, "rows is 10 at least"),
        ({"rows": 100, "window": 50}, "window no smaller"),
        ({"factor": 1}, "factor is 1; it must be above 1"),
        ({"cost": 0.5}, "cost is 0.5"),
        ({"latency": -2}, "latency is -2"),
        ({"factor": float("nan")}, "factor is nan"),
    ],
)
def test_a_guard_that_cannot_be_is_refused(table, sentence):
    with pytest.raises(ConfigurationError, match=sentence):
        guard_limits(GuardTable(**table))


def test_a_factor_of_nothing_compares_nothing():
    limits = guard_limits(GuardTable(factor=2, latency=0, cost=1.5))
    assert "latency" not in limits.factors
    assert limits.factors["cost"] == Fraction(3, 2)
    assert limits.factors["refusals"] == 2
