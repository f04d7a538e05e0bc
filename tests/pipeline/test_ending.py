"""How a run ends before its rows do: limits, signals, time."""

import asyncio
import os
import signal
import time
from pathlib import Path

import pytest

from batcher.errors import Busy
from batcher.rows.build.requests import RequestBuilder
from tests.making_runs import (
    SETTINGS,
    Case,
    FakeLane,
    FastClock,
    Watcher,
    answered,
    prompt_of,
    rows,
    until,
)


def strike(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


def test_a_limit_takes_so_many_new_rows_and_the_next_run_the_next_ones(on_both):
    on_both.write(rows(20))
    limited = on_both.limit(row_limit=8)
    counts = []
    for _ in range(4):
        lane = FakeLane()
        ended = limited.run(lane)
        counts.append((len(lane.sent), ended.exit_code))
    assert counts == [(8, 0), (8, 0), (4, 0), (0, 0)]
    assert len(on_both.texts()) == 20


def test_a_first_signal_lets_what_is_under_way_come_in_and_sends_nothing_more(on_both):
    on_both.write(rows(50))

    async def script(attempt):
        if prompt_of(attempt) == "row 10":
            strike(signal.SIGINT)
            await until(lambda: on_both.watcher.reasons)
        return answered()

    lane = FakeLane(script)
    ended = on_both.run(lane)
    assert (ended.exit_code, ended.rows_left) == (75, True)
    assert on_both.watcher.reasons == ["SIGINT received"]
    assert len(on_both.texts()) == len(lane.sent) < 50
    assert on_both.one("SELECT COUNT(*) FROM v_attempts WHERE state <> 'answered'") == 0
    assert on_both.run(FakeLane()).exit_code == 0


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)], ids=["SIGINT", "SIGTERM"]
)
def test_a_second_signal_cuts_off_and_what_is_cut_is_in_doubt(case, number, code):
    case.write(rows(50))

    async def script(attempt):
        if lane.in_flight == 8 and not case.watcher.reasons:
            strike(number)
            await until(lambda: case.watcher.reasons)
            strike(number)
        if len(lane.sent) > 1:
            await asyncio.Event().wait()
        return answered()

    lane = FakeLane(script)
    ended = case.limit(drain_timeout_seconds=2.0).run(lane)
    assert (ended.exit_code, ended.rows_left) == (code, True)
    cut = case.ask("SELECT state, error_type, cost_high_pico_usd > 0 FROM v_attempts"
                   " WHERE state <> 'answered'")  # fmt: skip
    assert cut == [("unknown", "aborted", 1)] * 8
    assert case.ask("SELECT exit_code, clean FROM invocations") == [(code, 1)]
    assert case.run(FakeLane()).exit_code == 0
    assert len(case.texts()) == 50


@pytest.mark.usefixtures("heeding_hang_ups")
def test_a_closed_terminal_only_drains_however_often_it_is_told(case):
    case.write(rows(20))

    async def script(attempt):
        if prompt_of(attempt) == "row 5":
            for _ in range(3):
                strike(signal.SIGHUP)
                await until(lambda: case.watcher.reasons)
                await asyncio.sleep(0.002)
        return answered()

    lane = FakeLane(script)
    assert case.run(lane).exit_code == 75
    assert len(case.texts()) == len(lane.sent)


@pytest.mark.usefixtures("heeding_hang_ups")
@pytest.mark.parametrize("first", [signal.SIGHUP, signal.SIGTERM])
def test_a_log_out_sends_both_and_cuts_nothing_off(case, first):
    """However they were sent, the kernel delivers the hang-up first to who was busy."""
    case.write(rows(20))

    async def script(attempt):
        if prompt_of(attempt) == "row 5":
            strike(first)
            strike(signal.SIGTERM)
            await until(lambda: case.watcher.reasons)
            await asyncio.sleep(0.002)
        return answered()

    lane = FakeLane(script)
    assert case.run(lane, FastClock(factor=1)).exit_code == 75
    assert len(case.texts()) == len(lane.sent)


