"""How much of an answer is kept: `store`, and what works without the words."""

import json
import sqlite3
from contextlib import closing

import pytest

from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.ledger.schema import NOT_KEPT
from batcher.messages.answer import Store
from batcher.messages.request import Partial
from batcher.pipeline.choices import AnswerChoices
from batcher.report.export.answers import ExportOptions, export_answers
from tests.making_runs import FakeLane, answered, exchange, refused, row, rows, unusable
from tests.pipeline.test_tools import call as tool_call
from tests.pipeline.test_tools import calling, choices, tool

SAID = "the-secret-answer"
SCHEMA = {"type": "object", "required": ["city"]}


def paused(words: str):
    return answered(words, stop_reason="pause_turn")


def words_in(case) -> str:
    """Everything that any table holds, as text."""
    tables = (
        "answers",
        "attempts",
        "failures",
        "tool_results",
        "invocations",
        "sources",
        "runs",
    )
    found = [case.ask(f"SELECT * FROM {table}") for table in tables]
    bodies = [bytes(body) for (body,) in case.ask("SELECT body FROM unusable_bodies")]
    return f"{found}{bodies}"


def problems(case) -> list:
    engine = open_engine(case.database, read_only=True)
    try:
        return list(verify(engine).findings)
    finally:
        engine.dispose()


def exported(case, told) -> list[dict]:
    engine = open_engine(case.database, read_only=True)
    try:
        target = case.folder / "out.jsonl"
        export_answers(engine, 1, ExportOptions(target=str(target)), told.append)
    finally:
        engine.dispose()
    return [json.loads(line) for line in target.read_text().splitlines()]


@pytest.fixture
def usage(case):
    case.options["store"] = Store.USAGE
    return case


@pytest.fixture
def usage_on_both(on_both):
    on_both.options["store"] = Store.USAGE
    return on_both


def test_usage_keeps_identity_stop_reason_tokens_and_money_and_nothing_that_was_said(
    usage_on_both,
):
    usage_on_both.write(rows(3))
    details = {"type": "refusal", "explanation": SAID}
    said = {"stop_sequence": SAID, "stop_details": details}
    script = FakeLane(
        lambda attempt: answered(SAID, **said, id=f"msg_{attempt.request.row_number}")
    )
    assert usage_on_both.run(script).exit_code == 0
    assert SAID not in words_in(usage_on_both)
    found = usage_on_both.ask(
        "SELECT custom_id, message_id, stop_reason, text, content, input_tokens, cost_status"
        " FROM v_answers ORDER BY row_number"
    )
    assert found[0] == ("id-1", "msg_1", "end_turn", "", NOT_KEPT, 10, "priced")
    assert problems(usage_on_both) == []


def test_answers_that_were_not_kept_are_not_sent_again(usage):
    usage.write(rows(5))
    usage.run(FakeLane())
    usage.write([*reversed(rows(5)), row("new")])
    again = FakeLane()
    assert usage.run(again).exit_code == 0
    assert again.prompts == ["new"]


def test_an_export_says_which_words_are_missing(usage):
    usage.write(rows(2))
    usage.run(FakeLane(lambda _: answered(SAID)))
    told = []
    for line in exported(usage, told):
        assert (line["status"], line["reason"]) == ("answered", "ANSWER_NOT_KEPT")
        assert (line["text"], line["content"], line["output_tokens"]) == (None, None, 5)
    assert told == ["2 answers come without text and content: not stored, or purged"]


def test_an_answer_without_blocks_stays_one_because_a_price_depends_on_it(usage):
    usage.write(rows(1))
    nothing = {"input_tokens": 10, "output_tokens": 0}
    outcome = answered(content=[], stop_reason="refusal", usage=nothing)
    usage.run(FakeLane(lambda _: outcome))
    assert usage.ask("SELECT content, cost_status FROM v_answers") == [("[]", "unbilled")]
    assert problems(usage) == []


