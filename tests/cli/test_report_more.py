import csv
import io
import json

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import CannotCreate, UsageError
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.schema_internal import ledger_info
from tests.databases import sqlite_template, sqlite_url  # noqa: F401
from tests.report.months import filled


@pytest.fixture
def database(sqlite_url):  # noqa: F811
    filled(sqlite_url, days=4, each_day=30)
    return sqlite_url


@pytest.fixture
def second(sqlite_template, tmp_path):  # noqa: F811
    """Another ledger with the same answers: not a copy, so that it has its own uid."""
    path = tmp_path / "second.db"
    path.write_bytes(sqlite_template.read_bytes())
    engine = open_engine(str(path))
    with writing(engine) as connection:
        connection.execute(
            ledger_info.update().where(ledger_info.c.name == "database_uid").values(value="b")
        )
    engine.dispose()
    filled(str(path), days=4, each_day=30)
    return str(path)


def invoke(*words, error=None):
    result = CliRunner().invoke(group, ("report", *words))
    if error is not None:
        assert isinstance(result.exception, error), result.output
        return str(result.exception)
    assert result.exit_code == 0, result.exception
    return result.stdout


def cost_of(text):
    return int(json.loads(text)["total"]["cost"]["USD"]["pico"])


@pytest.mark.parametrize("view", ["waste", "cache", "costs", "latency", "units", "top"])
@pytest.mark.parametrize("form", ["table", "csv", "json", "markdown"])
def test_every_view_comes_in_every_format_the_same_each_time(database, view, form):
    words = ("--database", database, "--view", view, "--format", form)
    text = invoke(*words)
    assert text == invoke(*words)
    assert len(text.splitlines()) > 3


def test_the_dearest_rows_are_as_many_as_asked_for(database):
    text = invoke("--database", database, "--view", "top", "--top", "3", "--format", "csv")
    assert len(text.splitlines()) == 4


def test_a_page_is_written_to_a_file(database, tmp_path):
    page = tmp_path / "report.html"
    assert invoke("--database", database, "--format", "html", "-o", str(page)) == ""
    assert page.read_text().startswith("<!doctype html>")


def test_parquet_has_exact_decimals(database, tmp_path):
    target = tmp_path / "r.parquet"
    invoke("--database", database, "--format", "parquet", "-o", str(target), "--by", "run")
    table = pq.read_table(target)
    assert str(table.schema.field("cost_usd").type) == "decimal128(38, 12)"
    assert str(table.schema.field("run").type) == "int64"
    expected = cost_of(invoke("--database", database, "--format", "json"))
    assert sum(int(cost.scaleb(12)) for cost in table["cost_usd"].to_pylist()) == expected


@pytest.mark.parametrize("view", ["waste", "cache", "costs", "latency", "units", "top"])
def test_views_come_as_parquet_too(database, tmp_path, view):
    target = tmp_path / "v.parquet"
    invoke("--database", database, "--view", view, "--format", "parquet", "-o", str(target))
    assert pq.read_table(target).num_rows > 0


def test_focus_goes_to_standard_output_and_what_is_missing_to_the_other(database):
    result = CliRunner().invoke(group, ("report", "--database", database, "--format", "focus"))
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert rows[0]["ChargeCategory"] == "Usage"
    assert result.stderr == "Not in the file: 1 charge without a price.\n"


def test_focus_comes_as_parquet_by_the_name_of_the_file(database, tmp_path):
    target = tmp_path / "f.parquet"
    words = ("report", "--database", database, "--format", "focus", "-o", str(target))
    result = CliRunner().invoke(group, words)
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "Not in the file: 1 charge without a price.\n"
    table = pq.read_table(target)
    assert str(table.schema.field("BilledCost").type) == "decimal128(38, 12)"
    text = invoke("--database", database, "--format", "focus")
    assert table.num_rows == len(text.splitlines()) - 1


def test_two_databases_are_one_report_and_their_runs_stay_apart(database, second):
    one = cost_of(invoke("--database", database, "--format", "json"))
    both = ("--database", database, "--database", second)
    assert cost_of(invoke(*both, "--format", "json")) == 2 * one
    by_run = json.loads(invoke(*both, "--by", "run", "--format", "json"))["lines"]
    assert [line["key"]["run"] for line in by_run] == sorted([f"{database}#1", f"{second}#1"])


def test_several_databases_make_one_page_and_one_focus_file(database, second, tmp_path):
    both = ("--database", database, "--database", second)
    assert "2 databases" in invoke(*both, "--format", "html")
    alone = invoke("--database", database, "--format", "focus")
    together = invoke(*both, "--format", "focus")
    assert len(together.splitlines()) == 2 * len(alone.splitlines()) - 1


def test_the_same_database_twice_would_count_twice(database):
    sentence = invoke("--database", database, "--database", database, error=UsageError)
    assert "money would count twice" in sentence


@pytest.mark.parametrize("words", [("--run", "1"), ("--compare", "run:1", "2026")])
def test_a_run_is_a_number_of_one_database(database, second, words):
    both = ("--database", database, "--database", second)
    assert "give one --database" in invoke(*both, *words, error=UsageError)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--top", "3"), "add --view top"),
        (("--view", "top", "--by", "day"), "leave out --by"),
        (("--view", "waste", "--format", "html"), "leave out --view"),
        (("--view", "waste", "--compare", "2026", "2027"), "ask for one at a time"),
        (("--what-if", "lane=batch", "--format", "focus"), "leave out --what-if"),
        (("--format", "parquet"), "name it with -o FILE"),
        (("--format", "parquet", "-o", "-"), "name it with -o FILE"),
        (("--focus-grain", "day"), "--focus-grain is for --format focus"),
        (("--format", "focus", "--by", "day"), "leave out --by"),
        (("--compare", "2026", "soon"), "'soon' is not known"),
        (("--what-if", "speed=fast"), "write model=NAME"),
        (("--what-if", "lane=live", "--what-if", "lane=batch"), "lane= is there twice"),
    ],
)
def test_a_question_that_makes_no_sense_is_answered_in_one_sentence(database, words, sentence):
    assert sentence in invoke("--database", database, *words, error=UsageError)


@pytest.mark.parametrize("form", ["html", "focus", "parquet"])
def test_a_target_that_cannot_be_written_is_told(database, form):
    words = ("--database", database, "--format", form, "-o", "/no/such/folder/x")
    assert "cannot be written" in invoke(*words, error=CannotCreate)
