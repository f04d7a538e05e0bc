"""Many kills in a row, at points drawn from a seed, on both databases.

The campaign does the same as often as wanted, in rounds; an interrupted one goes on where it
stopped, see docs/development/testing.md.
"""

import os
import random
import shutil
from pathlib import Path

import pytest

from tests.databases import BOTH
from tests.e2e.campaign import FOLDER, Campaign
from tests.e2e.crashes import CrashingRun, fault_options
from tests.e2e.inputs import QUICK, row, varied_rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.processes import Folder, start_simulator

ROWS = 700
CAMPAIGN_ROWS = 1000
KILLS_OF_A_ROUND = 20
CAMPAIGN_KILLS = int(os.environ.get("BATCHER_CAMPAIGN_KILLS", "1000"))


def crash_and_finish(run: CrashingRun, kills: int, seed: int) -> int:
    """Kill the run up to `kills` times, then let it end and check everything; the kills."""
    rows = varied_rows(run.inputs["rows.jsonl"], seed=seed)
    write_jsonl(run.folder.path / "rows.jsonl", rows)
    chance = random.Random(seed)
    hit = 0
    while hit < kills and run.kill_somewhere(chance):
        hit += 1
    ended = run.finish()
    books = check_everything(run.folder, run.database, run.simulator, run.inputs)
    assert ended.code == (65 if books.failures else 0), ended.err
    return hit


def test_ten_kills_in_a_row_lose_nothing(folder, simulate, empty_database_url):
    run = CrashingRun(
        folder=folder,
        simulator=simulate("--latency-ms", "10-150", "--seed", "3", *fault_options()),
        database=empty_database_url,
        inputs={"rows.jsonl": ROWS},
        concurrency=24,
    )
    assert crash_and_finish(run, kills=10, seed=3) == 10


def test_a_file_that_grows_and_is_shuffled_between_kills_is_paid_once(folder, simulate):
    chance, items = random.Random(5), [row(number) for number in range(200)]
    run = CrashingRun(
        folder=folder,
        simulator=simulate("--latency-ms", "1-20"),
        database=str(folder.path / "batcher.db"),
        inputs={"rows.jsonl": 400},
        concurrency=16,
    )
    for first in range(200, 400, 50):
        write_jsonl(folder.path / "rows.jsonl", items)
        run.kill_somewhere(chance)
        items += [row(number) for number in range(first, first + 50)]
        chance.shuffle(items)
    write_jsonl(folder.path / "rows.jsonl", items)
    assert run.finish().code == 0
    check_everything(folder, run.database, run.simulator, run.inputs)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", BOTH)
def test_a_campaign_of_kills_loses_nothing(request, kind, pytestconfig):
    campaign = Campaign(f"kills-{kind}", pytestconfig)
    kills = [result["kills"] for result in campaign.results()]
    while campaign.has_time() and sum(kills) < CAMPAIGN_KILLS:
        number = len(kills) + 1
        kills.append(_round(request, kind, FOLDER / f"{kind}-{number:04}", number))
        campaign.add(round=number, kills=kills[-1])
    campaign.tell(f"{sum(kills)} kills in {len(kills)} rounds, no violation")


def _round(request, kind: str, place: Path, number: int) -> int:
    """One round in a folder of its own, which stays; what an interrupted one left is redone."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "config.toml").write_text(QUICK)
    database = str(place / "batcher.db")
    if kind != "sqlite":
        database = request.getfixturevalue("postgres_server").new_database()
    seed = ("--seed", str(number), "--latency-ms", "10-150")
    simulator = start_simulator(place, *seed, *fault_options())
    run = CrashingRun(
        folder=Folder(place),
        simulator=simulator,
        database=database,
        inputs={"rows.jsonl": CAMPAIGN_ROWS},
        concurrency=24,
    )
    try:
        return crash_and_finish(run, KILLS_OF_A_ROUND, seed=number)
    finally:
        run.folder.clean_up()
        simulator.stop()
