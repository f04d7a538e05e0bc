"""Structured output: whether answers follow their schema, and what happens to the others."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.pipeline.choices import (
    AnswerChoices,
    ValidateTable,
    answer_choices,
    parse_on_invalid,
)
from batcher.pipeline.engine.validate import AnswerValidator
from tests.making_runs import (
    FakeLane,
    answered,
    endpoint_of,
    in_turn,
    photograph,
    row,
    rows,
    simulating,
)

SCHEMA = {
    "type": "object",
    "properties": {"n": {"type": "integer"}},
    "required": ["n"],
    "additionalProperties": False,
}
SCHEMA_TEXT = json.dumps(SCHEMA).encode()
FORMAT = {"format": {"type": "json_schema", "schema": SCHEMA}}
RETRY = AnswerChoices(retries=2)
FAIL = AnswerChoices(fail_invalid=True)
GOOD, BAD = '{"n": 1}', '{"n": "one"}'


def asking(prompt: str = "x", custom_id: str | None = None):
    return row(prompt, custom_id, output_config=FORMAT)


def valid(case):
    return case.ask("SELECT valid, invalid_reason FROM v_answers ORDER BY row_number")


def test_answers_are_valid_or_say_why_not_or_were_not_asked(on_both):
    on_both.write([asking("good"), asking("bad"), asking("prose"), row("free")])
    texts = {"good": GOOD, "bad": BAD, "prose": "One, I think.", "free": BAD}
    lane = FakeLane(in_turn({prompt: [answered(said)] for prompt, said in texts.items()}))
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.progress.invalid, len(lane.sent)) == (0, 2, 4)
    good, bad, prose, free = valid(on_both)
    assert (good, free) == ((1, None), (None, None))
    assert bad == (0, "$.n: 'one' is not of type 'integer'")
    assert prose[0] == 0
    assert "no JSON" in prose[1]


def test_the_jobs_schema_holds_for_every_row_and_wins(case):
    case.write([row("a"), asking("b")])
    case.options["answers"] = AnswerChoices(schema=b'{"type": "object", "maxProperties": 0}')
    case.run(FakeLane(lambda _: answered(GOOD)))
    assert [flag for flag, _ in valid(case)] == [0, 0]


def told(attempt):
    """The messages that an attempt sends beyond the row's own."""
    return json.loads(attempt.body)["messages"][1:]


def test_an_invalid_answer_is_asked_for_again_with_what_is_wrong_and_kept(on_both):
    on_both.write([asking()])
    on_both.options["answers"] = RETRY
    lane = FakeLane(in_turn({"x": [answered(BAD), answered(GOOD)]}))
    assert on_both.run(lane).exit_code == 0
    assert [attempt.purpose for attempt in lane.sent] == ["first", "invalid"]
    said, complaint = told(lane.sent[1])
    assert said == {"role": "assistant", "content": [{"type": "text", "text": BAD}]}
    assert complaint["role"] == "user"
    assert "$.n: 'one' is not of type 'integer'" in complaint["content"][0]["text"]
    assert valid(on_both) == [(1, None)]
    assert on_both.ask("SELECT text FROM v_answers") == [(GOOD,)]
    found = on_both.ask("SELECT final, valid, legs FROM v_answers_all ORDER BY final")
    assert found == [(0, 0, 1), (1, 1, 2)]
    first, last = on_both.ask("SELECT cost_pico_usd FROM v_answers_all ORDER BY final")
    assert on_both.ask("SELECT cost_pico_usd FROM v_answers") == [last]
    assert first[0] > 0
    assert on_both.one("SELECT COUNT(*) FROM attempts WHERE pending = 1") == 0


def test_after_the_last_try_the_invalid_answer_is_kept(case):
    case.write([asking()])
    case.options["answers"] = RETRY
    ended = case.run(lane := FakeLane(lambda _: answered(BAD)))
    assert (ended.exit_code, ended.progress.invalid, len(lane.sent)) == (0, 1, 3)
    assert case.ask("SELECT valid, attempts FROM v_answers") == [(0, 3)]


