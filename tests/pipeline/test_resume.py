"""What a killed run leaves behind, and how the same command goes on from there.

A kill is a photograph: a copy of what is committed at one moment, where the next run goes on.
"""

import gzip
import json
from dataclasses import replace

import pytest

from batcher.pipeline.choices import OnUnknown
from tests.making_runs import (
    Case,
    FakeLane,
    FastClock,
    answered,
    in_turn,
    photograph,
    prompt_of,
    refused,
    row,
    rows,
    unknown,
    until,
)


class Killing(FakeLane):
    """Takes the photograph while the attempt at one prompt is under way, then goes on."""

    def __init__(
        self, case: Case, prompt: str, *, after: str = "SELECT 1", script=None
    ) -> None:
        super().__init__(self._kill)
        self._case, self._prompt, self._after = case, prompt, after
        self._then = script or (lambda _: answered())
        self.photo = case.folder / f"killed-{prompt}.db"

    async def _kill(self, attempt):
        if prompt_of(attempt) == self._prompt and not self.photo.exists():
            await until(lambda: self._case.ask(self._after))
            photograph(self._case.database, self.photo)
        return self._then(attempt)


def killed(case: Case, prompt: str, **options) -> Case:
    """The case as a kill during the attempt at `prompt` leaves it."""
    lane = Killing(case, prompt, **options)
    assert case.run(lane).error == ""
    return replace(case, database=str(lane.photo))


def test_attempts_of_a_dead_process_are_in_doubt_and_their_rows_are_sent_again(case):
    case.write(rows(12))
    after = killed(case, "row 6")
    ((opened, high),) = after.ask(
        "SELECT COUNT(*), SUM(cost_high) FROM attempts WHERE state = 'open'"
    )
    lane = FakeLane()
    ended = after.run(lane)
    recovery = after.watcher.start.recovery
    assert (recovery.attempts, recovery.cost_high, recovery.unbounded) == (opened, high, 0)
    assert opened >= 1
    assert ended.exit_code == 0
    assert [number for number, _ in after.texts()] == list(range(1, 13))
    ((low, most),) = after.ask(
        "SELECT SUM(cost_low_pico_usd), SUM(cost_high_pico_usd) FROM v_attempts"
        " WHERE error_type = 'process_died'"
    )
    assert (low, most) == (0, high)


def test_rows_that_were_answered_before_a_kill_are_never_sent_again(case):
    case.write(rows(40))
    done = "SELECT 1 WHERE (SELECT COUNT(*) FROM answers) >= 30"
    after = killed(case.limit(concurrency=4), "row 31", after=done)
    before = {number for number, _ in after.texts()}
    lane = FakeLane()
    after.run(lane)
    assert len(before) >= 30
    assert {f"row {number}" for number in before} & set(lane.prompts) == set()
    assert len(after.texts()) == 40


def test_a_second_kill_at_once_recovers_nothing_twice(case):
    case.write(rows(5))
    after = killed(case, "row 3")
    again = killed(after, "row 3")
    found = again.one("SELECT COUNT(*) FROM attempts WHERE error_type = 'process_died'")
    assert found >= 1
    again.run(FakeLane())
    assert again.one("SELECT COUNT(*) FROM attempts WHERE state = 'open'") == 0
    assert len(again.texts()) == 5


@pytest.mark.parametrize(("policy", "kind"), [("hold", "held"), ("fail", "failed")])
def test_a_kill_is_doubt_too_and_the_policy_for_doubt_decides(case, policy, kind):
    case.options["on_unknown"] = OnUnknown(policy)
    case.write(rows(3))
    after = killed(case.limit(concurrency=1), "row 2")
    lane = FakeLane()
    ended = after.run(lane)
    assert (ended.exit_code, ended.unfinished_rows) == (65, {kind: 1})
    assert "row 2" not in lane.prompts
    assert after.ask("SELECT row_number, reason FROM v_failures") == [(2, "process_died")]
    assert after.run(lane).unfinished_rows == {kind: 1}
    after.release()
    after.run(lane)
    assert lane.prompts.count("row 2") == 1


def test_a_row_whose_process_died_three_times_is_parked(case):
    case.write(rows(3))
    for _ in range(3):
        case = killed(case.limit(concurrency=1), "row 2")
        (case.folder / "killed-row 2.db").rename(case.folder / "next.db")
        case.database = str(photograph(str(case.folder / "next.db"), case.folder / "now.db"))
        (case.folder / "next.db").unlink()
        case.database = str((case.folder / "now.db").rename(case.folder / f"n{id(case)}.db"))
    lane = FakeLane()
    ended = case.run(lane)
    assert ended.unfinished_rows == {"held": 1}
    assert "row 2" not in lane.prompts
    assert case.ask("SELECT reason FROM v_failures") == [("parked_in_doubt",)]


def test_doubts_are_counted_across_invocations(case):
    case.write(rows(2))
    lane = FakeLane(in_turn({"row 2": [unknown(), refused(401), unknown(), unknown()]}))
    case.run(lane)
    # A healthy row goes first: what breaks before anything was answered may be an outage.
    case.write([row("healthy"), *rows(2)])
    assert case.run(lane).unfinished_rows == {"held": 1}
    assert lane.prompts.count("row 2") == 4


# --- Legs


def pausing(times: int):
    def script(attempt):
        words, usage = f"leg{attempt.leg} ", {"input_tokens": 10, "output_tokens": attempt.leg}
        reason = "pause_turn" if attempt.leg <= times else "end_turn"
        container = {"id": f"c{attempt.leg}"}
        return answered(words, usage=usage, stop_reason=reason, container=container)

    return script


