"""Faults of the process: what was in flight is in doubt, everything else goes on."""

import asyncio

import pytest

from tests.faults.processes import CUTS, ROWS, SIGNALS, strike
from tests.making_runs import Case, FakeLane, FastClock, answered, photograph, prompt_of, rows


@pytest.fixture
def case(tmp_path, sqlite_url):
    case = Case(folder=tmp_path, database=sqlite_url).limit(concurrency=1)
    case.write(rows(ROWS))
    return case


@pytest.mark.parametrize("cut", CUTS, ids=lambda cut: cut.id)
def test_a_process_that_is_gone_leaves_a_doubt_and_loses_nothing(case, cut):
    at, waiting = f"row {cut.at}", [made() for made in cut.before]
    copy = case.folder / "killed.db"

    def script(attempt):
        if prompt_of(attempt) != at or copy.exists():
            return answered()
        if waiting:
            return waiting.pop(0)
        photograph(case.database, copy)
        return answered("never recorded")

    lane = FakeLane(script)
    case.run(lane, FastClock())
    case.database = str(copy)
    again = FakeLane()
    ended = case.run(again, FastClock())
    assert ended.exit_code == (0 if cut.end == "answered" else 65)
    states = case.ask(
        "SELECT state, cost_low_pico_usd = 0 AND cost_high_pico_usd > 0, error_type"
        " FROM v_attempts WHERE row_number = :n ORDER BY attempt_uid",
        n=cut.at,
    )
    assert states[len(cut.before)] == (cut.expected, 1, "process_died")
    assert len(states) == len(cut.before) + 1 + (cut.end == "answered")
    assert again.prompts.count(at) == (cut.end == "answered")
    before = [f"row {n}" for n in range(1, cut.at)]
    assert not set(before) & set(again.prompts)  # what was recorded is not paid again
    case.release()
    assert case.run(FakeLane(), FastClock()).exit_code == 0
    assert [number for number, _ in case.texts()] == list(range(1, ROWS + 1))
    assert "never recorded" not in dict(case.texts()).values()


@pytest.mark.usefixtures("heeding_hang_ups")
@pytest.mark.parametrize("told", SIGNALS, ids=lambda told: told.id)
def test_a_process_that_is_told_to_end(case, told):
    case = case.limit(concurrency=ROWS)
    struck = []

    async def script(attempt):
        if lane.in_flight == ROWS - 1 and not struck:
            struck.append(True)
            await strike(case, told.numbers)
        if len(lane.sent) > 1 and told.expected == "unknown":
            await asyncio.Event().wait()
        return answered()

    lane = FakeLane(script)
    # Two SIGTERMs at once are one, and what does not answer ends with the drain.
    assert case.limit(drain_timeout_seconds=2.0).run(lane).exit_code == told.exit
    found = [state for (state,) in case.ask("SELECT DISTINCT state FROM v_attempts ORDER BY 1")]
    assert told.expected in found
    assert set(found) <= {told.expected, "answered"}
    assert case.run(FakeLane()).exit_code == 0
    assert [number for number, _ in case.texts()] == list(range(1, ROWS + 1))
