"""Servers that ask for long waits: people hear until when, and no time is spent in vain."""

import pytest

from batcher.messages.failure import retry_after_seconds
from tests.making_runs import FakeLane, FastClock, answered, refused, rows

MONTH = {"retry-after": "500000"}


def test_a_wait_of_days_costs_one_request_and_is_said_with_its_moment(case):
    case.write(rows(20))

    async def patient(attempt):
        return refused(429, headers=MONTH) if attempt is lane.sent[0] else answered()

    lane = FakeLane(patient)
    ended = case.limit(max_runtime_seconds=10**6).run(lane, FastClock(factor=10**6))
    assert ended.exit_code == 0
    (said,) = [words for words in case.watcher.waits if "asks to wait until" in words]
    assert said.endswith("(error_429: no: 429)")
    assert "UTC" in said
    assert len(lane.sent) == 21


def test_a_wait_beyond_the_runtime_ends_the_run_at_once(case):
    case.write(rows(20))
    lane = FakeLane(lambda _: refused(429, headers=MONTH))
    clock = FastClock()
    ended = case.limit(max_runtime_seconds=3600).run(lane, clock)
    assert (ended.exit_code, ended.rows_left, len(lane.sent)) == (75, True, 1)
    assert "asks to wait until" in ended.error
    assert "beyond --max-runtime" in ended.error
    assert clock.monotonic() < 3600


def test_a_short_wait_is_not_worth_a_word(case):
    case.write(rows(3))
    lane = FakeLane(
        lambda a: refused(429, headers={"retry-after": "5"}) if a.number == 1 else answered()
    )
    assert case.run(lane, FastClock()).exit_code == 0
    assert case.watcher.waits == []


@pytest.mark.parametrize(
    "code", ["enforced_spend_limit_reached", "contract_spend_limit_reached"]
)
def test_a_monthly_limit_stops_the_run_by_its_code(case, code):
    case.write(rows(20))
    lane = FakeLane(lambda _: refused(429, code))
    ended = case.run(lane, FastClock())
    assert (ended.exit_code, len(lane.sent)) == (77, 1)


@pytest.mark.parametrize("days", [1, 49, 115])
def test_milliseconds_may_be_as_long_as_seconds(days):
    seconds = days * 86_400
    assert retry_after_seconds({"retry-after-ms": str(seconds * 1000)}, 0) == seconds
    assert retry_after_seconds({"retry-after": str(seconds)}, 0) == seconds


def test_longer_waits_are_meant_by_nobody_in_either_unit():
    assert retry_after_seconds({"retry-after": "1e7"}, 0) is None
    assert retry_after_seconds({"retry-after-ms": "1e10"}, 0) is None
