import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import BatcherError, CannotCreate, SchemaVersionError, UsageError
from batcher.ledger.connect import open_engine, writing
from tests.cli.terminal import on_a_terminal
from tests.databases import sqlite_template, sqlite_url  # noqa: F401
from tests.report.ledger_rows import NOON, SECOND, LedgerRows


@pytest.fixture
def database(sqlite_url):  # noqa: F811
    rows = LedgerRows(sqlite_url)
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1)
    rows.charge(rows.answer(1, 1, 1), 3_400_000_000)
    rows.engine.dispose()
    return sqlite_url


def invoke(*words, error=None):
    result = CliRunner().invoke(group, words)
    if error is not None:
        assert isinstance(result.exception, error), result.output
        return str(result.exception)
    assert result.exit_code == 0, result.exception
    return result.stdout


CSV_LINE = (
    "claude-sonnet-5,1,1,0,0,0,0,0,10,0,0,0,5,0,0,0,0,0,0,0,0,0.0034,3400000000,"
    "0,0,0,0,0,0,0,0,0,0,charges\n"
)


def test_a_pipe_gets_plain_columns_of_all_models(database):
    text = invoke("report", "--database", database)
    assert text.splitlines()[2].split() == [
        "claude-sonnet-5", "1", "1", "10", "0", "0", "5", "0", "0", "$0.0034", "-", "-", "0",
    ]  # fmt: skip


def test_the_same_arguments_give_the_same_bytes(database, tmp_path):
    written = tmp_path / "report.csv"
    invoke("report", "--database", database, "--format", "csv", "-o", str(written))
    assert written.read_text() == invoke("report", "--database", database, "--format", "csv")
    assert written.read_text().endswith(CSV_LINE)


def test_several_dimensions_and_a_window(database):
    words = ("--by", "day", "--by", "job", "--since", "2026-01-05", "--until", "2026-01-06")
    text = invoke("report", "--database", database, *words)
    assert text.splitlines()[2].split()[:3] == ["2026-01-05", "nightly", "1"]


def test_a_window_before_everything_is_empty(database):
    text = invoke("report", "--database", database, "--until", "2026-01-05")
    assert text == (
        "Sent before 2026-01-05T00:00:00Z.\nNothing was sent, so there is nothing to report.\n"
    )


@pytest.mark.parametrize("period", ["day", "week", "month"])
def test_the_last_period_is_told(database, period):
    text = invoke("report", "--database", database, "--last", period, "--tz", "Asia/Tokyo")
    assert text.startswith("Sent from ")


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--by", "colour"), "--by 'colour' is not known"),
        (("--since", "soon"), "'soon' is no date"),
        (("--tz", "Mars"), "--tz 'Mars' is no time zone"),
        (("--last", "day", "--since", "2026-01-01"), "--last already says"),
        (("--run", "9"), "there is no run 9 here"),
        (("--since", "2026-02-01", "--until", "2026-02-01"), "nothing is sent from"),
    ],
)
def test_a_wrong_question_is_answered_in_one_sentence(database, words, sentence):
    assert sentence in invoke("report", "--database", database, *words, error=UsageError)


def test_a_database_that_is_not_there_is_not_made(tmp_path):
    path = tmp_path / "none.db"
    sentence = invoke("report", "--database", str(path), error=UsageError)
    assert sentence.startswith(f"there is no database {path}")
    assert not path.exists()


def test_an_older_database_is_not_migrated(database):
    engine = open_engine(database)
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE batcher_version SET version_num = '0000'")
    engine.dispose()
    before = Path(database).read_bytes()
    assert "db upgrade" in invoke("report", "--database", database, error=SchemaVersionError)
    assert Path(database).read_bytes() == before


def test_a_file_that_is_no_database_is_told(tmp_path):
    path = tmp_path / "letter.txt"
    path.write_text("Dear customer, " * 100)
    assert str(path) in invoke("report", "--database", str(path), error=BatcherError)


def test_a_target_that_cannot_be_written_is_told(database):
    words = ("report", "--database", database, "-o", "/no/such/folder/x")
    assert "cannot be written" in invoke(*words, error=CannotCreate)


def test_a_terminal_gets_a_table_without_colour_when_asked(database):
    words = ("report", "--database", database)
    environment = {"PATH": os.defpath, "NO_COLOR": "1", "TERM": "xterm", "COLUMNS": "80"}
    code, text = on_a_terminal(*words, environment=environment)
    assert code == 0
    assert "│ claude-sonnet-5 │        1 │    10 │      5 │    $0.0034 │" in text
    assert "\x1b[3" not in text


