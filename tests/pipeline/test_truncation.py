"""Answers that were cut off: kept, failed, or asked for again with more room."""

import json
from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.messages.legs import body_with_max_tokens
from batcher.messages.request import Request
from batcher.pipeline.choices import AnswerChoices, parse_on_truncate
from tests.making_runs import (
    FakeLane,
    answered,
    endpoint_of,
    photograph,
    row,
    rows,
    simulating,
    unknown,
)

RAISE = AnswerChoices(raise_factor=Fraction(2))
FAIL = AnswerChoices(fail_truncated=True)


def sized(needed: int, **fields):
    """An answer of `needed` tokens, cut off where `max_tokens` is less."""

    def script(attempt):
        limit = json.loads(attempt.body)["max_tokens"]
        cut = {"stop_reason": "max_tokens"} if limit < needed else {}
        usage = {"input_tokens": 10, "output_tokens": min(limit, needed)}
        return answered("x" * min(limit, needed), usage=usage, **(fields | cut))

    return script


def limits(lane):
    return [json.loads(attempt.body)["max_tokens"] for attempt in lane.sent]


def purposes(case):
    return [p for (p,) in case.ask("SELECT purpose FROM v_attempts ORDER BY attempt")]


def test_a_truncated_answer_is_kept_by_default(case):
    case.write([row("x")])
    ended = case.run(lane := FakeLane(sized(900)))
    assert (ended.exit_code, ended.progress.truncated, limits(lane)) == (0, 1, [256])
    assert case.one("SELECT stop_reason FROM v_answers") == "max_tokens"


@pytest.mark.parametrize("reason", ["max_tokens", "model_context_window_exceeded"])
def test_a_truncated_row_fails_when_asked_and_its_answer_stays_paid_for(on_both, reason):
    on_both.write(rows(3))
    on_both.options["answers"] = FAIL
    lane = FakeLane(lambda a: answered("part", stop_reason=reason))
    assert on_both.run(lane).exit_code == 65
    assert on_both.ask("SELECT DISTINCT kind, reason FROM v_failures") == [
        ("failed", "truncated")
    ]
    assert on_both.one("SELECT COUNT(*) FROM v_answers") == 0
    assert on_both.ask("SELECT text, final FROM v_answers_all") == [("part", 0)] * 3
    assert on_both.one("SELECT SUM(amount_pico_usd) FROM v_charges") > 0
    assert on_both.run(lane).unfinished_rows == {"failed": 3}
    assert len(lane.sent) == 3


def test_a_failed_truncated_row_goes_again_after_its_release(case):
    case.write([row("x")])
    case.options["answers"] = FAIL
    lane = FakeLane(sized(900))
    case.run(lane)
    assert case.release() == 1
    case.options.clear()
    assert case.run(lane).exit_code == 0
    assert purposes(case) == ["first", "first"]


def test_max_tokens_is_raised_until_the_answer_fits(on_both):
    on_both.write([row("x", "x")])
    on_both.options["answers"] = RAISE
    ended = on_both.run(lane := FakeLane(sized(900)))
    assert (ended.exit_code, ended.progress.answered) == (0, 1)
    assert limits(lane) == [256, 512, 1024]
    assert purposes(on_both) == ["first", "truncation", "truncation"]
    found = on_both.ask(
        "SELECT final, stop_reason, output_tokens, legs FROM v_answers_all ORDER BY 3"
    )
    assert found == [
        (0, "max_tokens", 256, 1),
        (0, "max_tokens", 512, 1),
        (1, "end_turn", 900, 1),
    ]
    assert on_both.ask("SELECT output_tokens, attempts FROM v_answers") == [(900, 3)]
    assert on_both.one("SELECT COUNT(*) FROM attempts WHERE pending = 1") == 0


def test_a_raised_row_is_the_same_request_and_is_never_paid_again(case):
    case.write([row("x", "x")])
    case.options["answers"] = RAISE
    case.run(lane := FakeLane(sized(400)))
    assert len(lane.sent) == 2
    case.write([row("new"), row("x", "x")])  # it moved
    case.run(lane)
    assert [a.request.custom_id for a in lane.sent] == ["x", "x", None, None]


def test_raising_stops_when_the_answer_did_not_grow(case):
    case.write([row("x")])
    case.options["answers"] = RAISE
    stuck = {"input_tokens": 10, "output_tokens": 100}
    lane = FakeLane(lambda a: answered("same", stop_reason="max_tokens", usage=stuck))
    assert case.run(lane).exit_code == 0
    assert limits(lane) == [256, 512]
    assert case.ask("SELECT stop_reason, attempts FROM v_answers") == [("max_tokens", 2)]


def test_a_full_context_window_is_no_reason_to_raise(case):
    case.write([row("x")])
    case.options["answers"] = RAISE
    reason = "model_context_window_exceeded"
    case.run(lane := FakeLane(lambda a: answered(stop_reason=reason)))
    assert len(lane.sent) == 1


