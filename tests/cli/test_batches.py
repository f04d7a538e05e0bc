"""`batcher batches`, and what `run` refuses of the batch lane before anything is sent."""

import json

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from batcher.cli.menu import group
from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import open_engine, writing
from batcher.simulator.settings import BatchSettings
from tests.cli.test_report import database, invoke  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401
from tests.making_runs import ask, row, simulating, write_rows

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
        (("--lane", "auto"), ConfigurationError, "--lane auto needs a deadline"),
        (("--lane", "auto", "--deadline", "8h", "--join"), ConfigurationError, "one process"),
        (("--lane", "auto", "--deadline", "8h", "--no-wait"), UsageError, "--no-wait and"),
        (("--lane", "auto", "--deadline", "8h", "--limit", "5"), UsageError, "--limit and"),
        (("--lane", "auto", "--deadline", "25:00"), ConfigurationError, "like 06:00"),
        (("--lane", "auto", "--deadline", "0"), ConfigurationError, "like 06:00"),
        (("--lane", "batch", "--deadline", "8h"), UsageError, "are for --lane auto"),
        (("--tz", "UTC"), UsageError, "are for --lane auto"),
        (
            ("--lane", "auto", "--deadline", "6:00", "--tz", "Mars/Base"),
            ConfigurationError,
            "no time zone",
        ),
        (
            ("--lane", "auto", "--deadline", "8h", "--deadline-pays", "--on-unknown", "hold"),
            ConfigurationError,
            "--on-unknown hold does not",
        ),
    ],
)
def test_what_does_not_go_together_is_refused(rows, tmp_path, words, error, said):
    where = ("--database", str(tmp_path / "ledger.db"))
    if "--join" in words:
        where = ("--database", "postgresql+psycopg://nobody@127.0.0.1:9/none")
    assert said in invoke("run", rows, "-m", "m", *words, *where, error=error)
    assert not (tmp_path / "ledger.db").exists()


@pytest.fixture
def night(tmp_path, monkeypatch):
    """Three rows, one of which no batch carries, and what a run of them says at its end."""
    monkeypatch.chdir(tmp_path)
    lines = [
        row("a", "id-1"),
        row("b", "id-2"),
        row("c", "id-3", speed="fast", model="claude-opus-4-6"),
    ]
    write_rows(tmp_path / "rows.jsonl", lines)
    with simulating(batches=BatchSettings()) as simulator:
        where = ("-e", "simulator", "--base-url", simulator.base_url, "--no-preflight")

        def run(*words):
            words = ("run", "rows.jsonl", *where, "--lane", "auto", *words)
            return CliRunner().invoke(group, words, standalone_mode=False)

        yield run


def lanes(folder):
    asked = "SELECT row_number, lane FROM v_answers ORDER BY row_number"
    return ask(str(folder / "batcher.db"), asked)


def test_a_run_with_time_goes_in_batches_but_for_what_fits_in_none(night, tmp_path):
    ended = night("--deadline", "8h")
    assert ended.return_value == 0, ended.output
    assert lanes(tmp_path) == [(1, "batch"), (2, "batch"), (3, "live")]
    said = ended.output
    assert "rows go in batches of up to " in said
    assert "should be back within 60 min (none was seen yet)" in said
    assert "if all rows had to move to the live lane, up to $" in said
    assert "batch saved $" in said
    assert "3 rows answered" in said
    assert "missed" not in said
    assert said.count("priced with list") == 1


def test_what_the_first_phase_of_a_command_made_is_told_at_its_end(night):
    told = json.loads(night("--deadline", "8h", "--json").stdout)
    assert (told["invocation_id"], told["database_created"]) == (2, True)


def test_batches_that_use_the_cache_begin_with_the_first_rows_of_prefixes(night, tmp_path):
    (tmp_path / "cached.toml").write_text('[cache]\nmode = "auto"\n')
    assert night("--lane", "live").return_value == 0
    words = ("--lane", "batch", "--config", "cached.toml")
    assert "one row of each prefix goes first" in night(*words).output
    assert "one row of each prefix" not in night(*words, "--no-wait").output
    assert "one row of each prefix" not in night(*words, "--limit", "1").output


def test_a_run_without_time_goes_live(night, tmp_path):
    ended = night("--deadline", "5m", "--json")
    assert ended.return_value == 0, ended.output
    assert {lane for _, lane in lanes(tmp_path)} == {"live"}
    told = json.loads(ended.stdout)["deadline"]
    assert (told["missed"], told["late_rows"], told["moved_rows"]) == (False, 0, 0)
    assert told["batch_saved_usd"] == "0"


def test_a_dry_run_says_by_when_and_what_a_move_would_cost(night, tmp_path):
    ended = night("--deadline", "23:59:59", "--tz", "UTC", "--dry-run")
    assert ended.return_value == 0, ended.output
    assert " 23:59 UTC" in ended.stdout
    assert "if all rows had to move to the live lane, up to $" in ended.stdout
    assert not (tmp_path / "batcher.db").exists()