def test_the_exit_code_of_a_missing_database_is_2(tmp_path):
    words = [sys.executable, "-m", "batcher", "report", "--database", str(tmp_path / "x.db")]
    child = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert (child.returncode, child.stdout) == (2, "")
    assert len(child.stderr.splitlines()) == 1


# Words of the settings, which the configuration is checked against: no code of a run.
WORDS_OF_SETTINGS = {
    "batcher.pipeline.choices",
    "batcher.rows",
    "batcher.rows.build",
    "batcher.rows.build.settings",
    "batcher.transport.endpoint",
}


def test_a_report_loads_neither_engine_nor_pacing_nor_transport(database):
    program = (
        "import runpy, sys\n"
        f"sys.argv = ['batcher', 'report', '--database', {database!r}]\n"
        "try: runpy.run_module('batcher', run_name='__main__')\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        "print(*sys.modules, file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", program]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "claude-sonnet-5" in child.stdout
    loaded = set(child.stderr.split()) - WORDS_OF_SETTINGS
    rooms = ("batcher.pipeline.", "batcher.pacing", "batcher.transport.", "batcher.rows")
    assert not {name for name in loaded if name.startswith(rooms)}
    assert not loaded & {"aiohttp", "alembic", "jinja2", "pyarrow", "rich"}


@pytest.fixture
def two_nights(sqlite_url):  # noqa: F811
    """A run of two nights, the second by two processes side by side."""
    rows = LedgerRows(sqlite_url)
    rows.run(job="nightly")
    rows.source(1)
    for invocation, began, ended in ((1, 0, 5), (2, 100, 105), (3, 101, 110)):
        rows.invocation(1, started_at=NOON + began * SECOND, ended_at=NOON + ended * SECOND)
        rows.charge(rows.answer(invocation, 1, invocation), 1_000_000_000)
    rows.engine.dispose()
    return sqlite_url


def test_the_last_run_is_its_latest_invocation_with_those_beside_it(two_nights):
    text = invoke("report", "--database", two_nights, "--last", "run", "--by", "invocation")
    assert "Sent by run 1 in invocation 2 and later.\n" in text
    words = ("--last", "run", "--by", "invocation", "--format", "json")
    found = json.loads(invoke("report", "--database", two_nights, *words))
    assert [line["key"]["invocation"] for line in found["lines"]] == [2, 3]
    assert (found["run_id"], found["total"]["attempts"]) == (1, 2)


def test_processes_of_one_command_are_one_run_though_one_began_when_another_had_ended(
    sqlite_url,  # noqa: F811
):
    rows = LedgerRows(sqlite_url)
    rows.run(job="nightly")
    rows.source(1)
    for invocation, began, uid in ((1, 0, "a"), (2, 100, "b"), (3, 200, "b")):
        options = json.dumps({"command_uid": uid, "token": "t"}, separators=(",", ":"))
        at = NOON + began * SECOND
        rows.invocation(1, started_at=at, ended_at=at + SECOND, options=options)
        if invocation < 3:
            rows.charge(rows.answer(invocation, 1, invocation), 1_000_000_000)
    rows.engine.dispose()
    words = ("--last", "run", "--by", "invocation", "--format", "json")
    found = json.loads(invoke("report", "--database", sqlite_url, *words))
    assert [line["key"]["invocation"] for line in found["lines"]] == [2]


def test_the_last_hours_and_days_end_now(database):
    text = invoke("report", "--database", database, "--last", "24h")
    assert text.endswith("Nothing was sent, so there is nothing to report.\n")
    text = invoke("report", "--database", database, "--last", "36500d")
    assert "claude-sonnet-5" in text


@pytest.mark.parametrize("word", ["nigth", "0h", "24", "9999999d", "99999d", "-1d", "1.5h"])
def test_what_else_is_no_last(database, word):
    sentence = invoke("report", "--database", database, f"--last={word}", error=UsageError)
    assert "or like 24h and 7d" in sentence


def test_the_last_run_of_several_ledgers_or_of_none_is_not_clear(database, sqlite_url):  # noqa: F811
    words = ("report", "--database", database, "--last", "run")
    assert "one --database" in invoke(*words, "--database", "b.db", error=UsageError)
    assert "leave one out" in invoke(*words, "--run", "1", error=UsageError)
    assert "leave out" in invoke(*words, "--compare", "2026-01", "2026-02", error=UsageError)
