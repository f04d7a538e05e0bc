"""`batcher batches`, and what `run` refuses of the batch lane before anything is sent."""

import json

import pytest
from sqlalchemy import text

from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import open_engine, writing
from tests.cli.test_report import database, invoke  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401

INTENT = """INSERT INTO batches
  (run_id, invocation_id, requested_model, state, batch_id, requests, intended_at)
  VALUES (1, 1, 'claude-haiku-4-5', :state, :batch_id, 2, 1796000000000000)"""


@pytest.fixture
def with_batches(database):  # noqa: F811
    engine = open_engine(database)
    with writing(engine) as connection:
        connection.execute(text(INTENT), {"state": "creating", "batch_id": None})
        connection.execute(text(INTENT), {"state": "in_progress", "batch_id": "msgbatch_1"})
    engine.dispose()
    return database


def test_batches_are_listed(with_batches):
    said = invoke("batches", "list", "--database", with_batches)
    first, second = said.splitlines()
    assert first.startswith("1  without an answer  creating  2 requests of claude-haiku-4-5")
    assert second.startswith("2  msgbatch_1  in_progress  2 requests")
    listed = json.loads(invoke("batches", "list", "--json", "--database", with_batches))
    assert [each["batch_id"] for each in listed["batches"]] == [None, "msgbatch_1"]


def test_no_batches_are_told_too(database):  # noqa: F811
    assert invoke("batches", "list", "--database", database) == "There are no batches here.\n"


def test_a_lost_one_is_adopted_or_forgotten(with_batches):
    said = invoke("batches", "adopt", "msgbatch_2", "--database", with_batches)
    assert said.startswith("batch msgbatch_2 is taken for number 1; collect it with:")
    said = invoke("batches", "forget", "msgbatch_1", "--database", with_batches)
    assert said.startswith("0 attempts of batch 2 are in doubt now")
    words = ("batches", "forget", "msgbatch_1", "--database", with_batches)
    assert "no batch msgbatch_1 is out" in invoke(*words, error=UsageError)


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"prompt": "hello"}\n')
    return str(path)


@pytest.mark.parametrize(
    ("words", "error", "said"),
    [
        (("--lane", "batch", "-e", "ollama"), ConfigurationError, "has no Message Batches"),
        (("--lane", "batch", "--join"), ConfigurationError, "is for one process"),
        (("--lane", "batch", "--on", "ray"), ConfigurationError, "is for one process"),
        (("--dedup", "--join"), ConfigurationError, "--dedup is for one process"),
        (("--no-wait",), UsageError, "--no-wait is about batches"),
        (("--cancel",), UsageError, "--cancel is about batches"),
    ],
)
def test_what_does_not_go_together_is_refused(rows, tmp_path, words, error, said):
    where = ("--database", str(tmp_path / "ledger.db"))
    if "--join" in words:
        where = ("--database", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    assert said in invoke("run", rows, "-m", "m", *words, *where, error=error)
    assert not (tmp_path / "ledger.db").exists()
