"""Random nights with a deadline: nothing is lost, paid twice untold, or late without need.

Each seed is a night; a failing one is played again by `BATCHER_NIGHT=seed`.
"""

import os
import shutil
from collections import Counter

import pytest

from tests.e2e.campaign import Campaign
from tests.histories.nights import Night
from tests.histories.test_histories import memory  # noqa: F401 - a fixture

DEFAULT = 20
AT_ONCE = 20
CAMPAIGN = 2_000
FIRST_OF_CAMPAIGN = 1_000_000


def play(seed, folder, template) -> Counter[str]:
    """One night in a folder of its own; what happened in it."""
    folder = folder / str(seed)
    folder.mkdir()
    night = Night(seed, folder, template)
    try:
        night.play()
    except BaseException as exc:
        exc.add_note(f"night {seed}, life {night.lives}: {dict(night.happened)}")
        raise
    finally:
        shutil.rmtree(folder)
    return night.happened


ONE = [int(os.environ["BATCHER_NIGHT"])] if "BATCHER_NIGHT" in os.environ else None


@pytest.mark.parametrize("first", ONE or range(0, DEFAULT, 5))
def test_nights_keep_every_promise(memory, sqlite_template, first):  # noqa: F811
    for seed in range(first, first + (1 if ONE else 5)):
        play(seed, memory, sqlite_template)


@pytest.mark.campaign
def test_a_campaign_of_nights_keeps_every_promise(memory, sqlite_template, pytestconfig):  # noqa: F811
    campaign = Campaign("nights", pytestconfig)
    while (done := sum(r["nights"] for r in campaign.results())) < CAMPAIGN:
        if not campaign.has_time():
            break
        happened: Counter[str] = Counter()
        first = FIRST_OF_CAMPAIGN + done
        for seed in range(first, first + AT_ONCE):
            happened += play(seed, memory, sqlite_template)
        campaign.add(first=first, nights=AT_ONCE, happened=dict(happened))
    total: Counter[str] = Counter()
    for result in campaign.results():
        total.update(result["happened"])
    crashes = sum(count for name, count in total.items() if name.startswith("crash at"))
    campaign.tell(
        f"{done:,} of {CAMPAIGN:,} nights, {total['lives']:,} runs, {crashes:,} crashes,"
        f" {total['moved']:,} moves, {total['deadline missed']:,} deadlines missed and told:"
        " no promise broken"
    )
