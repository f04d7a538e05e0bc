import csv
import io
import json
from decimal import Decimal
from pathlib import Path

import pytest
from anthropic.types.messages import MessageBatchIndividualResponse
from pyarrow import parquet
from sqlalchemy import text

from batcher.errors import CannotCreate, UsageError
from batcher.ledger.connect import reading
from batcher.report.export.answers import (
    ANSWER_COLUMNS,
    Exported,
    ExportOptions,
    export_answers,
    export_results,
    the_run,
)
from batcher.report.export.stored import ANSWERS, read_piece
from batcher.rows.read.source import fingerprint


@pytest.fixture
def here(rows):
    rows.run()
    rows.invocation(1)
    return rows


@pytest.fixture
def file(tmp_path):
    """An input of four rows and a blank line, in a folder of its own."""
    path = tmp_path / "in" / "rows.jsonl"
    path.parent.mkdir()
    lines = [{"custom_id": f"row-{n}", "prompt": f"p{n}", "text": "own"} for n in (1, 2, 4, 5)]
    texts = [json.dumps(line) for line in lines]
    path.write_text("\n".join([*texts[:2], "", *texts[2:], ""]))
    return path


def know(rows, file, **fields):
    return rows.source(1, location=str(file), fingerprint=fingerprint(file), **fields)


def exported(engine, **options):
    """The rows as parsed JSON lines, and the warnings."""
    stdout, warnings = io.BytesIO(), []
    export_answers(engine, 1, ExportOptions(stdout=stdout, **options), warnings.append)
    return [json.loads(line) for line in stdout.getvalue().splitlines()], warnings


def test_every_row_of_the_input_appears_once_in_order(here, file, engine):
    know(here, file)
    here.charge(here.answer(1, 1, 4), 3_405_000_000)
    here.failure(1, 1, 2, kind="quarantined", reason="BAD_ROLE", message="no such role")
    here.failure(1, 1, 5, kind="held")
    rows, warnings = exported(engine)
    assert [(r["row_number"], r["status"], r["prompt"], r["custom_id"]) for r in rows] == [
        (1, "to_do", "p1", "row-1"),
        (2, "quarantined", "p2", "row-2"),
        (4, "answered", "p4", "row-4"),
        (5, "held", "p5", "row-5"),
    ]
    assert (rows[1]["reason"], rows[1]["message"]) == ("BAD_ROLE", "no such role")
    assert warnings == []


def test_an_answered_row_has_its_own_columns_then_the_results(here, file, engine):
    know(here, file)
    here.charge(here.answer(1, 1, 1), 3_405_000_000)
    (row,), _ = exported(engine, answered_only=True)
    assert list(row) == ["prompt", "row_text", *ANSWER_COLUMNS]
    assert {name: value for name, value in row.items() if value is not None} == {
        "prompt": "p1", "row_text": "own", "custom_id": "row-1", "source": "rows.jsonl",
        "row_number": 1, "status": "answered", "requested_model": "claude-sonnet-5",
        "model": "claude-sonnet-5", "message_id": "msg_1", "stop_reason": "end_turn",
        "text": "Hello", "content": [{"type": "text", "text": "Hello"}], "input_tokens": 10,
        "output_tokens": 5, "attempts": 1, "legs": 1, "latency_ms": 2000,
        "answered_at": "2026-01-05T12:00:02Z", "cost": "0.003405", "currency": "USD",
        "cost_status": "priced", "attempt_uid": "uid-1",
    }  # fmt: skip


def test_a_changed_file_is_not_joined_and_this_is_said(here, file, engine):
    know(here, file)
    here.answer(1, 1, 1)
    file.write_text("{}\n" * 4)
    rows, (warning,) = exported(engine)
    assert [(row["row_number"], "prompt" in row) for row in rows] == [(1, False)]
    assert "has changed since the run read it" in warning


def test_a_file_that_is_gone_leaves_answers_and_failures(here, engine):
    here.source(1)
    here.failure(1, 1, 1)
    here.answer(1, 1, 2)
    rows, (warning,) = exported(engine)
    assert [row["status"] for row in rows] == ["failed", "answered"]
    assert "/gone/rows.jsonl is not there any more" in warning


