"""Servers that break while they answer, and may bill: what breaks, when, and how often."""

from collections.abc import Callable

import pytest

from batcher.messages.answer import parse_answer
from batcher.messages.attempt import Attempt, Outcome, Partial
from batcher.messages.failure import Failure, Verdict
from batcher.pacing.breaker import BreakerPolicy
from batcher.pipeline.engine.decide import in_doubt
from batcher.pipeline.engine.pace import MOST_PAID_PROBES
from tests.making_runs import (
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
    unusable,
)

CONCURRENCY = 8
ROWS = 300
SECONDS = 0.1  # of an attempt
WINDOW_SECONDS = 15


def broken_stream() -> Partial:
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type="broken_stream", message="cut")
    return Partial(exchange(200), failure, parse_answer(message()))


BREAKS: dict[str, Callable[[], Outcome]] = {
    "stream breaks off": broken_stream,
    "page with status 200": unusable,
    "empty with status 200": lambda: unusable(b""),
    "connection lost": unknown,
    "never connected": not_sent,
    "500": lambda: refused(500),
    "503": lambda: refused(503),
    "529": lambda: refused(529),
}
EACH = pytest.mark.parametrize("kind", BREAKS)


class Server(FakeLane):
    """Breaks as often as `breaks(attempt, seconds since the first attempt)` says."""

    def __init__(self, kind: str, clock: FastClock, breaks: Callable[[Attempt, float], bool]):
        super().__init__(self._answer)
        self._kind = kind
        self._clock = clock
        self._breaks = breaks
        self._began: float | None = None
        self.in_doubt: list[Attempt] = []

    async def _answer(self, attempt: Attempt) -> Outcome:
        now = self._clock.monotonic()
        self._began = now if self._began is None else self._began
        broken = self._breaks(attempt, now - self._began)
        await self._clock.sleep(SECONDS)
        outcome = BREAKS[self._kind]() if broken else answered()
        if broken and in_doubt(outcome):
            self.in_doubt.append(attempt)
        return outcome


def ran(case, kind: str, breaks: Callable[[Attempt, float], bool]):
    case.write(rows(ROWS))
    clock = FastClock()
    server = Server(kind, clock, breaks)
    patient = BreakerPolicy(first_contact_seconds=150, give_up_seconds=150)
    limited = case.limit(concurrency=CONCURRENCY, breaker=patient)
    return limited.run(server, clock), server


@EACH
def test_a_server_that_always_breaks_ends_the_run_before_it_is_dear(case, kind):
    ended, server = ran(case, kind, lambda attempt, seconds: True)
    assert ended.exit_code in {69, 78}, ended.error
    assert len(server.in_doubt) <= 1 + MOST_PAID_PROBES
    assert ended.progress.held == ended.progress.failed == 0
    if server.in_doubt:
        assert len(server.in_doubt) > 1
        assert "does not answer" in ended.error or "refused the first" in ended.error


@EACH
def test_a_server_that_breaks_from_some_moment_on_ends_the_run_too(case, kind):
    ended, server = ran(case, kind, lambda attempt, seconds: seconds > 1)
    assert ended.exit_code == 69, ended.error
    assert len(server.in_doubt) <= 2 * CONCURRENCY + 10 + MOST_PAID_PROBES
    assert ended.progress.held == 0
    again = case.run(FakeLane(), FastClock())  # rows that were in doubt three times and more
    assert (again.exit_code, again.unfinished_rows) == (0, {})


@EACH
def test_a_window_of_outage_costs_no_row_and_few_attempts(case, kind):
    ended, server = ran(case, kind, lambda attempt, seconds: 1 < seconds < WINDOW_SECONDS)
    assert ended.exit_code == 0, ended.error
    assert ended.progress.answered == ROWS
    assert len(server.in_doubt) <= 2 * CONCURRENCY + 10


@EACH
def test_a_server_that_breaks_every_second_time_answers_every_row(case, kind):
    ended, server = ran(case, kind, lambda attempt, seconds: attempt.number % 2 == 1)
    assert ended.exit_code == 0, ended.error
    assert ended.progress.answered == ROWS
    assert len(server.in_doubt) <= ROWS + CONCURRENCY


def test_another_row_tries_each_time(case):
    ended, server = ran(case, "stream breaks off", lambda attempt, seconds: seconds > 1)
    assert ended.exit_code == 69
    probes = [prompt_of(attempt) for attempt in server.in_doubt[-MOST_PAID_PROBES:]]
    assert len(set(probes)) == MOST_PAID_PROBES


def test_a_row_that_breaks_alone_is_held_and_the_others_go_on(case):
    def breaks(attempt: Attempt, seconds: float) -> bool:
        return prompt_of(attempt) == "row 7"

    ended, server = ran(case, "stream breaks off", breaks)
    assert ended.exit_code == 65
    assert (ended.progress.answered, ended.progress.held) == (ROWS - 1, 1)
    assert len(server.in_doubt) == 3


def test_a_last_row_that_breaks_alone_is_held_too(case):
    def breaks(attempt: Attempt, seconds: float) -> bool:
        return prompt_of(attempt) == f"row {ROWS}"

    ended, server = ran(case, "stream breaks off", breaks)
    assert ended.progress.held == 1
    assert len(server.in_doubt) == 3