def test_a_drain_that_takes_too_long_becomes_an_abort(case):
    case.write(rows(20))

    async def script(attempt):
        if prompt_of(attempt) == "row 5":
            await until(lambda: (len(lane.sent), lane.in_flight) == (20, 1))
            strike(signal.SIGTERM)
            await asyncio.Event().wait()
        return answered()

    lane = FakeLane(script)
    ended = case.limit(drain_timeout_seconds=20).run(lane, FastClock())
    assert ended.exit_code == 143
    assert case.one("SELECT COUNT(*) FROM v_attempts WHERE error_type = 'aborted'") == 1


def test_the_runs_time_is_up_and_it_says_so(case):
    case.write(rows(500))

    async def script(attempt):
        if len(lane.sent) > 10:
            await until(lambda: case.watcher.reasons)
        return answered()

    lane = FakeLane(script)
    ended = case.limit(max_runtime_seconds=5).run(lane, FastClock())
    assert (ended.exit_code, ended.rows_left) == (75, True)
    assert case.watcher.reasons == ["--max-runtime of 5 s is over"]
    assert ended.cause == (
        "--max-runtime of 5 s is over, rows are left; run the same command again"
    )
    assert len(case.texts()) == len(lane.sent)


class StillReading(RequestBuilder):
    """Has told nobody of any row when the run begins to end, and is slow."""

    watcher: Watcher

    def build(self, *args):
        while not self.watcher.reasons:
            time.sleep(0.001)
        time.sleep(0.04)
        return super().build(*args)


def test_rows_that_the_reader_had_not_told_of_yet_are_left_and_not_finished(case):
    case.write(rows(5))
    builder = StillReading(SETTINGS)
    builder.watcher = case.watcher
    ended = case.limit(max_runtime_seconds=1).run(FakeLane(), FastClock(), builder=builder)
    assert (ended.exit_code, ended.rows_left) == (75, True)
    assert case.run(FakeLane()).progress.answered == 5


def test_a_run_that_ends_in_time_does_not_mind_its_limit(case):
    case.write(rows(5))
    assert case.limit(max_runtime_seconds=1000).run(FakeLane()).exit_code == 0
    assert case.watcher.reasons == []


def test_a_second_run_of_the_same_ledger_is_refused_while_one_is_on(case):
    case.write(rows(3))
    refusals = []

    def script(attempt):
        with pytest.raises(Busy) as refused:
            case.run(FakeLane())
        refusals.append(str(refused.value))
        return answered()

    assert case.run(FakeLane(script)).exit_code == 0
    assert len(refusals) == 3
    assert str(os.getpid()) in refusals[0]


def test_an_empty_input_is_done_at_once(on_both):
    on_both.write([])
    ended = on_both.run(FakeLane())
    assert (ended.exit_code, ended.rows_left, ended.progress.finished_rows) == (0, False, 0)


def test_the_regular_checkpoint_never_disturbs_the_end(case):
    case.write(rows(400))

    async def script(attempt):
        await asyncio.sleep(0.001)
        return answered()

    ended = case.run(FakeLane(script), FastClock(factor=20_000))
    assert ended.exit_code == 0
    assert len(case.texts()) == 400


def test_a_run_whose_lifeboat_would_have_no_place_says_so_at_the_start(
    tmp_path, postgres_url, monkeypatch
):
    monkeypatch.chdir("/proc")  # where nobody can make a file, root neither
    case = Case(folder=tmp_path, database=postgres_url)
    case.write(rows(1))
    case.options["spare_folders"] = (Path("/proc/none"),)
    assert case.run(FakeLane()).exit_code == 0
    (note,) = case.watcher.start.notes
    assert note.startswith("warning: paid answers could be kept nowhere")
    case.options["spare_folders"] = (tmp_path / "made" / "when" / "needed",)
    assert case.run(FakeLane()).exit_code == 0
    assert not case.watcher.start.notes
