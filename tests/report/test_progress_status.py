import json
import os
import socket
from pathlib import Path

import msgspec
import pytest
from sqlalchemy import insert

from batcher.errors import UsageError
from batcher.ledger.connect import writing
from batcher.ledger.owner.process import this_process
from batcher.ledger.schema_internal import batches, leases
from batcher.report.render.status_text import render_status, status_json
from batcher.report.status import Life, read_status
from tests.report.ledger_rows import NOON, SECOND

HERE = socket.gethostname()
NOBODY_HAS_THIS_PID = 2**22 + 1  # above the largest that Linux gives


@pytest.fixture
def here(rows):
    rows.run(job="nightly")
    return rows


def test_without_runs_the_status_says_so(rows, engine):
    assert render_status(read_status(engine)) == "There is no run here yet.\n"


def test_rows_are_counted_by_what_became_of_them(here, engine):
    here.invocation(1, exit_code=75)
    here.source(1, rows=10)
    here.answer(1, 1, 1)
    here.answer(1, 1, 2)
    here.answer(1, 1, 2, final=0, attempt={"state": "late"})
    here.failure(1, 1, 3, transient=1)
    here.failure(1, 1, 4)
    here.failure(1, 1, 5, kind="quarantined")
    here.failure(1, 1, 6, kind="held")
    here.attempt(1, 1, 7, cost_low=110 * 10**9, cost_high=840 * 10**9)
    here.attempt(1, 1, 8, state="open", cost_high=0)
    assert render_status(read_status(engine)) == (
        "run 1: nightly\n"
        "  inputs    rows.jsonl\n"
        "  rows      10: 2 answered, 2 failed (1 to be tried again), 1 quarantined, 1 held,"
        " 4 to do\n"
        "  why       2 failed with overloaded_error, first at rows.jsonl:3: Overloaded\n"
        "  why       1 held with overloaded_error at rows.jsonl:6: Overloaded\n"
        "  why       1 quarantined with overloaded_error at rows.jsonl:5: Overloaded\n"
        "  cost      unknown, 3 answers without a price\n"
        "  in doubt  2 attempts (1 still open) may have cost $0.11 to $0.84\n"
        "  last      invocation 1 by ana on elsewhere, process 7, began 2026-01-05T12:00:00Z,"
        " ended 2026-01-05T12:01:00Z: exit code 75 (interrupted)\n"
        "  To go on, type the same command again: batcher run rows.jsonl\n"
        "  `batcher retry` makes failed and held rows work to do again.\n"
    )


@pytest.mark.parametrize(
    ("lost", "words"),
    [
        (0, "  out       2 attempts in batches may cost $0.00 to $1.68\n"),
        (1, "  in doubt  3 attempts (2 still open, 2 of them in batches) may have cost $0.00"),
    ],
)
def test_what_is_in_batches_is_expected_and_not_in_doubt(here, engine, lost, words):
    here.invocation(1, exit_code=75)
    here.source(1, rows=3)
    with writing(here.engine) as connection:
        connection.execute(
            insert(batches).values(
                batch_number=1, run_id=1, invocation_id=1, state="in_progress",
                requested_model="claude-haiku-4-5", batch_id="msgbatch_1", requests=2,
                intended_at=NOON,
            )
        )  # fmt: skip
    for row in (1, 2):
        here.attempt(1, 1, row, state="open", batch_number=1, cost_high=840 * 10**9)
    for row in range(3, 3 + lost):
        here.attempt(1, 1, row)
    said = render_status(read_status(engine))
    assert words in said
    assert "exit code 75 (rows are in batches)" in said


def test_what_a_guard_ended_is_not_said_to_lack_answers(here, engine):
    here.invocation(1, exit_code=65)
    here.source(1, rows=1)
    here.answer(1, 1, 1)
    said = render_status(read_status(engine))
    assert "65 (rows without an answer, or what --strict, --max-bad or [guard] minds)" in said


def test_a_finished_run_has_no_advice(here, engine):
    here.invocation(1)
    here.source(1, rows=1)
    here.answer(1, 1, 1)
    (run,) = read_status(engine)
    assert (run.to_do, run.advice, run.money.counts.in_doubt_attempts) == (0, (), 0)


