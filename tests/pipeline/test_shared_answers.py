"""What was answered is paid once, under whatever name its file comes: across runs too."""

from dataclasses import replace

import pytest

from batcher.errors import ConfigurationError
from batcher.ledger.connect import open_engine
from batcher.ledger.maintenance import verify
from batcher.messages.answer import Store
from batcher.pacing.backoff import BreakerPolicy
from batcher.pipeline.choices import AnswerChoices, OnUnknown
from batcher.report.export.answers import ExportOptions, export_answers
from tests.making_runs import (
    FakeLane,
    Watcher,
    answered,
    photograph,
    prompt_of,
    row,
    rows,
    unknown,
)


def echo(attempt):
    return answered(f"re: {prompt_of(attempt)}")


@pytest.fixture
def done(on_both):
    """A run without a name, of six answered rows."""
    on_both.write(rows(6))
    on_both.run(FakeLane(echo))
    return on_both


def other(case, lines, file="copy.jsonl", **changes):
    """Another run in the same ledger, over a file of its own."""
    case.write(lines, file)
    return replace(case, inputs=(file,), key=file, watcher=Watcher(), **changes)


def sent(case, respond=echo) -> list[str]:
    lane = FakeLane(respond)
    case.run(lane)
    problems = verified(case)
    assert problems == []
    return sorted(lane.prompts)


def verified(case) -> list[str]:
    engine = open_engine(case.database)
    try:
        return [str(found) for found in verify(engine).findings]
    finally:
        engine.dispose()


def shared(case) -> list[tuple]:
    return case.ask(
        "SELECT run_id, source, row_number, custom_id, text, cost_pico_usd, cost_status,"
        " attempt_uid FROM v_answers WHERE paid_by_attempt_uid IS NOT NULL"
        " ORDER BY source, row_number"
    )


def paid(case) -> int:
    return case.one("SELECT COALESCE(SUM(cost_pico_usd), 0) FROM v_answers_all")


# --- what is shared


def test_a_copied_file_sends_nothing_and_shows_every_answer_at_no_cost(done):
    before = paid(done)
    assert sent(other(done, rows(6))) == []
    assert shared(done) == [
        (2, "copy.jsonl", n, f"id-{n}", f"re: row {n}", 0, "unbilled", None)
        for n in range(1, 7)
    ]
    assert paid(done) == before == done.one("SELECT SUM(cost_pico_usd) FROM v_answers")
    assert done.one("SELECT COUNT(*) FROM v_answers") == 12
    assert done.one("SELECT SUM(requests) FROM v_cost_by_model_day") == 6


def test_the_attempt_that_paid_is_named(done):
    sent(other(done, rows(6)))
    assert done.ask(
        "SELECT s.row_number, s.paid_by_attempt_uid FROM v_answers s WHERE run_id = 2"
        " ORDER BY row_number"
    ) == done.ask("SELECT row_number, attempt_uid FROM v_answers WHERE run_id = 1 ORDER BY 1")


def test_the_start_says_how_many_and_what_they_would_have_cost(done):
    case = other(done, [*rows(6), row("new")])
    assert sent(case) == ["new"]
    (note,) = case.watcher.notes
    assert note.startswith("6 rows have an answer of another run already: nothing is sent")
    assert case.watcher.end.progress.shared == 6
    assert case.watcher.end.progress.shared_cost == case.one(
        "SELECT SUM(cost_pico_usd) FROM v_answers WHERE run_id = 1"
    )
    assert case.watcher.end.progress.claimed == 6


def test_exports_of_both_runs_hold_the_answers(done, tmp_path):
    sent(other(done, rows(6)))
    engine = open_engine(done.database)
    for run_id in (1, 2):
        target = str(tmp_path / f"{run_id}.jsonl")
        exported = export_answers(engine, run_id, ExportOptions(target=target), print)
        assert (exported.rows, exported.answered) == (6, 6)
    engine.dispose()
    assert '"cost":"0"' in (tmp_path / "2.jsonl").read_text()


def test_a_file_in_another_order_takes_each_rows_own_answer(done):
    assert sent(other(done, reversed(rows(6)))) == []
    assert [text for *_, text, _, _, _ in shared(done)] == [
        f"re: row {n}" for n in range(6, 0, -1)
    ]


