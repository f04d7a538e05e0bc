"""What outcomes say about the server: overload, pauses, outages."""

import asyncio

import pytest

from batcher.clock import SystemClock
from batcher.messages.answer import parse_answer
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import Outcome, Partial, Rejected, Request
from batcher.pacing.backoff import Breaker, BreakerPolicy
from batcher.pacing.limits import Expected, QuotaLimits
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.pace import Health, Pace
from batcher.pipeline.engine.work import Work
from tests.making_runs import (
    MODEL,
    FakeLane,
    FastClock,
    answered,
    exchange,
    message,
    not_sent,
    prompt_of,
    refused,
    rows,
    unknown,
)


def inside_a_200(verdict: Verdict) -> Rejected:
    """An error that comes as the first event of a stream."""
    return Rejected(exchange(200), Failure(verdict=verdict, error_type="error", message="no"))


def broken_off(verdict: Verdict, retry_after: float | None = None) -> Partial:
    """An error in the middle of a stream."""
    failure = Failure(
        verdict=verdict, error_type="error", message="no", retry_after_seconds=retry_after
    )
    return Partial(exchange(200), failure, parse_answer(message()))


def some_work() -> Work:
    request = Request(
        source_id=1, row_number=1, byte_offset=None, custom_id=None, model=MODEL,
        max_tokens=10, body=b"{}", params_hash=b"",
    )  # fmt: skip
    return Work(request=request)


def paced(outcome: Outcome, times: int) -> Pacer:
    """A pacer that was told of so many such outcomes."""
    clock = SystemClock()
    pacer = Pacer(QuotaLimits(requests=10**9), 100, clock.monotonic())
    pace = Pace(pacer, clock)
    for _ in range(times):
        work = some_work()
        work.reservation = pacer.sent(MODEL, Expected(0.0, 0.0), clock.monotonic())
        pace.end(work, outcome)
    return pacer


@pytest.mark.parametrize(
    "outcome",
    [
        refused(529),
        refused(500),
        unknown(),
        inside_a_200(Verdict.OVERLOADED),
        broken_off(Verdict.OVERLOADED),
        broken_off(Verdict.RETRY_ROW),
    ],
    ids=["529", "500", "lost", "overloaded in a 200", "overloaded mid-stream", "cut stream"],
)
def test_whatever_form_overload_has_it_lowers_the_concurrency(outcome):
    assert paced(outcome, 40).concurrency.is_cut


@pytest.mark.parametrize("outcome", [answered(), refused(400), refused(429)])
def test_what_is_no_overload_leaves_the_concurrency_alone(outcome):
    assert not paced(outcome, 40).concurrency.is_cut


def test_a_refusal_in_the_middle_of_a_stream_pauses_the_quota_too():
    pacer = paced(broken_off(Verdict.PAUSE_QUOTA, retry_after=60), 1)
    assert pacer.pauses == 1
    assert pacer.may_send(MODEL, Expected(0, 0), SystemClock().monotonic()) > 50


def test_overload_inside_a_200_is_an_outage_when_nothing_else_comes():
    health = Health(Breaker(BreakerPolicy(trips_after=3)), SystemClock(), "local")
    changes = [health.observe(inside_a_200(Verdict.OVERLOADED), some_work()) for _ in range(3)]
    assert changes[-1].outage == (
        "endpoint local does not answer (error: no): one row at a time tries, for 60 s at most"
    )


def test_people_are_told_of_an_outage_while_it_lasts(case):
    case.write(rows(30))
    told: list[str] = []

    async def script(attempt):
        await asyncio.sleep(0)
        told.append(case.watcher.start.progress.outage)
        away = prompt_of(attempt) == "row 1" and attempt.number < 4
        return not_sent() if away else answered()

    patient = case.limit(breaker=BreakerPolicy(first_contact_seconds=3600))
    ended = patient.run(FakeLane(script), FastClock())
    assert "endpoint simulator does not answer (unreachable: gone)" in told[1]
    assert ended.progress.answered == 30
    assert (told[-1], ended.progress.outage) == ("", "")
