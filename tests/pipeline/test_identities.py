"""What is done is recognised by what was asked, wherever the row moved."""

import json

import pytest

from tests.making_runs import (
    FakeLane,
    answered,
    in_turn,
    prompt_of,
    refused,
    row,
    rows,
    write_rows,
)


def echo(attempt):
    return answered(f"re: {prompt_of(attempt)}")


@pytest.fixture
def done(on_both):
    """A job of six answered rows."""
    on_both.write(rows(6))
    on_both.run(FakeLane(echo))
    return on_both


def sent(case, lines=None) -> list[str]:
    """What a further run sends."""
    if lines is not None:
        case.write(lines)
    lane = FakeLane(echo)
    case.run(lane)
    return sorted(lane.prompts)


def test_a_grown_file_sends_its_new_rows(done):
    assert sent(done, [*rows(6), row("new")]) == ["new"]
    assert done.texts()[-1] == (7, "re: new")


def test_rows_in_another_order_keep_their_answers(done):
    assert sent(done, reversed(rows(6))) == []
    assert done.texts() == [(7 - n, f"re: row {n}") for n in range(6, 0, -1)]
    assert done.watcher.end.progress.claimed == 6


def test_rows_written_differently_keep_their_answers(done):
    lines = [json.dumps(dict(reversed(line.items())), indent=None, separators=(" , ", " : "))
             for line in rows(6)]  # fmt: skip
    assert sent(done, lines) == []
    assert len(done.texts()) == 6


def test_a_renamed_file_keeps_its_answers(done):
    (done.folder / "rows.jsonl").rename(done.folder / "other.jsonl")
    done.inputs = ("other.jsonl",)
    assert sent(done) == []
    assert done.ask("SELECT DISTINCT source FROM v_answers") == [("other.jsonl",)]


def test_a_file_cut_in_two_keeps_its_answers(done):
    done.inputs = ("rows.jsonl", "rest.jsonl")
    write_rows(done.folder / "rest.jsonl", rows(6)[3:])
    assert sent(done, rows(3)) == []
    assert [number for number, _ in done.texts()] == [1, 2, 3, 1, 2, 3]


def test_two_files_that_change_names_keep_their_answers(done):
    done.inputs = ("rows.jsonl", "b.jsonl")
    write_rows(done.folder / "b.jsonl", [row("b")])
    sent(done)
    write_rows(done.folder / "b.jsonl", rows(6))
    assert sent(done, [row("b")]) == []
    assert len(done.texts()) == 7


def test_an_edited_row_is_sent_and_its_old_answer_is_no_longer_current(done):
    lines = rows(6)
    lines[2] = row("edited", "id-3")
    assert sent(done, lines) == ["edited"]
    assert [text for _, text in done.texts()][2] == "re: edited"
    assert done.one("SELECT COUNT(*) FROM v_answers_all") == 7


def test_a_row_with_another_custom_id_is_another_row(done):
    lines = rows(6)
    lines[2]["custom_id"] = "else"
    assert sent(done, lines) == ["row 3"]


def test_a_row_that_was_removed_and_came_back_is_not_paid_again(done):
    assert sent(done, rows(5)) == []
    assert len(done.texts()) == 5
    assert sent(done, rows(6)) == []
    assert len(done.texts()) == 6


def test_equal_rows_get_an_answer_each_and_keep_them(done):
    lines = [*rows(6), *rows(2)]
    assert sent(done, lines) == ["row 1", "row 2"]
    assert sent(done, [*reversed(lines)]) == []
    assert sent(done, [*lines, *rows(1)]) == ["row 1"]
    assert len(done.texts()) == 9


def test_a_removed_file_sends_nothing_and_comes_back_for_nothing(done):
    write_rows(done.folder / "b.jsonl", [row("b")])
    done.inputs = ("b.jsonl",)
    assert sent(done) == ["b"]
    done.inputs = ("rows.jsonl", "b.jsonl")
    assert sent(done) == []


def test_a_failure_moves_along_with_its_row(on_both):
    on_both.write(rows(4))
    on_both.run(FakeLane(in_turn({"row 2": [refused(400)]})))
    assert sent(on_both, reversed(rows(4))) == []
    assert on_both.ask("SELECT row_number, kind FROM v_failures") == [(3, "failed")]
    on_both.release()
    assert sent(on_both) == ["row 2"]


def test_a_repaired_row_is_no_longer_quarantined(on_both):
    on_both.write([row("a"), "{broken"])
    assert on_both.run(FakeLane()).exit_code == 65
    assert sent(on_both, [row("a"), row("b")]) == ["b"]
    assert on_both.watcher.end.exit_code == 0
    assert on_both.one("SELECT COUNT(*) FROM v_failures") == 0


def test_another_job_in_the_same_ledger_shares_nothing(done):
    done.key = done.name = "other"
    assert len(sent(done)) == 6
    assert len(done.texts()) == 12


def test_a_hundred_changes_in_a_row_never_pay_a_row_twice(case):
    lines = rows(20)
    paid = []
    for step in range(8):
        lines = [*lines[step:], *lines[:step], row(f"new {step}")]
        paid += sent(case, lines)
    assert len(paid) == len(set(paid)) == 28
    assert len(case.texts()) == 28
