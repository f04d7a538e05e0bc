"""Equal rows of a run are sent once, and each has the answer: whatever fails, or dies."""

import random
import shutil
from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.pipeline.choices import AnswerChoices
from batcher.pipeline.repeats import SeenRequests
from batcher.report.export.answers import ExportOptions, export_answers
from tests.making_runs import (
    Case,
    FakeLane,
    Watcher,
    answered,
    in_turn,
    photograph,
    prompt_of,
    refused,
    row,
)
from tests.pipeline.test_batches import SLOW, batching, billed_once

WORDS = ["a", "b", "a", "c", "b", "a"]


def lines(words, start=0):
    return [row(word, f"id-{number}") for number, word in enumerate(words, start)]


def echo(attempt):
    return answered(f"re: {prompt_of(attempt)}")


def once(case, **changes):
    """The case, sending equal rows once."""
    options = {**case.options, "dedup": True}
    return replace(case, options=options, watcher=Watcher(), **changes)


def verified(case):
    engine = open_engine(case.database)
    try:
        return [str(found) for found in verify(engine).findings]
    finally:
        engine.dispose()


def test_equal_rows_are_sent_once_and_each_has_the_answer(on_both, tmp_path):
    case = once(on_both, inputs=("rows.jsonl", "more.jsonl"), name="named")
    case.write(lines(WORDS))
    case.write(lines(["c", "d"], start=6), "more.jsonl")
    lane = FakeLane(echo)
    ended = case.run(lane)
    assert (ended.exit_code, ended.rows_left) == (0, False)
    assert sorted(lane.prompts) == ["a", "b", "c", "d"]
    assert [text for _, text in case.texts()] == [
        *("re: c", "re: d"),
        *(f"re: {word}" for word in WORDS),
    ]
    paid = case.ask(
        "SELECT custom_id, cost_pico_usd > 0, paid_by_attempt_uid IS NULL FROM v_answers"
        " WHERE source = 'rows.jsonl' ORDER BY row_number"
    )
    firsts = [1, 1, 0, 1, 0, 0]
    assert paid == [(f"id-{n}", first, first) for n, first in enumerate(firsts)]
    one_cost = case.one("SELECT MAX(cost_pico_usd) FROM v_answers")
    progress = ended.progress
    assert (progress.answered, progress.repeated, progress.claimed) == (4, 4, 4)
    assert (progress.repeated_cost, progress.cost) == (4 * one_cost, 4 * one_cost)
    assert (progress.total_rows, progress.total_is_exact) == (8, True)
    assert any(note.startswith("4 rows ask what another row") for note in case.watcher.notes)
    assert verified(case) == []
    assert case.run(FakeLane(echo)).progress.sent == 0
    engine = open_engine(case.database)
    target = ExportOptions(target=str(tmp_path / "out.jsonl"))
    assert export_answers(engine, 1, target, print).answered == 8
    engine.dispose()


def test_without_the_option_each_row_is_sent(case):
    case.write(lines(WORDS))
    lane = FakeLane(echo)
    case.run(lane)
    assert len(lane.sent) == len(WORDS)


def test_where_the_first_fails_the_next_one_is_sent(on_both):
    case = once(on_both)
    case.write(lines(["a", "x", "x", "x", "x"]))
    lane = FakeLane(in_turn({"x": [refused(400)]}))
    ended = case.run(lane)
    assert Counter(lane.prompts) == {"a": 1, "x": 2}
    assert ended.exit_code == 65
    assert case.ask("SELECT row_number, kind FROM v_failures") == [(2, "failed")]
    assert [number for number, _ in case.texts()] == [1, 3, 4, 5]
    assert verified(case) == []


def test_where_two_fail_the_others_stay_to_do(case):
    case = once(case)
    case.write(lines(["a", *["x"] * 5]))
    lane = FakeLane(in_turn({"x": [refused(400)] * 3}))
    ended = case.run(lane)
    assert (ended.exit_code, ended.rows_left, len(lane.sent)) == (65, True, 3)
    assert ended.progress.total_rows == 6
    assert any(note.startswith("3 rows wait for the answer") for note in case.watcher.notes)
    case.run(lane)
    assert Counter(lane.prompts) == {"a": 1, "x": 4}
    assert case.one("SELECT COUNT(*) FROM v_failures") == 3
    assert len(case.texts()) == 3
    assert verified(case) == []


def test_answers_from_before_are_given_to_equal_rows(on_both):
    on_both.write(lines(["a", "a"]))
    on_both.run(FakeLane(echo))
    case = once(on_both)
    case.write(lines(["a", "a", "a", "b", "a"]))  # the file grew
    lane = FakeLane(echo)
    assert case.run(lane).exit_code == 0
    assert lane.prompts == ["b"]
    assert len(case.texts()) == 5
    assert verified(case) == []


def test_an_answer_that_this_run_would_not_have_kept_is_not_given(case):
    case.write(lines(["a"]))
    case.run(FakeLane(lambda _: answered("half", stop_reason="max_tokens")))
    case.write(lines(["a", "a"]))
    options = {"answers": AnswerChoices(fail_truncated=True)}
    lane = FakeLane(echo)
    once(replace(case, options=options)).run(lane)
    assert lane.prompts == ["a"]