def test_a_paused_request_goes_on_until_it_ends_and_all_of_it_is_one_answer(on_both):
    on_both.write([row("x")])
    lane = FakeLane(pausing(2))
    assert on_both.run(lane).exit_code == 0
    found = on_both.ask(
        "SELECT text, legs, input_tokens, output_tokens, stop_reason FROM v_answers"
    )
    assert found == [("leg1 leg2 leg3 ", 3, 30, 6, "end_turn")]
    assert on_both.one("SELECT COUNT(*) FROM v_answers_all") == 3
    bodies = [json.loads(attempt.body) for attempt in lane.sent]
    assert [len(body["messages"]) for body in bodies] == [1, 2, 3]
    assert [body.get("container") for body in bodies] == [None, "c1", "c2"]
    assert [attempt.purpose for attempt in lane.sent] == [
        "first",
        "continuation",
        "continuation",
    ]


def test_the_cost_of_all_legs_is_the_cost_of_the_answer(on_both):
    on_both.write([row("x"), row("y")])
    on_both.run(FakeLane(pausing(3)))
    costs = on_both.ask("SELECT cost_pico_usd FROM v_answers")
    assert costs == [(4 * 10 * 3_000_000 + 10 * 15_000_000,)] * 2
    assert on_both.one("SELECT SUM(amount_pico_usd) FROM v_charges") == 2 * costs[0][0]


def test_no_finished_request_is_left_pending(on_both):
    on_both.write(rows(5))
    on_both.run(FakeLane(pausing(2)))
    assert on_both.one("SELECT COUNT(*) FROM attempts WHERE pending = 1") == 0


def test_legs_end_at_their_cap(case):
    case.write([row("x")])
    lane = FakeLane(pausing(99))
    assert case.limit(max_legs=3).run(lane).exit_code == 0
    assert case.ask("SELECT legs, stop_reason FROM v_answers") == [(3, "pause_turn")]
    assert len(lane.sent) == 3


@pytest.mark.parametrize("grown", [False, True], ids=["same file", "grown file"])
def test_a_killed_request_goes_on_from_its_last_durable_leg(case, grown):
    case.write([row("x", "x")])

    def killed_on_the_third(attempt):
        return pausing(3)(attempt)

    photo = case.folder / "killed.db"

    async def script(attempt):
        if attempt.leg == 3:
            photograph(case.database, photo)
        return killed_on_the_third(attempt)

    case.run(FakeLane(script))
    after = replace(case, database=str(photo))
    if grown:
        after.write([row("new", "new"), row("x", "x")])
    lane = FakeLane(pausing(3))
    assert after.run(lane).exit_code == 0
    mine = [attempt for attempt in lane.sent if prompt_of(attempt) == "x"]
    assert [(attempt.leg, attempt.number) for attempt in mine] == [(3, 4), (4, 5)]
    found = after.ask("SELECT text, legs FROM v_answers WHERE custom_id = 'x'")
    assert found == [("leg1 leg2 leg3 leg4 ", 4)]


def test_a_leg_that_fails_for_a_while_is_tried_again_as_the_same_leg(case):
    case.write([row("x")])
    failing = iter([False, True, True, False, False])

    def script(attempt):
        return refused(500) if next(failing) else pausing(1)(attempt)

    lane = FakeLane(script)
    assert case.run(lane, FastClock()).exit_code == 0
    assert [attempt.leg for attempt in lane.sent] == [1, 2, 2, 2]
    assert case.texts() == [(1, "leg1 leg2 ")]


# --- Holes that once were


def test_answers_that_moved_before_a_kill_are_not_paid_again(case):
    case.write(rows(30))
    case.run(FakeLane())
    case.write([*reversed(rows(30)), row("new")])
    matched = "SELECT 1 WHERE (SELECT COUNT(*) FROM sources WHERE matched = 1) = 2"
    after = killed(case, "new", after=matched)
    lane = FakeLane()
    after.run(lane)
    assert lane.prompts == ["new"]
    assert len(after.texts()) == 31


def test_answers_that_moved_before_a_kill_in_the_middle_of_matching_are_not_paid_again(case):
    case.write(rows(30))
    case.run(FakeLane())
    case.write([row("new"), *rows(30)])
    after = killed(case.limit(row_limit=1), "new")
    lane = FakeLane()
    after.run(lane)
    assert lane.prompts == ["new"]


def test_a_file_that_is_away_for_one_run_after_a_kill_keeps_its_answers(case):
    case.inputs = ("a.jsonl", "b.jsonl")
    case.write([row(f"a{n}") for n in range(10)], "a.jsonl")
    case.write([row("b")], "b.jsonl")
    done = "SELECT 1 WHERE (SELECT COUNT(*) FROM answers) = 10"
    after = killed(case, "b", after=done)
    lane = FakeLane()
    replace(after, inputs=("b.jsonl",)).run(lane)
    after.run(lane)
    assert lane.prompts == ["b"]


def test_a_cut_file_never_hides_the_answers_of_the_whole_one(case):
    case.inputs = ("rows.jsonl.gz",)
    whole = "".join(json.dumps(line) + "\n" for line in rows(50)).encode()
    path = case.folder / "rows.jsonl.gz"
    path.write_bytes(gzip.compress(whole))
    case.run(FakeLane())
    path.write_bytes(gzip.compress(whole)[:-200])
    for _ in range(2):
        assert case.run(FakeLane()).exit_code == 65
        assert len(case.texts()) == 50
    path.write_bytes(gzip.compress(whole))
    lane = FakeLane()
    assert case.run(lane).exit_code == 0
    assert (lane.sent, len(case.texts())) == ([], 50)