def test_a_warming_request_is_not_truncated(case):
    case.write([row("x", max_tokens=0)])
    case.options["answers"] = FAIL
    lane = FakeLane(lambda a: answered("", stop_reason="max_tokens", content=[]))
    assert case.run(lane).exit_code == 0


def test_a_lost_answer_is_asked_for_again_with_the_raised_limit(case):
    case.write([row("x")])
    case.options["answers"] = RAISE
    fits = sized(400)

    def script(attempt):
        return unknown() if attempt.number == 2 else fits(attempt)

    lane = FakeLane(script)
    assert case.run(lane).exit_code == 0
    assert limits(lane) == [256, 512, 512]
    assert purposes(case) == ["first", "truncation", "retry"]


@pytest.mark.parametrize("on_the", [2, 3])
def test_a_killed_row_goes_on_with_the_limit_it_had_reached(case, on_the):
    case.write([row("x", "x")])
    case.options["answers"] = RAISE
    photo, fits = case.folder / "killed.db", sized(900)

    async def script(attempt):
        if attempt.number == on_the:
            photograph(case.database, photo)
        return fits(attempt)

    case.run(FakeLane(script))
    after = replace(case, database=str(photo))
    lane = FakeLane(fits)
    assert after.run(lane).exit_code == 0
    assert limits(lane) == [256 * 2 ** (n - 1) for n in range(on_the, 4)]
    assert after.ask("SELECT output_tokens FROM v_answers") == [(900,)]


def test_the_limit_of_the_model_is_not_exceeded(case, tmp_path):
    from batcher import wiring
    from batcher.wiring.fallbacks import rules_of

    command = wiring.asked(("rows.jsonl",), None, None, options={"on_truncate": "raise=2x"})
    job = wiring.resolve(command)
    most = rules_of(job.endpoint).largest_output
    assert most("claude-sonnet-4-5", ()) == 64_000
    assert most("claude-sonnet-4-6", ()) == 128_000
    assert most("claude-sonnet-4-6", ("output-300k-2026-03-24",)) is None
    assert most("llama-7b", ()) is None


def test_raising_ends_at_the_known_limit_of_the_model(case, monkeypatch):
    from batcher.pipeline.engine.policies import AnswerPolicy, Better, Keep, judge
    from batcher.pipeline.engine.work import Work

    request = Request(
        source_id=1, row_number=1, byte_offset=0, custom_id=None, params_hash=b"",
        model="m", max_tokens=300, body=b'{"messages":[]}',
    )  # fmt: skip
    policy = AnswerPolicy(choices=RAISE, largest_output=lambda _m, _b: 500)
    cut = answered(stop_reason="max_tokens").answer
    ruling = judge(Work(request=request), cut, policy, may_go_on=True)
    assert isinstance(ruling, Better)
    assert ruling.max_tokens == 500
    work = Work(request=request)
    work.raise_max_tokens(500)
    assert isinstance(judge(work, cut, policy, may_go_on=True), Keep)


def test_the_simulator_gives_more_when_it_is_given_more(case):
    case.write([row("long [[output:700]]", "long"), row("short [[output:20]]", "short")])
    case.options["answers"] = RAISE
    with simulating() as simulator:
        case.endpoint = endpoint_of(simulator)
        assert case.run().exit_code == 0
    found = case.ask("SELECT custom_id, output_tokens, stop_reason FROM v_answers ORDER BY 1")
    assert [found[0][:2], found[1][:2]] == [("long", 700), ("short", 20)]
    assert found[0][2] != "max_tokens"


def test_a_limit_that_needs_a_stream_is_streamed():
    from batcher.pipeline.engine.work import Work

    request = Request(
        source_id=1, row_number=1, byte_offset=0, custom_id=None, params_hash=b"h",
        model="m", max_tokens=20_000, body=b'{"max_tokens":20000,"messages":[]}',
    )  # fmt: skip
    work = Work(request=request)
    work.raise_max_tokens(21_333)
    assert not work.request.streams
    work.raise_max_tokens(21_334)
    assert work.request.streams
    assert work.request.params_hash == b"h"


# --- What may be written


@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        (None, (False, None)),
        ("keep", (False, None)),
        ("fail", (True, None)),
        ("raise=2x", (False, Fraction(2))),
        ("raise=1.5", (False, Fraction(3, 2))),
    ],
)
def test_what_may_be_written_for_truncated_answers(text, meaning):
    assert parse_on_truncate(text) == meaning


@pytest.mark.parametrize(
    "text", ["", "raise", "raise=1x", "raise=0", "raise=101", "raise=-2", "retry"]
)
def test_what_may_not_be_written_for_truncated_answers(text):
    with pytest.raises(ConfigurationError, match="on_truncate"):
        parse_on_truncate(text)


@given(st.integers(1, 10**9), st.dictionaries(st.text(), st.integers() | st.text()))
def test_only_the_limit_of_a_body_changes(limit, fields):
    fields.pop("max_tokens", None)
    body = json.dumps(fields | {"max_tokens": 1}).encode()
    assert json.loads(body_with_max_tokens(body, limit)) == fields | {"max_tokens": limit}
