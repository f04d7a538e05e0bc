"""Old prices are told of in runs and reports; answers without a price can end a command."""

import json

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import ConfigurationError
from tests.making_runs import MODEL, row, rows, simulating, write_rows

BOOK = f"""
version = "old"
extends = "nothing"
published = 2026-01-02
[[rates]]
model = "{MODEL}"
valid_from = 2020-01-01
input = "3"
output = "15"
"""
DAYS = "BATCHER_PRICE_BOOK_MAX_AGE_DAYS"


@pytest.fixture
def simulator():
    with simulating() as running:
        yield running


@pytest.fixture
def typed(simulator, tmp_path, monkeypatch):
    """The words that name a job with prices of long ago, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", rows(3))
    (tmp_path / "old.toml").write_text(BOOK)
    where = ("--endpoint", "simulator", "--base-url", simulator.base_url)
    return ("rows.jsonl", *where, "--prices", "old.toml")


def invoke(*words, code=0):
    result = CliRunner().invoke(group, words, standalone_mode=False)
    assert result.exception is None, result.exception
    assert (result.return_value or 0) == code, result.stderr
    return result


def test_a_run_says_how_old_its_prices_are(typed):
    words = invoke("run", *typed).stderr
    assert "price book old; warning: it was published " in words
    assert "on 2026-01-02: look for newer prices (price_book_max_age_days is 90)" in words


def test_programs_read_it_too(typed):
    told = json.loads(invoke("run", *typed, "--json").stdout)
    assert "warning: it was published " in told["price_note"]


def test_a_report_says_it_beside_its_bytes(typed, monkeypatch):
    invoke("run", *typed)
    found = invoke("report", "--format", "csv")
    assert "warning: price book old was " in found.stderr
    assert "days old when it priced the newest answers" in found.stderr
    monkeypatch.setenv(DAYS, "0")
    silent = invoke("report", "--format", "csv")
    assert (silent.stderr, silent.stdout) == ("", found.stdout)


@pytest.mark.parametrize("days", ["0", "100000"])
def test_the_age_can_be_set_or_switched_off(typed, monkeypatch, days):
    monkeypatch.setenv(DAYS, days)
    assert "warning" not in invoke("run", *typed).stderr
    assert invoke("report").stderr == ""


def test_a_configuration_sets_it(typed, tmp_path):
    (tmp_path / "config.toml").write_text("price_book_max_age_days = 100000\n")
    assert "warning" not in invoke("run", *typed).stderr
    assert invoke("report").stderr == ""
    (tmp_path / "config.toml").write_text("price_book_max_age_days = 30\n")
    assert "price_book_max_age_days is 30" in invoke("report").stderr


def test_the_shipped_book_and_a_book_without_a_date_are_not_called_old(typed, tmp_path):
    (tmp_path / "old.toml").write_text(BOOK.replace("published = 2026-01-02\n", ""))
    assert "warning" not in invoke("run", *typed).stderr
    assert invoke("report").stderr == ""


@pytest.mark.parametrize("words", [("run",), ("report",)])
def test_less_than_no_days_are_refused(typed, monkeypatch, words):
    invoke("run", *typed)
    monkeypatch.setenv(DAYS, "-1")
    words = (*words, *typed) if words == ("run",) else words
    found = CliRunner().invoke(group, words, standalone_mode=False).exception
    assert isinstance(found, ConfigurationError)
    assert "price_book_max_age_days is -1" in str(found)


def test_strict_ends_with_65_when_an_answer_has_no_price(typed, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [*rows(2), row("c", model="claude-opus-5")])
    invoke("run", *typed)
    invoke("run", *typed, "--strict", code=65)
    assert "2 with a cost, 1 unpriced" in invoke("report", "--strict", code=65).stdout
    invoke("report", code=0)
    invoke("report", "--strict", "--format", "html", "-o", "page.html", code=65)
    invoke("report", "--strict", "--until", "2020-01-01", code=0)


def test_strict_is_content_where_all_is_priced(typed):
    invoke("run", *typed, "--strict")
    invoke("report", "--strict")
