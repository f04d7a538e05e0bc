"""`batcher prices`, as somebody types it."""

import os

import pytest
from click.testing import CliRunner

from batcher.cli.money.prices import prices
from batcher.errors import CannotCreate, ConfigurationError, UsageError
from batcher.pricing.book.book import load_file, load_shipped
from tests.cli.terminal import on_a_terminal

MINE = """\
version = "mine"
extends = "nothing"
published = 2020-01-01

[lists.crun]
currency = "CRUN_CREDIT"

[[rates]]
list = "crun"
model = "claude-opus-5"
valid_from = 2026-01-01
input = "500"
cache_read = "50"
output = "2500"
source = "contract 17"
"""


def batcher_prices(*arguments):
    return CliRunner().invoke(prices, [str(a) for a in arguments], catch_exceptions=False)


@pytest.fixture
def mine(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(MINE)
    return path


def test_list_shows_one_line_per_model_and_terms(mine):
    shown = batcher_prices("list", "--prices", mine, "--list", "crun")
    head, _, line = shown.stdout.splitlines()
    assert head == (
        "model          terms     input  write_5m  write_1h  read  output  search/1k"
        "  currency     since"
    )
    assert line == (
        "claude-opus-5  standard    500  -         -           50    2500  -        "
        "  CRUN_CREDIT  2026-01-01"
    )
    assert "book mine" in shown.stderr


def test_list_of_an_earlier_day_shows_the_prices_of_that_day():
    shown = batcher_prices("list", "--on", "2026-10-06").stdout
    (line,) = [x for x in shown.splitlines() if x.startswith("claude-sonnet-5-5  standard")]
    assert line.split()[5] == "0.200"  # as many decimals as the finest of the column
    assert "claude-fable-5-2" not in shown


def test_list_of_all_models_is_never_cut():
    shown = batcher_prices("list").stdout
    assert all(model in shown for model in load_shipped().lists["anthropic"].models())
    assert "…" not in shown


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["list", "--list", "nobody"], "no price list nobody; there are anthropic, simulator"),
        (["show", "claude-opus-6"], "no price for model claude-opus-6"),
    ],
)
def test_what_is_not_in_the_book_is_said_so(arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        batcher_prices(*arguments)


def test_a_day_that_is_none_is_a_usage_error():
    shown = batcher_prices("list", "--on", "yesterday")
    assert shown.exit_code == 2
    assert "no day such as" in shown.stderr


def test_show_tells_every_period_with_its_source():
    shown = batcher_prices("show", "anthropic/claude-opus-4-6").stdout.splitlines()
    assert len([line for line in shown if line.startswith("anthropic")]) == 4
    assert "fast/>200000" in "".join(shown)
    assert all("https://platform.claude.com/docs" in line for line in shown[2:])


def test_diff_of_a_book_with_itself_is_empty():
    shown = batcher_prices("diff", "shipped", "shipped")
    assert (shown.stdout, shown.exit_code) == ("", 0)
    assert "0 differences" in shown.stderr


def test_diff_shows_what_changed_and_since_when(mine, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(MINE.replace('"50"', '"25"'))
    shown = batcher_prices("diff", mine, other).stdout.splitlines()
    assert shown[2].split() == [
        *("crun", "claude-opus-5", "standard", "cache_read", "2026-01-01", "-", "50", "25")
    ]


def test_check_of_the_shipped_book_finds_nothing():
    shown = batcher_prices("check", "--max-age", 100_000)
    assert shown.exit_code == 0
    assert "known differences, 0 new ones" in shown.stdout
    assert not shown.stderr


def test_check_lists_a_difference_that_nobody_knows(tmp_path):
    path = tmp_path / "wrong.toml"
    text = load_shipped().content
    path.write_text(text.replace('input = "0.10"', 'input = "0.11"'))
    shown = batcher_prices("check", path)
    assert shown.exit_code == 1
    assert "claude-haiku-5-5" in shown.stdout


def test_check_warns_about_an_old_book(mine):
    shown = batcher_prices("check", mine)
    assert "warning: the book was published" in shown.stderr
    assert "not compared" in shown.stderr


def test_check_of_a_wrong_file_names_the_place(mine):
    mine.write_text(MINE.replace('"500"', "500"))
    with pytest.raises(ConfigurationError, match=r"mine.toml: rates block 1 \(claude-opus-5\)"):
        batcher_prices("check", mine)


def test_check_of_a_missing_file_is_a_usage_error(tmp_path):
    with pytest.raises(UsageError, match="no such price file"):
        batcher_prices("check", tmp_path / "none.toml")


def test_import_of_a_csv_writes_a_price_file(tmp_path):
    table, target = tmp_path / "p.csv", tmp_path / "p.toml"
    table.write_text("model,valid_from,input,output\nm,2026-01-01,0.0000005,2\n")
    with pytest.raises(ConfigurationError, match="prices import --round"):
        batcher_prices("import", table, "-o", target)
    assert not target.exists()
    assert batcher_prices("import", table, "--round", "-o", target).exit_code == 0
    assert "m" in load_file(target).lists["anthropic"].models()


def test_import_never_overwrites_a_file(mine):
    with pytest.raises(CannotCreate, match="is an input"):
        batcher_prices("import", mine, "-o", mine, "--force")
    other = mine.with_name("other.toml")
    other.write_text("# by hand\n")
    with pytest.raises(CannotCreate, match=r"is there already.*--force"):
        batcher_prices("import", mine, "-o", other)
    assert (mine.read_text(), other.read_text()) == (MINE, "# by hand\n")
    batcher_prices("import", mine, "-o", other, "--force")
    assert load_file(other).lists
    batcher_prices("import", mine, "-o", other)  # what an import wrote the next one replaces
    assert load_file(other).lists


def test_import_of_ones_own_file_to_stdout_reads_back_the_same(mine, tmp_path):
    again = tmp_path / "again.toml"
    again.write_text(batcher_prices("import", mine).stdout)
    assert load_file(again).lists == load_file(mine).lists


def test_import_from_genai_prices_can_stand_alone(tmp_path):
    target = tmp_path / "genai.toml"
    batcher_prices("import", "--from", "genai-prices", "--replace", "-o", target)
    book = load_file(target)
    assert set(book.lists) == {"anthropic"}
    assert batcher_prices("check", target).exit_code == 0


@pytest.mark.parametrize("arguments", [[], ["x.csv", "--from", "genai-prices"]])
def test_import_needs_one_source(arguments):
    assert batcher_prices("import", *arguments).exit_code == 2


def test_a_narrow_terminal_goes_without_the_columns_that_matter_least(mine):
    words = ("prices", "list", "--prices", str(mine), "--list", "crun")
    environment = os.environ | {"COLUMNS": "60", "NO_COLOR": "1"}
    code, shown = on_a_terminal(*words, environment=environment)
    assert code == 0
    assert all(word in shown for word in ("input", "500", "output", "2500"))
    assert "write_5m" not in shown
    assert "CRUN_CREDIT" not in shown
