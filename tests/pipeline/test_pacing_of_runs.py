"""Who goes when: scouts, pauses, and how far the reader may run ahead."""

import asyncio
import sqlite3
import threading
from contextlib import closing

import pytest

from batcher.pipeline.run.row_feed import Credit
from batcher.rows.build.requests import RequestBuilder
from tests.making_runs import (
    AT_ONCE,
    SETTINGS,
    FakeLane,
    FastClock,
    answered,
    endpoint_of,
    in_turn,
    prompt_of,
    refused,
    row,
    rows,
    simulating,
    unknown,
    until,
    unusable,
)


class Counting(RequestBuilder):
    """Knows how many rows were read."""

    count = 0

    def build(self, *args):
        self.count += 1
        return super().build(*args)


# --- The first row of a model


@pytest.mark.parametrize("first", [answered(), refused(429), refused(500), unknown()])
def test_the_first_row_of_a_model_goes_alone_until_the_server_has_spoken(case, first):
    case.write(rows(20))
    together: list[int] = []
    spoken: list[bool] = []

    async def script(attempt):
        together.append(lane.in_flight)
        for _ in range(20):
            await asyncio.sleep(0)
        if attempt.number == 1 and prompt_of(attempt) == "row 1":
            return first
        if spoken:
            await until(lambda: lane.peak == 8)
        spoken.append(True)
        return answered()

    lane = FakeLane(script)
    case.run(lane, FastClock(factor=1000))
    assert together[:2] == [1, 1] or together[0] == 1
    assert lane.prompts[0] == "row 1"
    assert lane.peak == 8


def test_each_model_has_a_first_row_of_its_own(case):
    case.write([row("a1"), row("b1", model="claude-haiku-4-5"), row("a2"), row("a3")])
    gate = asyncio.Event()

    async def script(attempt):
        if prompt_of(attempt) == "a1":
            await gate.wait()
        if prompt_of(attempt) == "b1":
            assert lane.prompts == ["a1", "b1"]
            gate.set()
        return answered()

    lane = FakeLane(script)
    assert case.run(lane).exit_code == 0
    assert lane.prompts[:2] == ["a1", "b1"]


def test_a_refused_first_row_lets_the_next_one_try(case):
    case.write(rows(20))
    lane = FakeLane(in_turn({"row 1": [refused(400)], "row 2": [refused(422)]}))
    ended = case.run(lane)
    assert (ended.exit_code, ended.progress.answered) == (65, 18)


@pytest.mark.parametrize("outcome", [refused(400), unusable()], ids=["refused", "unusable"])
def test_three_alike_at_the_beginning_stop_the_run(case, outcome):
    case.write(rows(200))
    lane = FakeLane(lambda _: outcome)
    ended = case.run(lane)
    assert (ended.exit_code, len(lane.sent), ended.rows_left) == (78, 3, True)
    assert "correct the job" in ended.error


def test_the_same_refusal_in_the_middle_of_a_run_stops_nothing(case):
    case.write(rows(40))
    lane = FakeLane(in_turn({f"row {n}": [refused(400)] for n in range(10, 30)}))
    ended = case.run(lane)
    assert (ended.exit_code, ended.progress.failed) == (65, 20)


def test_a_first_row_that_takes_too_long_holds_nobody_up_for_ever(case):
    case.write(rows(20))
    others = asyncio.Event()

    async def script(attempt):
        if prompt_of(attempt) == "row 1":
            await others.wait()  # answered only when all others are
        elif len(lane.sent) == 20:
            others.set()
        return answered()

    lane = FakeLane(script)
    assert case.run(lane, FastClock(factor=1000)).exit_code == 0
    assert len(case.texts()) == 20


# --- Memory


def test_the_reader_waits_while_the_first_row_is_awaited(case):
    case.write(rows(4000))
    builder = Counting(SETTINGS)
    seen: list[int] = []

    async def script(attempt):
        if prompt_of(attempt) == "row 1":
            await until(lambda: builder.count >= 512)
            for _ in range(100):
                await asyncio.sleep(0.001)
            seen.append(builder.count)
        return answered()

    assert case.run(FakeLane(script), builder=builder).exit_code == 0
    assert seen[0] < 2000