def test_a_row_that_failed_and_was_answered_since_is_answered(here, engine):
    here.invocation(1)
    here.source(1, rows=1)
    here.failure(1, 1, 1)
    here.answer(1, 1, 1)
    (run,) = read_status(engine)
    assert (run.answered, run.failed, run.to_do) == (1, 0, 0)


def test_an_older_version_of_a_file_is_not_counted(here, engine):
    here.invocation(1)
    here.source(1, rows=5, superseded_by=2)
    here.source(1, rows=3)
    here.answer(1, 1, 1)
    here.answer(1, 2, 1)
    (run,) = read_status(engine)
    assert (run.inputs, run.rows, run.answered, run.to_do) == (("rows.jsonl",), 3, 1, 2)


def test_what_is_left_of_a_file_not_read_to_its_end_is_not_guessed(here, engine):
    here.invocation(1, ended_at=None, exit_code=None)
    here.source(1, rows=None)
    (run,) = read_status(engine)
    assert (run.rows, run.to_do) == (None, None)
    assert "rows      not all read yet: 0 answered\n" in render_status([run])


@pytest.mark.parametrize(
    ("fields", "life"),
    [
        ({"ended_at": NOON + SECOND}, Life.ENDED),
        ({"ended_at": None, "host": HERE, "pid": os.getpid()}, Life.RUNNING),
        ({"ended_at": None, "host": HERE, "pid": NOBODY_HAS_THIS_PID}, Life.DIED),
        ({"ended_at": None, "host": HERE, "pid": 2**40}, Life.DIED),
        ({"ended_at": None, "host": "elsewhere"}, Life.UNKNOWN),
    ],
)
def test_a_process_ended_runs_or_died(here, engine, fields, life):
    here.invocation(1, **fields)
    (run,) = read_status(engine)
    assert run.last is not None
    assert run.last.life is life


def test_a_process_whose_last_outcomes_wait_in_a_lifeboat_did_not_just_die(here, engine):
    here.invocation(1, ended_at=None, host=HERE, pid=NOBODY_HAS_THIS_PID)
    (run,) = read_status(engine, lifeboats={1})
    assert run.last is not None
    assert run.last.life is Life.FAILED
    assert "the database failed, its last outcomes wait in a lifeboat" in render_status([run])


def test_a_process_that_runs_or_ended_is_not_said_to_have_failed(here, engine):
    """A lifeboat may be there while its run still writes it, and after a copy was put back."""
    here.invocation(1, ended_at=None, host=HERE, pid=os.getpid())
    (run,) = read_status(engine, lifeboats={1})
    assert run.last is not None
    assert run.last.life is Life.RUNNING


def test_a_running_process_needs_no_advice(here, engine):
    here.invocation(1, ended_at=None, exit_code=None, host=HERE, pid=os.getpid())
    (run,) = read_status(engine)
    assert run.advice == ()
    assert "is running" in render_status([run])


def test_the_latest_process_is_shown(here, engine):
    here.invocation(1, exit_code=75)
    here.invocation(1, exit_code=0, pid=8)
    (run,) = read_status(engine)
    assert run.last is not None
    assert (run.last.invocation_id, run.last.pid) == (2, 8)


def test_runs_are_told_apart(here, engine):
    here.run("other.jsonl")
    here.invocation(2)
    here.source(2, "other.jsonl", rows=1)
    here.attempt(1, 1, cost_high=None)
    first, second = read_status(engine)
    counts = [run.money.counts for run in (first, second)]
    assert [each.in_doubt_unbounded for each in counts] == [0, 1]
    assert counts[0].in_doubt_attempts == 0
    assert read_status(engine, 2) == (second,)


def test_a_run_that_is_not_there_is_refused(here, engine):
    with pytest.raises(UsageError, match="there is no run 9 here"):
        read_status(engine, 9)


NOTHING = {"amount": "0", "pico": "0"}