def test_the_legs_of_an_answer_are_summed_and_late_ones_are_not(here, engine):
    here.source(1)
    here.charge(here.answer(1, 1, 1, final=0, stop_reason="pause_turn"), 7)
    last = here.answer(1, 1, 1, legs=2, attempt={"request_id": 1, "leg": 2}, joined_text="Both")
    here.charge(last, 11)
    late = {"request_id": 1, "state": "late"}
    here.charge(here.answer(1, 1, 1, final=0, attempt=late), 1_000)
    (row,), _ = exported(engine)
    assert (row["cost"], row["input_tokens"], row["text"]) == ("0.000000000018", 20, "Both")


@pytest.mark.parametrize(
    ("charges", "cost"),
    [
        ([], (None, None, "unpriced")),
        ([(None, {})], (None, None, "unpriced")),
        ([(5, {}), (None, {})], (None, None, "unpriced")),
        ([(0, {"status": "unbilled", "currency": None})], ("0", "USD", "unbilled")),
        ([(5 * 10**11, {"currency": "CRUN"})], ("0.5", "CRUN", "priced")),
        ([(5, {}), (5, {"currency": "CRUN"})], (None, None, "priced")),
        ([(2**62, {}), (2**62, {"status": "assumed"})],
         ("9223372.036854775808", "USD", "assumed")),
    ],
)  # fmt: skip
def test_the_cost_is_exact_or_not_there(here, engine, charges, cost):
    here.source(1)
    attempt = here.answer(1, 1, 1)
    for line, (amount, fields) in enumerate(charges):
        here.charge(attempt, amount, line=line, **fields)
    (row,), _ = exported(engine)
    assert (row["cost"], row["currency"], row["cost_status"]) == cost


def test_an_answer_wins_over_an_older_failure(here, engine):
    here.source(1)
    here.failure(1, 1, 1)
    here.answer(1, 1, 1)
    assert [row["status"] for row in exported(engine)[0]] == ["answered"]


def test_superseded_versions_are_left_out_and_inputs_keep_their_order(here, engine):
    here.source(1, "a.jsonl", superseded_by=3)
    here.source(1, "b.jsonl")
    here.source(1, "a.jsonl")
    for source in (1, 2, 3):
        here.answer(1, source, 1, text=str(source))
    assert [row["text"] for row in exported(engine)[0]] == ["3", "2"]


def test_more_rows_than_a_chunk_come_all_and_once(here, tmp_path, engine):
    path = tmp_path / "many.jsonl"
    path.write_text('{"prompt":"x"}\n' * 900)
    know(here, path)
    _answer_many(here, range(1, 801, 2))
    rows, _ = exported(engine)
    assert [row["row_number"] for row in rows] == list(range(1, 901))
    assert [row["row_number"] for row in rows if row["status"] == "answered"] == list(
        range(1, 801, 2)
    )


def _answer_many(here, numbers):
    first = here.answer(1, 1, numbers[0])
    assert first == 1
    shared = {"invocation_id": 1, "source_id": 1, "params_hash": b"h", "requested_model": "m"}
    attempts = [
        shared | {"attempt_id": n, "attempt_uid": f"u{n}", "request_id": n, "row_number": n,
                  "number": 1, "leg": 1, "purpose": "first", "lane": "live",
                  "state": "answered", "pending": 0, "opened_at": 0, "cost_low": 0}
        for n in numbers[1:]
    ]  # fmt: skip
    answers = [
        shared | {"attempt_id": n, "request_id": n, "run_id": 1, "row_number": n, "identity": n,
                  "final": 1, "text": "", "text_repaired": 0, "content": "[]", "attempts": 1,
                  "legs": 1, "latency_us": 0, "answered_at": 0}
        for n in numbers[1:]
    ]  # fmt: skip
    here.insert_many("attempts", attempts)
    here.insert_many("answers", answers)


def test_csv_and_parquet_have_the_same_columns(here, file, engine, tmp_path):
    know(here, file)
    here.charge(here.answer(1, 1, 1), 5)
    for name in ("out.csv", "out.parquet"):
        done = export_answers(engine, 1, ExportOptions(target=str(tmp_path / name)), print)
        assert done == Exported(rows=4, answered=1)
    (first, *_) = csv.DictReader(io.StringIO((tmp_path / "out.csv").read_text()))
    table = parquet.read_table(tmp_path / "out.parquet")
    assert list(first) == table.column_names == ["prompt", "row_text", *ANSWER_COLUMNS]
    assert table.column("cost").to_pylist() == [Decimal("5E-12"), None, None, None]
    assert first["content"] == table.column("content")[0].as_py()


