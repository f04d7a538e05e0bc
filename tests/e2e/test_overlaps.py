"""The same command started twice at the same instant, again and again, on both databases.

Of every two, one does the work; in some overlaps a process is killed on the way. The campaign
does it as often as wanted, in rounds; an interrupted one goes on where it stopped, see
docs/development/testing.md.
"""

import os
import random
import shutil
from itertools import pairwise
from pathlib import Path

import pytest

from tests.databases import BOTH
from tests.e2e.campaign import FOLDER, Campaign
from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import read
from tests.e2e.processes import Folder, kill, start_simulator, wait_until

ROWS = 30
OVERLAPS_OF_A_ROUND = 10
CAMPAIGN_OVERLAPS = int(os.environ.get("BATCHER_CAMPAIGN_OVERLAPS", "200"))
# When the owner sent its attempts: from the first intent to the last outcome of its own.
SPANS = """
    SELECT i.run_id, i.invocation_id, MIN(a.opened_at) AS first,
           MAX(COALESCE(a.settled_at, a.opened_at)) AS last
    FROM attempts a JOIN invocations i ON i.invocation_id = a.invocation_id
    WHERE a.error_type IS NULL OR a.error_type <> 'process_died'
    GROUP BY i.run_id, i.invocation_id ORDER BY 1, 3
"""


class Overlaps:
    """Overlapping runs in one folder and one database, each over an input of its own."""

    def __init__(self, folder, simulator, database, seed):
        self.folder, self.simulator, self.database = folder, simulator, database
        self.chance = random.Random(seed)
        self.inputs = {}

    def overlap(self) -> None:
        """Start two at once, kill one of them or none, and let a third finish what is left."""
        name = f"rows-{len(self.inputs):03}.jsonl"
        write_jsonl(self.folder.path / name, rows(ROWS, first=ROWS * len(self.inputs)))
        self.inputs[name] = ROWS
        where = ("--endpoint", "simulator", "--base-url", self.simulator.url)
        command = ("run", name, *where, "--database", self.database, "--concurrency", 8)
        victim = self.chance.choice([0, 1, None, None])
        both = [self.folder.start(*command), self.folder.start(*command)]
        if victim is not None:
            wanted = self.simulator.billed() + self.chance.randint(0, ROWS)
            if wait_until(lambda: self.simulator.billed() >= wanted, both[victim]):
                kill(both[victim])
        codes = [process.wait() for process in both]
        if victim is None:
            assert sorted(codes) in [[0, 75], [0, 0]], codes  # 0 twice: one after the other
        else:
            assert codes[1 - victim] in {0, 75}, codes
        last = self.folder.batcher(*command, "--if-running", "wait")
        assert last.code == 0, last.err

    def check(self) -> None:
        """Both books agree, and no two owners of a run were at work at the same time."""
        check_everything(self.folder, self.database, self.simulator, self.inputs)
        for one, next_one in pairwise(read(self.database, SPANS)):
            if one["run_id"] == next_one["run_id"]:
                assert one["last"] <= next_one["first"]


def test_two_runs_that_start_together_are_one(folder, simulate, empty_database_url):
    simulator = simulate("--latency-ms", "5-40")
    overlaps = Overlaps(folder, simulator, empty_database_url, seed=1)
    for _ in range(3):
        overlaps.overlap()
    overlaps.check()


@pytest.mark.campaign
@pytest.mark.parametrize("kind", BOTH)
def test_a_campaign_of_overlaps_has_one_owner_at_a_time(request, kind, pytestconfig):
    campaign = Campaign(f"overlaps-{kind}", pytestconfig)
    overlaps = [result["overlaps"] for result in campaign.results()]
    while campaign.has_time() and sum(overlaps) < CAMPAIGN_OVERLAPS / len(BOTH):
        number = len(overlaps) + 1
        _round(request, kind, FOLDER / f"overlaps-{kind}-{number:04}", number)
        overlaps.append(OVERLAPS_OF_A_ROUND)
        campaign.add(round=number, overlaps=OVERLAPS_OF_A_ROUND)
    campaign.tell(f"{sum(overlaps)} overlaps in {len(overlaps)} rounds, one owner at a time")


def _round(request, kind: str, place: Path, number: int) -> None:
    """One round in a folder of its own, which stays; what an interrupted one left is redone."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    (place / "config.toml").write_text(QUICK)
    database = str(place / "batcher.db")
    if kind != "sqlite":
        database = request.getfixturevalue("postgres_server").new_database()
    simulator = start_simulator(place, "--seed", str(number), "--latency-ms", "5-40")
    overlaps = Overlaps(Folder(place), simulator, database, seed=number)
    try:
        for _ in range(OVERLAPS_OF_A_ROUND):
            overlaps.overlap()
        overlaps.check()
    finally:
        overlaps.folder.clean_up()
        simulator.stop()