def test_status_tells_what_it_cost_and_what_of_that_is_not_sure(here, engine):
    here.invocation(1)
    here.source(1, rows=3)
    here.charge(here.answer(1, 1, 1), 20_000_000_000)
    here.charge(here.answer(1, 1, 2), 10_000_000_000, status="assumed", high_amount=10**12)
    here.charge(here.answer(1, 1, 3), None)
    here.attempt(1, 1, 4, state="rejected", cost_high=5 * 10**12)
    text = render_status(read_status(engine))
    assert "cost      $0.03 (1 charge assumed: $0.01 of it to $1.00), 1 answer without" in text
    assert "refused   1 attempt may have been billed even so: up to $5.00" in text
    (run,) = json.loads(status_json(read_status(engine)))["runs"]
    assert run["cost"] == {"USD": {"amount": "0.03", "pico": "30000000000"}}
    assert (run["assumed_charges"], run["assumed_high"]["amount"]) == (1, "1")
    assert (run["maybe_billed_attempts"], run["maybe_billed_high"]["amount"]) == (1, "5")


def test_json_has_the_same_with_exact_amounts(here, engine):
    here.invocation(1, ended_at=None, exit_code=None)
    here.source(1, rows=2)
    here.attempt(1, 1, 1, cost_low=1, cost_high=None)
    assert json.loads(status_json(read_status(engine))) == {
        "schema": "batcher.status/1",
        "runs": [
            {
                "run_id": 1, "key": "rows.jsonl", "job": "nightly", "inputs": ["rows.jsonl"],
                "rows": 2, "answered": 0, "failed": 0, "failed_transient": 0, "quarantined": 0,
                "held": 0, "to_do": 2, "reasons": [], "cost": {}, "unpriced_requests": 0,
                "assumed_charges": 0, "assumed_low": NOTHING, "assumed_high": NOTHING,
                "maybe_billed_attempts": 0, "maybe_billed_high": NOTHING, "open_attempts": 0,
                "in_doubt_attempts": 1,
                "in_doubt_unbounded": 1,
                "in_doubt_low": {"amount": "0.000000000001", "pico": "1"},
                "in_doubt_high": None,
                "deadline": None,
                "last_invocation": {
                    "invocation_id": 1, "started_at": "2026-01-05T12:00:00Z", "ended_at": None,
                    "exit_code": None, "life": "unknown", "host": "elsewhere", "pid": 7,
                    "os_user": "ana", "endpoint": "anthropic",
                    "command": "batcher run rows.jsonl", "also_running": 0,
                },
                "workers": [],
                "nodes": 0,
                "limited_by": "",
                "batches": [],
                "advice": ["To go on, type the same command again: batcher run rows.jsonl"],
            }
        ],
    }  # fmt: skip


def note_process(here, process, pid):
    """What a run notes of its process: in its lock file, or in its lease."""
    if here.engine.dialect.name == "postgresql":
        with writing(here.engine) as connection:
            connection.execute(
                insert(leases).values(
                    name="run", token=1, owner="ana", process=process, invocation_id=1,
                    acquired_at=0, expires_at=0, written=0,
                )
            )  # fmt: skip
        return
    holder = {"pid": pid, "host": HERE, "user": "ana", "started_at": "", "command": ""}
    holder |= {"process": process}
    Path(f"{here.engine.url.database}.lock").write_bytes(msgspec.json.encode(holder))


@pytest.mark.parametrize(
    ("process", "life"),
    [
        (this_process(), Life.RUNNING),
        (this_process() + "1", Life.DIED),
        (f"another-boot/{this_process()}", Life.UNKNOWN),
        ("", Life.RUNNING),
    ],
    ids=["this one", "a later one", "of another boot", "not noted"],  # the same in each worker
)
def test_a_number_that_another_process_has_by_now_is_not_taken_for_the_run(
    here, engine, process, life
):
    here.invocation(1, ended_at=None, exit_code=None, host=HERE, pid=os.getpid())
    note_process(here, process, os.getpid())
    (run,) = read_status(engine)
    assert run.last is not None
    assert run.last.life is life


@pytest.mark.parametrize("held", [b"", b'{"pid": 1'])
def test_a_run_that_does_not_hold_its_file_any_more_died(here, engine, held):
    if engine.dialect.name == "postgresql":
        pytest.skip("there are no lock files")
    here.invocation(1, ended_at=None, exit_code=None, host=HERE, pid=os.getpid())
    Path(f"{engine.url.database}.lock").write_bytes(held)
    (run,) = read_status(engine)
    assert run.last is not None
    assert run.last.life is Life.DIED