def test_equal_rows_of_one_file_get_as_many_answers_as_were_paid(done):
    assert sent(other(done, [*rows(1), *rows(1), row("x")])) == ["row 1", "x"]


def test_a_run_over_both_files_sends_nothing(done):
    sent(other(done, rows(6)))
    both = replace(done, inputs=("rows.jsonl", "copy.jsonl"), key="both", watcher=Watcher())
    assert sent(both) == []
    assert both.one("SELECT COUNT(*) FROM v_answers WHERE run_id = 3") == 12


def test_a_new_file_of_a_pattern_takes_the_answers_of_another_one(on_both):
    case = replace(on_both, inputs=("*.jsonl",))
    case.write(rows(3))
    sent(case)
    case.write(rows(3), "more.jsonl")
    assert sent(case) == []
    assert len(shared(case)) == 3


def test_rows_left_of_an_unchanged_file_take_what_another_run_was_answered(on_both):
    case = on_both.limit(row_limit=2)
    case.write(rows(5))
    sent(case)
    assert len(sent(other(on_both, rows(5)))) == 3
    assert sent(on_both) == []
    assert on_both.one("SELECT COUNT(*) FROM v_answers WHERE run_id = 1") == 5


def test_a_row_in_doubt_takes_the_answer_of_another_run(on_both):
    on_both.write(rows(1))
    held = replace(on_both, options={"on_unknown": OnUnknown.HOLD})
    held.run(FakeLane(lambda _: unknown()))
    assert on_both.release() == 1
    assert len(sent(other(on_both, rows(1)))) == 1
    assert sent(on_both) == []
    assert len(shared(on_both)) == 1


def test_an_edited_file_keeps_what_it_shares(done):
    case = other(done, rows(6))
    sent(case)
    case.write([row("new"), *reversed(rows(6))], "copy.jsonl")
    assert sent(case) == ["new"]
    assert [number for _, _, number, *_ in shared(case)] == [2, 3, 4, 5, 6, 7]


def test_words_that_were_purged_are_not_shared_and_what_is_shared_stays(done):
    case = other(done, rows(3))
    sent(case)
    engine = open_engine(done.database)
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE answers SET content = 'null', text = ''")
    engine.dispose()
    case.write(reversed(rows(3)), "copy.jsonl")
    assert sent(case) == []
    third = other(done, rows(3), "third.jsonl")
    assert len(sent(third)) == 3
    usage = other(done, rows(6), "usage.jsonl", options={"store": Store.USAGE})
    assert sent(usage) == []


# --- what is not


def test_a_named_run_neither_gives_nor_takes(done):
    mine = replace(other(done, rows(7)), name="mine", key="mine")
    assert len(sent(mine)) == 7
    assert sent(other(done, rows(7), "last.jsonl")) == ["row 7"]
    assert done.one("SELECT COUNT(*) FROM v_answers WHERE job = 'mine'") == 7


def test_another_endpoint_or_address_gives_nothing(done):
    for number, changes in enumerate(({"name": "other"}, {"base_url": "http://127.0.0.1:8"})):
        endpoint = replace(done.endpoint, **changes)
        assert len(sent(other(done, rows(6), f"{number}.jsonl", endpoint=endpoint))) == 6


def test_another_body_or_custom_id_is_another_row(done):
    assert sent(other(done, [row("row 1", "id-2"), row("row 2", "id-2", top_k=1)])) == [
        "row 1",
        "row 2",
    ]


@pytest.mark.parametrize(
    ("choices", "sends"),
    [
        (AnswerChoices(), 0),
        (AnswerChoices(fail_truncated=True), 1),
        (AnswerChoices(raise_factor=2), 1),
    ],
)
def test_cut_off_answers_are_shared_with_runs_that_keep_them(on_both, choices, sends):
    on_both.write(rows(1))
    sent(on_both, lambda _: answered("cut", stop_reason="max_tokens"))
    case = other(on_both, rows(1), options={"answers": choices})
    assert len(sent(case)) == sends


def test_what_has_no_answer_yet_is_not_waited_for(on_both):
    on_both.write(rows(2))
    impatient = on_both.limit(breaker=BreakerPolicy(first_contact_seconds=0))
    assert impatient.run(FakeLane(lambda _: unknown())).exit_code == 69
    assert len(sent(other(on_both, rows(2)))) == 2


