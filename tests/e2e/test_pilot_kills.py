"""A run that begins with a pilot is killed in the pilot: both books agree, nothing is lost."""

from dataclasses import dataclass

import pytest

from tests.e2e.crashes import CrashingRun
from tests.e2e.inputs import varied_rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count

ROWS, PILOT = 120, 100


@dataclass(kw_only=True)
class PilotedRun(CrashingRun):
    """See `CrashingRun`; it sends a pilot first."""

    @property
    def command(self):
        return (*super().command, "--pilot", PILOT)


@pytest.mark.parametrize("billed", [1, 12, 25])
def test_a_kill_in_the_pilot_loses_nothing_and_pays_nothing_unseen(
    folder, simulate, empty_database_url, billed
):
    write_jsonl(folder.path / "rows.jsonl", varied_rows(ROWS))
    run = PilotedRun(
        folder=folder,
        simulator=simulate("--latency-ms", "60-100", "--seed", "5"),
        database=empty_database_url,
        inputs={"rows.jsonl": ROWS},
        concurrency=4,
    )
    assert run.kill_after(billed)
    assert not count(run.database, "v_attempts", "purpose NOT IN ('pilot', 'continuation')")
    ended = run.finish()
    books = check_everything(folder, run.database, run.simulator, run.inputs)
    assert ended.code == (65 if books.failures else 0), ended.err
    assert ended.json["recovered_attempts"] + run.opens[-1] <= 2 * run.concurrency
    pilots = count(run.database, "v_attempts", "purpose = 'pilot' AND state <> 'unknown'")
    assert pilots <= PILOT
