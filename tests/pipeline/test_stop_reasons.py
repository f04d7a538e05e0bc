"""Reasons to stop that are no end: compaction, refusals, values that nobody knows."""

import json
from dataclasses import replace

import pytest

from batcher.pipeline.choices import AnswerChoices
from tests.making_runs import FakeLane, answered, photograph, prompt_of, row, rows


def compacting(attempt):
    """The first leg compacts, the second ends."""
    if attempt.leg == 1:
        block = {"type": "compaction", "content": "so far: …", "new_field": [1]}
        return answered(content=[block], stop_reason="compaction")
    return answered("the end")


def test_a_compacted_request_goes_on_with_what_came_verbatim(on_both):
    on_both.write([row("x")])
    lane = FakeLane(compacting)
    assert on_both.run(lane).exit_code == 0
    messages = json.loads(lane.sent[1].body)["messages"]
    assert [message["role"] for message in messages] == ["user", "assistant"]
    assert messages[1]["content"][0]["new_field"] == [1]
    assert [attempt.purpose for attempt in lane.sent] == ["first", "continuation"]
    assert on_both.ask("SELECT text, legs, stop_reason FROM v_answers") == [
        ("the end", 2, "end_turn")
    ]


def test_compaction_ends_at_the_cap_of_legs(case):
    case.write([row("x")])
    lane = FakeLane(lambda _: answered(stop_reason="compaction"))
    assert case.limit(max_legs=2).run(lane).exit_code == 0
    assert case.ask("SELECT legs, stop_reason FROM v_answers") == [(2, "compaction")]


def test_a_request_killed_after_compaction_goes_on(case):
    case.write([row("x", "x")])
    photo = case.folder / "killed.db"

    async def script(attempt):
        if attempt.leg == 2:
            photograph(case.database, photo)
        return compacting(attempt)

    case.run(FakeLane(script))
    after = replace(case, database=str(photo))
    lane = FakeLane(compacting)
    assert after.run(lane).exit_code == 0
    assert [attempt.leg for attempt in lane.sent] == [2]
    assert after.one("SELECT text FROM v_answers") == "the end"


def test_unknown_reasons_are_kept_verbatim_and_counted(on_both):
    on_both.write(rows(4))
    reasons = {"row 1": "tired", "row 2": "tired", "row 3": "a\x1b[2Jb", "row 4": None}
    ended = on_both.run(FakeLane(lambda a: answered(stop_reason=reasons[prompt_of(a)])))
    assert ended.exit_code == 0
    assert ended.progress.unknown_stop_reasons == {"tired": 2, "a?[2Jb": 1, "none": 1}
    kept = [r for (r,) in on_both.ask("SELECT stop_reason FROM v_answers ORDER BY row_number")]
    assert kept == ["tired", "tired", "a\x1b[2Jb", None]


def test_a_server_that_invents_reasons_fills_no_memory(case):
    case.write(rows(60))
    ended = case.run(FakeLane(lambda a: answered(stop_reason=prompt_of(a) * 40)))
    counts = ended.progress.unknown_stop_reasons
    assert (len(counts), sum(counts.values())) == (21, 60)
    assert max(map(len, counts)) <= 60


@pytest.mark.parametrize(
    "choices", [AnswerChoices(), AnswerChoices(fail_truncated=True)], ids=["keep", "fail"]
)
def test_a_refusal_is_final_with_its_details(case, choices):
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    case.write([row("x")])
    case.options["answers"] = choices
    lane = FakeLane(lambda _: answered("", stop_reason="refusal", stop_details=details))
    ended = case.run(lane)
    assert (ended.exit_code, ended.progress.refused, len(lane.sent)) == (0, 1, 1)
    ((reason, stored),) = case.ask("SELECT stop_reason, stop_details FROM v_answers")
    assert (reason, json.loads(stored)) == ("refusal", details)


def test_the_summary_tells_refusals_and_unknown_reasons():
    from batcher.cli.run.summary import _warnings
    from batcher.pipeline.progress import Progress

    progress = Progress(refused=2, invalid=1, unknown_stop_reasons={"tired": 3})
    lines = "\n".join(_warnings(progress))
    assert "2 answers are refusals" in lines
    assert "1 answer does not follow the schema" in lines
    assert "tired" in lines
