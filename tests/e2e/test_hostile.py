"""Ledgers in hostile surroundings: whatever is done around them, no row is paid twice.

`BATCHER_HOSTILE=17` plays one history again, on both databases.
"""

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest

from tests.databases import BOTH
from tests.e2e.campaign import FOLDER, Campaign
from tests.e2e.hostile import STEPS, HostileHistory
from tests.e2e.inputs import QUICK
from tests.e2e.processes import Folder, start_simulator

FEW = 2  # of each database, in the suite
OF_A_ROUND = 20
CAMPAIGN_HISTORIES = int(os.environ.get("BATCHER_CAMPAIGN_HISTORIES", "2000"))
ONE = [int(os.environ["BATCHER_HOSTILE"])] if "BATCHER_HOSTILE" in os.environ else None


def play(request, kind: str, place: Path, seeds, length: int = STEPS) -> Counter[str]:
    """Histories one after the other, with one bill; what happened in them."""
    place.mkdir(parents=True)
    simulator = start_simulator(place, "--latency-ms", "5-30")
    happened: Counter[str] = Counter()
    try:
        for seed in seeds:
            happened += _one(request, kind, place / str(seed), simulator, seed, length)
    finally:
        simulator.stop()
    shutil.rmtree(place)  # what failed is left behind
    return happened


def _one(request, kind, place, simulator, seed, length) -> Counter[str]:
    place.mkdir()
    (place / "config.toml").write_text(QUICK)
    folder = Folder(place, forks=True)
    server = None if kind == "sqlite" else request.getfixturevalue("postgres_server")
    database = server.new_database() if server else str(place / "batcher.db")
    history = HostileHistory(
        seed=seed,
        folder=folder,
        simulator=simulator,
        database=database,
        server=server,
        length=length,
    )
    try:
        history.play()
    except Exception as exc:
        exc.add_note(f"history {seed} on {kind}, in {place}: {', '.join(history.steps)}")
        raise
    finally:
        folder.clean_up()
    if server:
        server.drop(history.database)
    return history.happened


@pytest.mark.parametrize("kind", BOTH)
def test_hostile_surroundings_make_nobody_pay_twice(request, kind, tmp_path):
    if ONE:
        assert play(request, kind, tmp_path / kind, ONE)
    else:
        assert play(request, kind, tmp_path / kind, range(1, FEW + 1), length=3)


@pytest.mark.campaign
@pytest.mark.parametrize("kind", BOTH)
def test_a_campaign_of_hostile_histories_pays_nothing_twice(request, kind, pytestconfig):
    campaign = Campaign(f"hostile-{kind}", pytestconfig)
    done = [result["histories"] for result in campaign.results()]
    happened = Counter[str]()
    for result in campaign.results():
        happened.update(result["happened"])
    while campaign.has_time() and sum(done) < CAMPAIGN_HISTORIES / len(BOTH):
        first, place = 1000 + OF_A_ROUND * len(done), FOLDER / f"hostile-{kind}-{len(done):04}"
        shutil.rmtree(place, ignore_errors=True)
        new = play(request, kind, place, range(first, first + OF_A_ROUND))
        done.append(OF_A_ROUND)
        campaign.add(round=len(done), histories=OF_A_ROUND, happened=dict(new))
        happened += new
    steps = ", ".join(f"{name} {count}" for name, count in happened.most_common())
    campaign.tell(f"{sum(done)} histories, no violation; {steps}")