def test_an_invalid_answer_fails_its_row_when_asked(on_both):
    on_both.write([asking("good"), asking("bad")])
    on_both.options["answers"] = FAIL
    said = {"good": [answered(GOOD)], "bad": [answered(BAD)]}
    lane = FakeLane(in_turn(said))
    assert on_both.run(lane).exit_code == 65
    ((reason, message),) = on_both.ask("SELECT reason, message FROM v_failures")
    assert (reason, "is not of type" in message) == ("invalid", True)
    kept = on_both.ask("SELECT final, valid FROM v_answers_all ORDER BY final")
    assert kept == [(0, 0), (1, 1)]


@pytest.mark.parametrize("choices", [RETRY, FAIL], ids=["retry", "fail"])
def test_a_refusal_is_invalid_and_never_asked_for_again(case, choices):
    case.write([asking()])
    case.options["answers"] = choices
    lane = FakeLane(lambda _: answered("No.", stop_reason="refusal"))
    failed = choices.fail_invalid
    assert case.run(lane).exit_code == (65 if failed else 0)
    assert len(lane.sent) == 1
    assert valid(case) == ([] if failed else [(0, case.one(_REASON))])


_REASON = "SELECT invalid_reason FROM v_answers_all"


def test_a_truncated_answer_is_not_asked_for_again_as_it_was(case):
    case.write([asking()])
    case.options["answers"] = RETRY
    lane = FakeLane(lambda _: answered('{"n":', stop_reason="max_tokens"))
    case.run(lane)
    assert len(lane.sent) == 1
    assert case.one("SELECT valid FROM v_answers") == 0


def test_an_answer_in_two_legs_is_validated_as_a_whole(case):
    case.write([asking()])
    lane = FakeLane(
        lambda a: answered('{"n":', stop_reason="pause_turn") if a.leg == 1 else answered(" 7}")
    )
    case.run(lane)
    assert valid(case) == [(1, None)]


def test_retries_are_counted_across_a_kill(case):
    case.write([asking("x", "x")])
    case.options["answers"] = RETRY
    photo = case.folder / "killed.db"

    async def script(attempt):
        if attempt.number == 2:
            photograph(case.database, photo)
        return answered(BAD)

    case.run(FakeLane(script))
    after = replace(case, database=str(photo))
    lane = FakeLane(lambda _: answered(BAD))
    assert after.run(lane).exit_code == 0
    assert len(lane.sent) == 2
    assert [len(told(attempt)) for attempt in lane.sent] == [2, 4]
    assert "is not of type 'integer'" in told(lane.sent[0])[1]["content"][0]["text"]
    assert after.ask("SELECT valid, attempts FROM v_answers") == [(0, 4)]


def test_an_answer_without_content_is_asked_for_as_it_was(case):
    case.write([asking()])
    case.options["answers"] = RETRY
    lane = FakeLane(in_turn({"x": [answered(content=[]), answered(GOOD)]}))
    case.run(lane)
    assert [told(attempt) for attempt in lane.sent] == [[], []]
    assert valid(case) == [(1, None)]


def test_an_answer_after_a_correction_is_joined_without_what_was_wrong(case):
    case.write([asking()])
    case.options["answers"] = RETRY
    said = [
        answered('{"n":', stop_reason="pause_turn"),
        answered(' "x"}'),
        answered('{"n":', stop_reason="pause_turn"),
        answered(" 7}"),
    ]
    lane = FakeLane(in_turn({"x": said}))
    case.run(lane)
    assert [attempt.leg for attempt in lane.sent] == [1, 2, 3, 4]
    assert case.ask("SELECT text, valid FROM v_answers") == [('{"n": 7}', 1)]


def test_what_the_simulator_makes_of_a_schema_is_valid(case):
    case.write([row(f"row {n}", output_config=FORMAT, max_tokens=2000) for n in range(5)])
    with simulating() as simulator:
        case.endpoint = endpoint_of(simulator)
        assert case.run().exit_code == 0
    assert valid(case) == [(1, None)] * 5