def test_a_paused_request_goes_on_in_the_next_invocation_and_then_forgets_its_legs(
    usage_on_both,
):
    usage_on_both.write([row("x", "x")])
    first = FakeLane(lambda a: paused(SAID) if a.leg == 1 else refused(401))
    assert usage_on_both.run(first).exit_code == 77
    assert SAID in words_in(usage_on_both), "the next leg needs it"
    second = FakeLane(lambda _: answered("and the rest of " + SAID))
    assert usage_on_both.run(second).exit_code == 0
    assert SAID in second.sent[0].body.decode()
    assert SAID not in words_in(usage_on_both)
    assert usage_on_both.ask("SELECT legs, input_tokens FROM v_answers") == [(2, 20)]
    assert problems(usage_on_both) == []


def test_tool_results_are_forgotten_when_the_row_is_finished(usage, tmp_path):
    usage.write([row("x")])
    say = f"print('{SAID}')"
    usage.options["answers"] = choices(tool(tmp_path, say))
    lane = FakeLane(
        lambda a: calling(tool_call(a=1), text=SAID) if a.leg == 1 else answered(SAID)
    )
    assert usage.run(lane).exit_code == 0
    assert SAID in lane.sent[1].body.decode()
    assert usage.one("SELECT COUNT(*) FROM tool_results") == 0
    assert SAID not in words_in(usage)


@pytest.mark.parametrize("fails", [False, True])
def test_why_an_answer_breaks_its_schema_quotes_it_and_is_not_kept(usage, fails):
    text = {"type": "json_schema", "schema": SCHEMA | {"properties": {"city": {"const": 1}}}}
    usage.write([row("x", output_config={"format": text})])
    usage.options["answers"] = AnswerChoices(fail_invalid=fails)
    said = json.dumps({"city": SAID})
    assert usage.run(FakeLane(lambda _: answered(said))).exit_code == (65 if fails else 0)
    assert SAID not in words_in(usage)
    assert usage.one("SELECT valid FROM answers") == 0


def test_a_failed_answer_says_that_its_words_are_not_kept(usage):
    usage.write(rows(1))
    usage.options["answers"] = AnswerChoices(fail_truncated=True)
    usage.run(FakeLane(lambda _: answered(SAID, stop_reason="max_tokens")))
    assert usage.one("SELECT message FROM v_failures").endswith(
        "kept in v_answers_all, without its words (store = usage)"
    )
    assert SAID not in words_in(usage)


def broken_stream():
    whole = answered(SAID)
    lost = unusable().failure
    return Partial(exchange(), lost, whole.answer)


@pytest.mark.parametrize("store", [Store.ANSWER, Store.USAGE])
def test_neither_broken_streams_nor_unusable_bodies_are_kept(on_both, store):
    on_both.options["store"] = store
    on_both.write(rows(3))
    outcomes = iter([answered("yes"), broken_stream(), unusable(SAID.encode())])
    lane = FakeLane(lambda _: next(outcomes, answered("yes")))
    assert on_both.limit(concurrency=1).run(lane).exit_code == 0
    assert SAID not in words_in(on_both)
    assert on_both.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'partial'") == 1
    assert problems(on_both) == []


def test_answer_keeps_what_was_asked_for(on_both, tmp_path):
    on_both.options["store"] = Store.ANSWER
    on_both.options["answers"] = choices(tool(tmp_path, "print('from the tool')"))
    on_both.write([row("x")])
    lane = FakeLane(lambda a: calling(tool_call(a=1)) if a.leg == 1 else answered("done"))
    assert on_both.run(lane).exit_code == 0
    assert on_both.texts() == [(1, "done")]
    assert "from the tool" in lane.sent[1].body.decode()
    assert "from the tool" not in words_in(on_both)


def test_a_row_given_up_while_it_was_on_its_way_forgets_its_legs(usage):
    usage.write([row("x", "x")])
    lane = FakeLane(lambda a: paused(SAID) if a.leg == 1 else refused(400))
    assert usage.run(lane).exit_code == 65
    assert SAID not in words_in(usage)


@pytest.mark.parametrize("store", list(Store))
def test_no_prompt_is_ever_stored(case, store):
    case.options["store"] = store
    case.write([row(f"{SAID} {n}") for n in range(5)] + ['{"prompt": 7}'])
    case.run(FakeLane())
    with closing(sqlite3.connect(case.database.removeprefix("sqlite:///"))) as database:
        assert SAID not in "\n".join(database.iterdump())