def test_a_target_that_cannot_be_written_is_refused(here, engine):
    here.source(1)
    with pytest.raises(CannotCreate, match="cannot be written"):
        export_answers(engine, 1, ExportOptions(target="/no/such/folder/x.jsonl"), print)


def test_a_file_of_no_known_kind_is_refused(here, engine, tmp_path):
    here.source(1)
    with pytest.raises(UsageError, match="unknown kind of file"):
        export_answers(engine, 1, ExportOptions(target=str(tmp_path / "x.xlsx")), print)
    assert not Path(tmp_path / "x.xlsx").exists()


def test_a_run_that_is_not_there_is_refused(here, engine):
    with pytest.raises(UsageError, match="there is no run 9 here"):
        export_answers(engine, 9, ExportOptions(), print)


def test_the_only_run_needs_no_number(here, engine):
    assert the_run(engine, None) == 1
    here.run("other.jsonl", job="weekly")
    assert the_run(engine, 2) == 2
    with pytest.raises(
        UsageError, match=r"choose one with --run, of 1 \(rows.jsonl\), 2 \(weekly\)"
    ):
        the_run(engine, None)


def test_a_ledger_without_runs_has_nothing_to_export(rows, engine):
    with pytest.raises(UsageError, match="there is no run here yet"):
        the_run(engine, None)


def results(engine, **options):
    """The result lines as the official client reads them, and the warnings."""
    stdout, warnings = io.BytesIO(), []
    export_results(engine, 1, ExportOptions(stdout=stdout, **options), warnings.append)
    lines = stdout.getvalue().splitlines()
    return [
        MessageBatchIndividualResponse.model_validate_json(line) for line in lines
    ], warnings


def test_answers_can_be_had_as_the_results_of_message_batches(here, file, engine):
    know(here, file)
    here.charge(here.answer(1, 1, 1), 3_405_000_000)
    here.failure(1, 1, 2, kind="quarantined", reason="BAD_ROLE", message="no such role")
    here.failure(1, 1, 4, kind="failed", reason="overloaded_error", message="Overloaded")
    (first, second, third), warnings = results(engine)
    assert (first.custom_id, first.result.type) == ("row-1", "succeeded")
    message = first.result.message
    assert (message.id, message.content[0].text, message.stop_reason) == (
        "msg_1",
        "Hello",
        "end_turn",
    )
    assert (message.usage.input_tokens, message.usage.output_tokens) == (10, 5)
    assert (second.custom_id, second.result.error.error.type) == (
        "row-2",
        "invalid_request_error",
    )
    assert third.result.error.error.type == "overloaded_error"
    assert second.result.error.error.message == "quarantined, BAD_ROLE: no such role"
    assert warnings == []


def test_only_answered_ones_where_that_is_asked_for(here, file, engine):
    know(here, file)
    here.charge(here.answer(1, 1, 1), 1)
    here.failure(1, 1, 2, kind="held")
    (only,), _ = results(engine, answered_only=True)
    assert only.result.type == "succeeded"


def test_batch_results_are_lines_of_json(here, file, engine, tmp_path):
    know(here, file)
    with pytest.raises(UsageError, match="batch results are written"):
        results(engine, target=str(tmp_path / "results.csv"))


def test_long_answers_are_read_a_few_at_a_time(here, engine):
    here.source(1)
    for number in range(1, 61):
        here.charge(here.answer(1, 1, number, text="words" * 40_000), number)
    bounds = {"source": 1, "after": 0, "until": 100, "end": 2**62}
    with reading(engine) as connection:
        piece, whole = read_piece(connection, ANSWERS, bounds)
    assert not whole
    assert len(piece) <= 40
    rows, _ = exported(engine)
    assert [row["row_number"] for row in rows] == list(range(1, 61))
    assert {len(row["text"]) for row in rows} == {200_000}
    assert [row["cost"] for row in rows][:2] == ["0.000000000001", "0.000000000002"]


def test_an_answer_of_several_usage_lines_costs_their_sum(here, engine):
    here.source(1)
    answer = here.answer(1, 1, 1)
    for line in range(3):
        here.charge(answer, 10**12 + line, line=line)
    (row,), _ = exported(engine)
    assert row["cost"] == "3.000000000003"
    with reading(engine) as connection:
        asked = text("SELECT cost_pico_usd, cost_status FROM v_answers")
        assert connection.execute(asked).all() == [(3 * 10**12 + 3, "priced")]