# --- a new round


def test_again_sends_everything_anew_and_counts_both(done):
    before = paid(done)
    again = replace(done, options={"again": True}, watcher=Watcher(agrees=True))
    assert len(sent(again)) == 6
    assert again.watcher.asked.rows == 6
    assert again.watcher.asked.again
    assert done.one("SELECT COUNT(*) FROM v_answers") == 6
    assert paid(done) == 2 * before


def test_a_no_sends_nothing(done):
    again = replace(done, options={"again": True})
    lane = FakeLane(echo)
    with pytest.raises(ConfigurationError, match="6 answered rows again; nothing was sent"):
        again.run(lane)
    assert lane.prompts == []
    assert sent(done) == []


def test_the_same_command_continues_a_round_and_begins_another_when_it_is_finished(done):
    again = replace(
        done.limit(row_limit=2), options={"again": True}, watcher=Watcher(agrees=True)
    )
    assert len(sent(again)) == 2
    refusing = replace(done, options={"again": True}, watcher=Watcher())
    assert len(sent(refusing)) == 4
    assert len(sent(replace(refusing, watcher=Watcher(agrees=True)))) == 6
    assert done.one("SELECT COUNT(*) FROM v_answers") == 6


def test_without_the_option_a_round_goes_on_too(done):
    again = replace(
        done.limit(row_limit=2), options={"again": True}, watcher=Watcher(agrees=True)
    )
    sent(again)
    assert len(sent(done)) == 4
    assert sent(done) == []


def test_an_edited_file_takes_nothing_of_an_earlier_round(done):
    again = replace(
        done.limit(row_limit=2), options={"again": True}, watcher=Watcher(agrees=True)
    )
    sent(again)
    done.write([*reversed(rows(6))])
    assert len(sent(done)) == 4


def test_a_round_takes_what_other_runs_were_answered_since(done):
    again = replace(
        done.limit(row_limit=2), options={"again": True}, watcher=Watcher(agrees=True)
    )
    sent(again)
    done.write([*rows(6), row("late")])
    assert sent(other(done, [row("late")])) == ["late"]
    assert sent(done) == [f"row {n}" for n in (3, 4, 5, 6)]


def test_a_copy_with_again_pays_and_says_how_much_was_there(done):
    case = other(done, rows(6), options={"again": True})
    case.watcher = Watcher(agrees=True)
    assert len(sent(case)) == 6
    assert case.watcher.asked.rows == 6


# --- killed


def test_killed_between_taking_answers_and_sending_nothing_is_lost(case, tmp_path):
    case.write(rows(6))
    case.run(FakeLane(echo))
    copy = other(case, [*rows(3), row("new 1"), *rows(6)[3:], row("new 2")])
    left = []

    def respond(attempt):
        left.append(photograph(case.database, tmp_path / f"{len(left)}.db"))
        return echo(attempt)

    assert len(sent(copy, respond)) == 2
    for database in left:
        after = replace(copy, database=str(database), watcher=Watcher())
        assert set(sent(after)) <= {"new 1", "new 2"}
        assert len(sent(after)) == 0
        assert after.one("SELECT COUNT(*) FROM v_answers WHERE run_id = 2") == 8
        assert len(shared(after)) == 6


# --- verified


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("UPDATE answers SET final = 0 WHERE attempt_id = {paid}", "is not a final one"),
        ("UPDATE shared_answers SET attempt_id = 1", "points to nothing in answers"),
        ("UPDATE shared_answers SET params_hash = x'00'", "answers another request"),
        ("UPDATE shared_answers SET source_id = 1", "has an answer of its own and shares"),
        ("UPDATE shared_answers SET row_number = 9", "has an answer; it has 1 rows"),
    ],
)
def test_a_record_that_shares_nothing_is_told(case, statement, told):
    case.write(rows(1))
    case.run(FakeLane(echo))
    other(case, rows(1)).run(FakeLane(echo))
    paid_by = case.one("SELECT attempt_id FROM shared_answers")
    engine = open_engine(case.database)
    with engine.begin() as connection:
        connection.exec_driver_sql(statement.format(paid=paid_by))
    engine.dispose()
    assert any(told in problem for problem in verified(case))