def test_rows_without_a_schema_are_not_validated(case):
    case.write([*rows(2), row("effort", output_config={"effort": "high"})])
    case.run(FakeLane())
    assert valid(case) == [(None, None)] * 3


# --- The validator


def check(schema, text: str):
    return AnswerValidator().check(json.dumps(schema).encode(), text)


@pytest.mark.parametrize(
    "text", ["", "{", "NaN", '{"n": 1} extra', "[" * 100_000, '{"n": 1.5}', "[]", "null"]
)
def test_what_is_no_such_json_is_invalid(text):
    verdict = check(SCHEMA, text)
    assert verdict.valid is False
    assert len(verdict.reason) <= 300


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ({"type": "no such type"}, "no JSON Schema"),
        ([1], "no JSON Schema"),
        ({"$ref": "http://127.0.0.1:9/schema.json"}, "which is not in it"),
        ({"$ref": "file:///etc/passwd"}, "which is not in it"),
        ({"$ref": "#/$defs/gone"}, "which is not in it"),
        ({"$ref": "#"}, "nested too deeply"),
        ({"pattern": "("}, "no JSON Schema"),
        ({"$schema": [], "type": "object"}, "no JSON Schema"),
        ({"$id": "::", "$ref": "x\0y"}, "the schema"),
    ],
)
def test_a_schema_that_cannot_be_used_leaves_the_answer_unjudged(schema, said):
    verdict = check(schema, "{}")
    assert verdict.valid is None
    assert said in verdict.reason


def test_a_broken_schema_of_a_row_does_not_stop_the_run(case):
    broken = {"format": {"type": "json_schema", "schema": {"type": 7}}}
    case.write([row("x", output_config=broken), row("y")])
    case.options["answers"] = FAIL
    assert case.run(FakeLane()).exit_code == 0
    assert [flag for flag, _ in valid(case)] == [None, None]


def test_a_reason_can_be_stored_whatever_it_quotes(on_both):
    on_both.write([asking()])
    text = json.dumps({"n": "a\0b", "c\0d": "\ud83d\ude00" * 500})
    assert on_both.run(FakeLane(lambda _: answered(text))).exit_code == 0
    ((flag, reason),) = valid(on_both)
    assert (flag, "\0" in reason) == (0, False)


@given(st.text())
def test_any_text_can_be_judged(text):
    assert check({}, text).valid in {True, False}


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists))
def test_every_json_value_follows_the_schema_that_allows_everything(value):
    assert check({}, json.dumps(value)).valid is True


# --- The job file


@pytest.mark.parametrize(
    ("text", "meaning"),
    [(None, (False, 0)), ("keep", (False, 0)), ("fail", (True, 0)), ("retry:3", (False, 3))],
)
def test_what_may_be_written_for_invalid_answers(text, meaning):
    assert parse_on_invalid(text) == meaning


@pytest.mark.parametrize("text", ["", "retry", "retry:0", "retry:-1", "retry:100", "raise=2x"])
def test_what_may_not_be_written_for_invalid_answers(text):
    with pytest.raises(ConfigurationError, match="on_invalid"):
        parse_on_invalid(text)


def from_file(folder):
    return answer_choices(
        None,
        None,
        tools={},
        validate=ValidateTable(schema="schema.json"),
        folder=folder,
        environment=lambda _: {},
    )


def test_the_schema_of_a_job_is_read_from_beside_it(tmp_path):
    (tmp_path / "schema.json").write_bytes(SCHEMA_TEXT)
    assert from_file(tmp_path).schema == SCHEMA_TEXT


@pytest.mark.parametrize("text", [None, "{", '{"type": 7}', "[]", "12"])
def test_a_schema_file_that_is_none_is_refused_before_anything_is_sent(tmp_path, text):
    if text is not None:
        (tmp_path / "schema.json").write_text(text)
    with pytest.raises(ConfigurationError, match=r"\[validate\] schema"):
        from_file(tmp_path)
