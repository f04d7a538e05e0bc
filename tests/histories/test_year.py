"""A simulated year of nights: every invariant holds, and nothing was done but what was told.

A failing one is played again by `BATCHER_YEAR=seed`.
"""

import os
import shutil

import pytest

from tests.e2e.campaign import Campaign
from tests.histories.test_histories import memory  # noqa: F401 - a fixture
from tests.histories.year import Year

SEED = int(os.environ.get("BATCHER_YEAR", "1"))
WEEK, YEAR = 7, 365


def play(seed, days, memory, template):  # noqa: F811
    folder = memory / f"year-{seed}"
    folder.mkdir()
    year = Year(seed, days, folder, template)
    try:
        year.play()
    except Exception as exc:
        exc.add_note(f"year {seed}, start {year.starts}: {dict(year.happened)}")
        raise
    finally:
        shutil.rmtree(folder)
    return year.happened


def test_a_week_of_nights_ends_with_every_invariant_held(memory, sqlite_template):  # noqa: F811
    happened = play(SEED, WEEK, memory, sqlite_template)
    assert happened["other model"] == happened["new key"] == happened["price change"] == 1


@pytest.mark.campaign
def test_a_year_of_nights_ends_with_every_invariant_held(
    memory,  # noqa: F811
    sqlite_template,
    pytestconfig,
):
    campaign = Campaign("year", pytestconfig)
    happened = play(SEED, YEAR, memory, sqlite_template)
    campaign.add(seed=SEED, happened=dict(happened))
    codes = ", ".join(f"{n:,} x {name}" for name, n in sorted(happened.items()))
    campaign.tell(f"365 nights: {codes}: no promise broken")