def test_a_limit_counts_what_is_sent(case):
    case = once(case).limit(row_limit=2)
    case.write(lines(["a", "a", "b", "a", "c", "a"]))
    lane = FakeLane(echo)
    case.run(lane)
    assert lane.prompts == ["a", "b"]
    assert {1, 2, 3} <= {number for number, _ in case.texts()} <= {1, 2, 3, 4, 6}
    rest = FakeLane(echo)
    assert once(case).limit(row_limit=None).run(rest).exit_code == 0
    assert rest.prompts == ["c"]
    assert len(case.texts()) == 6


def test_a_new_round_sends_each_once_again(case):
    case = once(case)
    case.write(lines(WORDS))
    case.run(FakeLane(echo))
    options = {**case.options, "again": True}
    again = replace(case, options=options, watcher=Watcher(agrees=True))
    lane = FakeLane(echo)
    assert again.run(lane).exit_code == 0
    assert sorted(lane.prompts) == ["a", "b", "c"]
    assert len(case.texts()) == 6


def test_whatever_moment_a_process_dies_at_no_answer_is_paid_again(case, tmp_path):
    case = once(case)
    chance = random.Random(7)
    words = [chance.choice("abcdefgh") for _ in range(60)]
    case.write(lines(words))
    photos = []

    def respond(attempt):
        photos.append(photograph(case.database, tmp_path / f"at-{len(photos)}.db"))
        return echo(attempt)

    case.run(FakeLane(respond))
    after = tmp_path / "after.db"
    shutil.copy(photograph(case.database, tmp_path / "end.db"), after)
    assert len(photos) == 8
    for photo in (*photos, after):
        later = once(case, database=str(photo))
        known = {text for _, text in later.texts()}
        lane = FakeLane(echo)
        assert later.run(lane).exit_code == 0
        assert not known & {f"re: {prompt}" for prompt in lane.prompts}
        assert max(Counter(lane.prompts).values(), default=1) == 1
        assert [text for _, text in later.texts()] == [f"re: {word}" for word in words]
        assert verified(later) == []


@pytest.mark.parametrize("wait", [True, False])
def test_rows_wait_for_what_is_in_a_batch(case, wait):
    case.write(lines(WORDS))
    with batching(case, queue_seconds=(0.0, 0.0) if wait else (SLOW, SLOW)) as (
        there,
        simulator,
    ):
        case = once(there)
        ended = case.in_batches(pack=2, wait=wait)
        if not wait:
            assert ended.exit_code == 75
            assert once(case).in_batches(pack=2, wait=False).exit_code == 75
            assert case.one("SELECT COUNT(*) FROM v_attempts") == 3
            simulator.end_batches()
            ended = once(case).in_batches(pack=2, wait=False)
        assert ended.exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 3
    assert len(case.texts()) == 6
    assert verified(case) == []


def test_rows_that_moved_while_they_are_in_a_batch_wait_too(case):
    case.write(lines(WORDS))
    with batching(case, queue_seconds=(SLOW, SLOW)) as (case, simulator):
        once(case).in_batches(wait=False)
        case.write(reversed(lines(WORDS)))
        assert once(case).in_batches(wait=False).exit_code == 75
        assert case.one("SELECT COUNT(*) FROM v_attempts") == 3
        simulator.end_batches()
        assert once(case).in_batches().exit_code == 0
        billed_once(case, simulator)
        assert len(simulator.bill) == 3
    assert len(case.texts()) == 6
    assert verified(case) == []


@given(st.lists(st.binary(min_size=16, max_size=16)), st.randoms(use_true_random=False))
@settings(deadline=None)
def test_what_was_seen_is_seen_again(hashes, chance):
    doubled = [*hashes, *hashes, *(bytes(8) + h[8:] for h in hashes)]
    chance.shuffle(doubled)
    seen, known = SeenRequests(), set()
    for each in doubled:
        key = int.from_bytes(each[:8], "big") or 1
        assert seen.add(each) == (key not in known)
        known.add(key)


def test_very_many_are_seen():
    chance = random.Random(3)
    hashes = [chance.randbytes(16) for _ in range(20_000)]
    seen = SeenRequests()
    assert all(map(seen.add, hashes))
    assert not any(map(seen.add, hashes))


@pytest.mark.parametrize("seed", range(6))
def test_among_random_failures_no_request_is_answered_twice(tmp_path, sqlite_url, seed):
    chance = random.Random(seed)
    case = once(Case(folder=tmp_path, database=sqlite_url)).limit(row_limit=None)
    words = [chance.choice("abcdefghijkl") for _ in range(80)]
    case.write(lines(words))
    troubles = {
        word: [refused(chance.choice([400, 400, 500])) for _ in range(chance.randrange(5))]
        for word in set(words)
    }
    lane = FakeLane(in_turn(troubles))
    for _ in range(3):
        once(case).run(lane)
    answered_once = Counter(
        case.ask("SELECT DISTINCT attempt_uid, custom_id FROM v_answers_all")
    )
    by_word = Counter(
        words[int(each[1].partition("-")[2])] for each in answered_once if each[0]
    )
    assert set(by_word.values()) <= {1}  # three alike refusals stop a run before any answer
    assert verified(case) == []
