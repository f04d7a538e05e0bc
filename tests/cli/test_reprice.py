"""`batcher reprice`, `prices close` and `prices ratings` as typed."""

import json

import click
import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import ConfigurationError, UsageError
from tests.ledger.settling import RunLedger, book


@pytest.fixture
def ledger(sqlite_url):
    made = RunLedger(sqlite_url)
    made.write(made.answered(), made.answered(message={"model": "unheard-of"}))
    yield made
    made.engine.dispose()


@pytest.fixture
def dear(tmp_path):
    """A price file: input costs three times as much."""
    path = tmp_path / "dear.toml"
    path.write_text(book("two", "3").content)
    return path


def typed(ledger, *words):
    line = [*map(str, words), "--database", ledger.url]
    return CliRunner().invoke(group, line, standalone_mode=False)


def test_the_difference_is_a_table_with_a_total(ledger, dear):
    done = typed(ledger, "reprice", "--book", dear)
    assert done.exception is None
    assert done.output == (
        "Model            Answers  Old         New         Difference\n"
        "---------------  -------  ----------  ----------  -----------\n"
        "claude-sonnet-5        1  $0.00006    $0.00008    $0.00002\n"
        "unheard-of             1  1 unpriced  1 unpriced  +0 unpriced\n"
        "Total                  2  $0.00006    $0.00008    $0.00002\n"
        "Total                  2  1 unpriced  1 unpriced  +0 unpriced\n"
        "Rating 2 was added: 1 of 2 answers got other charges. batcher prices ratings lists"
        " those before it.\n"
    )


def test_a_dry_run_says_so_and_leaves_no_rating(ledger, dear):
    assert "Nothing was written" in typed(ledger, "reprice", "--book", dear, "--dry-run").output
    assert ledger.ask("SELECT COUNT(*) FROM ratings") == [(1,)]


def test_json_has_amounts_as_text(ledger, dear):
    told = json.loads(typed(ledger, "reprice", "--book", dear, "--json").output)
    assert told["rating"] == 2
    assert told["models"]["claude-sonnet-5"] == {
        "answers": 1, "old": {"USD": "0.00006"}, "new": {"USD": "0.00008"},
        "old_unpriced": 0, "new_unpriced": 0, "no_longer_priced": {},
    }  # fmt: skip


def test_an_old_report_is_asked_for_by_its_rating(ledger, dear):
    before = typed(ledger, "report").stdout
    typed(ledger, "reprice", "--book", dear)
    assert typed(ledger, "report").stdout != before
    assert typed(ledger, "report", "--rating", "1").stdout == before
    assert isinstance(typed(ledger, "report", "--rating", "9").exception, UsageError)


def test_a_closed_month_is_listed_and_left_alone(ledger, dear):
    # The answers are of a November that may lie ahead, so an older month is closed.
    assert typed(ledger, "prices", "close", "2025-11").output == (
        "2025-11 is closed with rating 1\n"
    )
    ratings = typed(ledger, "prices", "ratings").output.splitlines()
    assert ratings[0].split() == ["Rating", "Made", "Reason", "Prices", "Of", "Run", "Closed",
                                  "months"]  # fmt: skip
    assert ratings[2].split()[-1] == "2025-11"
    said = typed(ledger, "reprice", "--book", dear).output
    assert "Closed months were left alone: 2025-11." in said


def test_a_missing_or_broken_price_file_is_refused(ledger, tmp_path):
    gone = typed(ledger, "reprice", "--book", tmp_path / "gone.toml")
    assert isinstance(gone.exception, UsageError)
    broken = tmp_path / "broken.toml"
    broken.write_text("format = 7")
    refused = typed(ledger, "reprice", "--book", broken)
    assert isinstance(refused.exception, ConfigurationError)


def test_a_day_that_is_none_is_refused(ledger, dear):
    done = typed(ledger, "reprice", "--book", dear, "--as-of", "tomorrow")
    assert isinstance(done.exception, click.BadParameter)


def test_a_book_must_be_named(ledger):
    assert isinstance(typed(ledger, "reprice").exception, click.MissingParameter)
