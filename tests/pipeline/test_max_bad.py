"""`--max-bad`: a wrong file is noticed before its good rows are paid for."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError, TooManyBadRows
from batcher.messages.request import BadRow
from batcher.pipeline.run import row_checks
from batcher.pipeline.run.row_checks import BadGate, BadLimit, bad_limit
from tests.making_runs import FakeLane, row, rows

BROKEN = "{broken"


def mixed(good: int, bad: int) -> list:
    return [*rows(good), *[BROKEN] * bad]


def limited(case, words: str):
    return case.limit(max_bad=bad_limit(words))


@pytest.mark.parametrize(
    ("words", "limit"),
    [
        ("0", BadLimit(rows=0)),
        (12, BadLimit(rows=12)),
        ("1%", BadLimit(share=Fraction(1, 100))),
        (" 0.5 % ", BadLimit(share=Fraction(1, 200))),
        ("100%", BadLimit(share=Fraction(1))),
        (None, None),
    ],
)
def test_a_limit_is_a_number_of_rows_or_a_part_of_them(words, limit):
    assert bad_limit(words) == limit


@pytest.mark.parametrize("words", ["", "-1", "1.5", "101%", "many", "1%%", "%", "1e3", "٣"])
def test_anything_else_is_refused(words):
    with pytest.raises(ConfigurationError, match="max_bad"):
        bad_limit(words)


@pytest.mark.parametrize("words", ["2", "2%", "0"])
def test_too_many_bad_rows_stop_the_run_before_anything_is_sent(case, words):
    case.write(mixed(97, 3))
    lane = FakeLane()
    ended = limited(case, words).run(lane)
    assert (ended.exit_code, lane.sent) == (65, [])
    assert "3 of the 100 rows read so far are unusable" in ended.error
    assert case.one("SELECT COUNT(*) FROM v_failures WHERE reason = 'BAD_JSON'") == 3
    assert case.one("SELECT COUNT(*) FROM attempts") == 0


@pytest.mark.parametrize("words", ["3", "3%"])
def test_as_many_as_allowed_are_set_aside_as_ever(case, words):
    case.write(mixed(97, 3))
    ended = limited(case, words).run(FakeLane())
    assert (ended.exit_code, ended.error) == (65, "")
    assert case.one("SELECT COUNT(*) FROM v_answers") == 97


def test_the_same_command_stops_again_and_the_mended_file_goes_on(case):
    case.write(mixed(20, 3))
    for _ in range(2):
        ended = limited(case, "2").run(lane := FakeLane())
        assert (ended.exit_code, lane.sent) == (65, [])
    case.write([row("mended"), *mixed(20, 2)])
    ended = limited(case, "2").run(FakeLane())
    assert (ended.exit_code, ended.error) == (65, "")
    assert case.one("SELECT COUNT(*) FROM v_answers") == 21
    assert case.one("SELECT COUNT(*) FROM v_failures") == 2


def test_bad_rows_of_all_inputs_count_together_before_any_is_sent(case):
    case.inputs = ("rows.jsonl", "more.jsonl")
    case.write(rows(5))
    case.write(mixed(0, 3), "more.jsonl")
    lane = FakeLane()
    assert limited(case, "2").run(lane).exit_code == 65
    assert lane.sent == []


def test_behind_the_first_window_the_run_stops_and_what_was_sent_is_settled(case, monkeypatch):
    monkeypatch.setattr(row_checks, "WINDOW_ROWS", 256)
    case.write([*rows(3_000), *[BROKEN] * 20, *rows(3_000)])
    lane = FakeLane()
    ended = limited(case, "10").run(lane)
    assert ended.exit_code == 65
    assert 0 < len(lane.sent) < 6_000
    assert case.one("SELECT COUNT(*) FROM v_answers") == len(lane.sent)
    assert case.one("SELECT COUNT(*) FROM attempts WHERE state <> 'answered'") == 0


def bad(number: int) -> BadRow:
    return BadRow(
        source_id=1, row_number=number, byte_offset=0, custom_id=None, reason="X", message="x"
    )


@given(st.lists(st.lists(st.booleans(), max_size=9), max_size=9), st.integers(0, 12))
def test_the_gate_lets_everything_through_in_order_or_stops(batches, most):
    """An independent count decides: more bad rows than allowed stop, fewer never do."""
    gate = BadGate(BadLimit(rows=most), bad=0, rows=0)
    numbered = [
        [bad(100 * i + j) if is_bad else 100 * i + j for j, is_bad in enumerate(batch)]
        for i, batch in enumerate(batches)
    ]
    through = []
    try:
        for batch in numbered:
            for ready in gate.admit(list(batch)):
                through += ready
        for ready in gate.end():
            through += ready
        stopped = False
    except TooManyBadRows:
        stopped = True
    assert stopped == (sum(map(sum, batches)) > most)
    flat = [item for batch in numbered for item in batch]
    if not stopped:
        assert through == flat
    else:
        assert all(isinstance(item, BadRow) for item in through), "nothing is sent"


def test_a_share_of_few_rows_says_nothing_until_they_are_all():
    gate = BadGate(BadLimit(share=Fraction(1, 10)), bad=0, rows=0)
    assert list(gate.admit([bad(1)])) == []
    with pytest.raises(TooManyBadRows):
        list(gate.end())


def test_rows_of_earlier_invocations_count():
    gate = BadGate(BadLimit(share=Fraction(1, 10)), bad=0, rows=5_000)
    assert sum(map(len, gate.admit([bad(n) for n in range(500)]))) == 0
    assert sum(map(len, gate.end())) == 500


def test_wrong_names_in_more_than_one_row_of_a_hundred_end_the_run_wherever_they_are(case):
    wrong = [{"model": "another", **row(f"wrong {n}")} for n in range(30)]
    case.write([*rows(1_500), *wrong[:10]])
    assert case.run(FakeLane()).exit_code == 65
    case.write([*rows(1_200, "new {}"), *wrong])
    ended = case.run(lane := FakeLane())
    assert (ended.exit_code, lane.sent) == (78, [])
    assert "stands beside params" in ended.error
    assert case.one("SELECT COUNT(*) FROM attempts WHERE state <> 'answered'") == 0
