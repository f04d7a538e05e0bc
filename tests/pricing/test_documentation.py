"""docs/prices.md: its price file works and its arithmetic is right."""

import re
from pathlib import Path

import pytest

from batcher.pricing.book.book import load_file, load_shipped
from batcher.pricing.rate.rating import rate
from tests.pricing.answers import DAY, NOVEMBER, answer, tokens

PAGE = (Path(__file__).parents[2] / "docs" / "prices.md").read_text("utf-8")
TWENTY_DAYS_AGO = NOVEMBER - 20 * DAY  # 2026-11-01


def example(kind, tmp_path):
    path = tmp_path / f"prices.{kind}"
    path.write_text(re.search(rf"```{kind}\n(.*?)```", PAGE, re.DOTALL)[1], "utf-8")
    return load_file(path)


@pytest.mark.parametrize(
    ("price_list", "at", "total"),
    [
        ("anthropic", NOVEMBER, 45_000_000_000),
        ("acme", NOVEMBER, 38_250_000_000),
        ("crun", TWENTY_DAYS_AGO - 1, 4_500_000_000_000),
        ("crun", TWENTY_DAYS_AGO, 4_200_000_000_000),
    ],
)
def test_the_worked_example_is_right(tmp_path, price_list, at, total):
    given = answer(tokens(10_000, 1_000), "claude-sonnet-4-6")
    (charge,) = rate(given, requested_model="", price_list=price_list, sent_at=at,
                     book=example("toml", tmp_path))  # fmt: skip
    assert charge.total == total


def test_the_csv_example_is_read(tmp_path):
    assert example("csv", tmp_path).lists["crun"].currency == "CRUN_CREDIT"


def test_the_page_names_the_shipped_book():
    assert f"Version {load_shipped().version}" in PAGE


def test_the_page_names_exactly_the_models_that_the_book_holds():
    text = PAGE.partition("Its models: ")[2].partition(". A test")[0]
    named = [word.strip("`") for word in text.replace("\n", " ").split(", ")]
    assert named == list(load_shipped().lists["anthropic"].models())