def test_bad_rows_do_not_pile_up_before_a_slow_database(case):
    case.write([row("good"), *(["{bad"] * 6000)])
    builder = Counting(SETTINGS)
    seen: list[int] = []

    async def script(attempt):
        with closing(sqlite3.connect(case.database, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(300):
                await asyncio.sleep(0.001)
            recorded = case.one("SELECT COUNT(*) FROM failures")
            seen.append(builder.count - recorded)
        return answered()

    ended = case.run(FakeLane(script), builder=builder)
    assert seen[0] < 2000
    assert (ended.progress.quarantined, ended.exit_code) == (6000, 65)


def test_a_reader_that_waits_can_be_stopped():
    credit = Credit(rows=1, body_bytes=10)
    assert credit.spend(1, 100)
    found: list[bool] = []
    reader = threading.Thread(target=lambda: found.append(credit.spend(1, 1)))
    reader.start()
    credit.stop()
    reader.join(30)
    assert found == [False]


def test_bodies_in_flight_are_bounded_by_bytes_too(case):
    case.write(rows(60, "row {} " + "x" * 2000))
    lane = FakeLane()
    assert case.limit(body_bytes=5_000).run(lane).exit_code == 0
    assert lane.peak <= 4
    assert len(case.texts()) == 60


def test_room_for_bodies_that_comes_back_is_used_again(case):
    case.write([row("first"), row("big " + "x" * 50_000), *rows(30)])
    together: list[int] = []

    async def script(attempt):
        for _ in range(50):
            await asyncio.sleep(0.001)
        together.append(lane.in_flight)
        return answered()

    lane = FakeLane(script)
    case.limit(body_bytes=40_000).run(lane)
    assert max(together[2:]) > 1


# --- Pauses


@pytest.mark.parametrize("chance", [0, 0.5, 0.99])
def test_a_429_pauses_everybody_until_the_moment_that_the_server_named(case, chance):
    case.write(rows(60))
    clock = FastClock(chance)
    sent: list[
        tuple[int, float]
    ] = []  # when it was opened, by the wall clock, and when it left
    told: list[tuple[int, float]] = []

    async def script(attempt):
        sent.append((attempt.opened_at, clock.monotonic()))
        if prompt_of(attempt) == "row 20" and not told:
            told.append((clock.now_us(), clock.monotonic()))
            return refused(429, headers={"retry-after": "20"})
        return answered()

    ended = case.run(FakeLane(script), clock)
    assert (ended.exit_code, ended.progress.pauses) == (0, 1)
    ((refused_at, began),) = told
    # those under way at that moment still leave; nobody else does
    later = [moment for opened_at, moment in sent if opened_at > refused_at]
    assert later
    assert min(later) >= began + 20


def test_after_a_pause_everybody_works_again(case):
    case.write(rows(300))
    clock = FastClock(0)

    async def script(attempt):
        if prompt_of(attempt) == "row 20" and attempt.number == 1:
            return refused(429, headers={"retry-after": "5"})
        if case.watcher.start.progress.pauses:
            await until(lambda: after or lane.in_flight == 8)
            after.append(lane.in_flight)
        return answered()

    after: list[int] = []
    lane = FakeLane(script)
    assert case.run(lane, clock).exit_code == 0
    assert max(after) == 8


def test_the_quota_of_a_real_server_is_kept_with_few_refusals(case):
    case.write(rows(30))
    with simulating(requests_per_minute=600, burst_seconds=1) as simulator:
        case.endpoint = endpoint_of(simulator)
        ended = case.limit(concurrency=20).run()
        refusals = simulator.stats.by_status[429]
    assert (ended.exit_code, ended.progress.answered) == (0, 30)
    assert ended.progress.pauses == refusals


def test_a_wait_of_one_row_does_not_hold_up_the_others(case):
    case.write(rows(50))
    clock = FastClock(0)

    def script(attempt):
        if prompt_of(attempt) == "row 5" and attempt.number == 1:
            return refused(529, headers={"retry-after": "600"})
        if len(lane.sent) == 50:  # all others have left
            clock.leap(600)
        return answered()

    lane = FakeLane(script)
    assert case.limit(retry=AT_ONCE).run(lane, clock).exit_code == 0
    assert lane.prompts[-1] == "row 5"
    assert len(lane.sent) == 51
