"""Servers that break, and may bill: what breaks, when, and how often, plain and streamed.

What breaks is said in bytes by the table of faults. The live lane reads them once, and runs on
the virtual clock meet what it made of them.
"""

import asyncio
import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from batcher.clock import Clock
from batcher.messages.failure import Verdict
from batcher.messages.request import Attempt, Outcome
from batcher.pacing.backoff import BreakerPolicy
from batcher.pipeline.engine.decide import failure_of, in_doubt
from tests.faults.kinds import Bytes, WireFault
from tests.faults.serving import faulty, serving
from tests.faults.table import ON_THE_WIRE
from tests.histories.clock import VirtualClock
from tests.making_runs import (
    FakeLane,
    FastClock,
    answered,
    not_sent,
    prompt_of,
    row,
    rows,
    unknown,
)
from tests.transport.servers import send

CONCURRENCY = 8
ROWS = 100
SECONDS = 0.1  # of an attempt
WINDOW_SECONDS = 15
MOST_PAID_PROBES = 8

NEVER_CONNECTED = "never connected"
PLAIN = (
    "FIN without an answer", "silence", "400 again", "404 file_expired", "401 again",
    "429 HTML", "500 HTML, never again", "503 detail", "503 never again", "529 HTML",
    "body a page", "200 api_error", "200 overloaded_error", "200 rate_limit_error",
    "200 invalid_request_error",
)  # fmt: skip
STREAMED = (
    "FIN before any event", "RST before any event", "silence after text", "FIN after text",
    "error after text", "begun, then rate_limit_error", "begun, then invalid_request_error",
    "begun, then not_found_error", "first event api_error", "first event rate_limit_error",
)  # fmt: skip
KINDS = (NEVER_CONNECTED, *PLAIN, *(f"stream {name}" for name in STREAMED))
SLOW = {"silence": 20.0, "stream silence after text": 20.0}


@dataclass(frozen=True, slots=True)
class Bound:
    """What a cell of the matrix may come to.

    `paid`: attempts that may be billed and brought no answer; `lost`: rows that it may leave
    without an answer when the run ends by itself; `exits`: how it may end.
    """

    paid: int
    exits: frozenset[int]
    lost: int = 0


def ends(paid: int, *exits: int, lost: int = 0) -> Bound:
    return Bound(paid, frozenset(exits), lost)


# All in flight, what opens the breaker, and who asks until the window is over.
WINDOW = 2 * CONCURRENCY
# What was under way, and the paid probes.
FOR_GOOD = WINDOW + MOST_PAID_PROBES
# When it breaks: by the seconds since the first attempt, and by how many came before.
PATTERNS: dict[str, Callable[[float, int], bool]] = {
    "always": lambda seconds, before: True,
    "from a moment on": lambda seconds, before: seconds > 0.3,
    "window": lambda seconds, before: 0.3 < seconds < WINDOW_SECONDS,
    "every second": lambda seconds, before: before % 2 == 1,
}
# By whose fault a row has no answer: the row's, the run's, the quota's, the server's.
BOUNDS = {
    # It is the row that cannot be answered: one attempt each, the first three stop the run.
    ("row", "always"): ends(3, 78, lost=3),
    ("row", "from a moment on"): ends(ROWS, 65, lost=ROWS),
    ("row", "window"): ends(ROWS, 65, lost=ROWS),
    ("row", "every second"): ends(ROWS // 2 + 1, 65, lost=ROWS // 2 + 1),
    # Said of the row, by a server that may have billed it: it is the server's as well.
    ("both", "always"): ends(MOST_PAID_PROBES, 69, 78, lost=3),
    ("both", "from a moment on"): ends(FOR_GOOD, 69, lost=FOR_GOOD),
    ("both", "window"): ends(WINDOW, 65, lost=WINDOW),
    ("both", "every second"): ends(ROWS // 2 + 1, 65, lost=ROWS // 2 + 1),
    ("run", "always"): ends(1, 77, 78),
    ("run", "from a moment on"): ends(CONCURRENCY, 77, 78),
    ("run", "window"): ends(CONCURRENCY, 77, 78),
    ("run", "every second"): ends(CONCURRENCY, 77, 78),
    # Nobody knows when there is quota again: the run waits as long as it may.
    ("quota", "always"): ends(0, 75),
    ("quota", "from a moment on"): ends(0, 75),
    ("quota", "window"): ends(0, 0),
    ("quota", "every second"): ends(0, 0, 75),
    ("server", "always"): ends(MOST_PAID_PROBES + 1, 69, 78),  # refusals have two minutes
    ("server", "from a moment on"): ends(FOR_GOOD, 69),
    ("server", "window"): ends(WINDOW, 0),
    # A row that breaks three times (five, where nobody is in doubt) while others are answered.
    # Where it is the quota that is said to be used up, half of it is waited for.
    ("server", "every second"): ends(ROWS + CONCURRENCY, 0, 65, 75, lost=ROWS // 4),
}


def culprit(outcome: Outcome, *, billed: bool) -> str:
    verdict = failure_of(outcome).verdict
    if verdict.stops_run:
        return "run"
    if verdict is Verdict.FAIL_ROW:
        failed = (outcome.exchange.http_status or 0) >= 500
        return "both" if in_doubt(outcome) or failed else "row"
    return "quota" if verdict is Verdict.PAUSE_QUOTA and not billed else "server"


@pytest.fixture(scope="module")
def read_by_the_lane() -> dict[str, Outcome]:
    """What the live lane makes of each kind of fault."""
    faults = [fault for fault in ON_THE_WIRE if fault.id in KINDS]
    answers = {number: _answer(fault) for number, fault in enumerate(faults)}
    with serving(answers) as server:
        outcomes = asyncio.run(_sent(server.url, faults))
    by_kind = {fault.id: outcome for fault, outcome in zip(faults, outcomes, strict=True)}
    return {NEVER_CONNECTED: not_sent(), **by_kind}


def _answer(fault: WireFault):
    assert isinstance(fault.cause, Bytes), fault.id
    return fault.cause.answer, None


async def _sent(url: str, faults: list[WireFault]) -> list[Outcome]:
    clock = FastClock()
    bodies = [json.dumps(row(faulty(n))["params"]).encode() for n in range(len(faults))]
    return await asyncio.gather(
        *(
            send(url, body, clock, **fault.endpoint)
            for body, fault in zip(bodies, faults, strict=True)
        )
    )


class Server(FakeLane):
    """Breaks as often as `breaks(seconds since the first attempt, attempts before)` says."""

    def __init__(
        self, outcome: Outcome, clock: Clock, breaks: Callable[[Attempt, float, int], bool]
    ) -> None:
        super().__init__(self._answer)
        self._outcome, self._clock, self._breaks = outcome, clock, breaks
        self._began: float | None = None
        self.slow = SECONDS
        self.broken: list[Attempt] = []

    async def _answer(self, attempt: Attempt) -> Outcome:
        now, before = self._clock.monotonic(), len(self.sent) - 1
        self._began = now if self._began is None else self._began
        if not self._breaks(attempt, now - self._began, before):
            await self._clock.sleep(SECONDS)
            return answered()
        self.broken.append(attempt)
        await self._clock.sleep(self.slow)
        return self._outcome


def ran(case, outcome: Outcome, breaks: Callable[[Attempt, float, int], bool], slow=SECONDS):
    case.write(rows(ROWS))
    clock = VirtualClock(random.Random(7))
    server = Server(outcome, clock, breaks)
    server.slow = slow
    patient = BreakerPolicy(first_contact_seconds=120, give_up_seconds=120)
    limited = case.limit(concurrency=CONCURRENCY, breaker=patient, max_runtime_seconds=600)
    return limited.run(server, clock), server


def paid_in_vain(case) -> int:
    return case.one(
        "SELECT COUNT(*) FROM v_attempts WHERE state <> 'answered' AND cost_high_pico_usd > 0"
    )


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("kind", KINDS)
def test_what_a_broken_server_costs_is_bounded(case, read_by_the_lane, kind, pattern):
    outcome, breaks = read_by_the_lane[kind], PATTERNS[pattern]
    billed = in_doubt(outcome) or case.endpoint.may_bill(outcome.exchange.http_status)
    bound = BOUNDS[culprit(outcome, billed=billed), pattern]
    slow = SLOW.get(kind, SECONDS)
    ended, _ = ran(case, outcome, lambda _, seconds, n: breaks(seconds, n), slow)
    assert ended.exit_code in bound.exits, ended.error
    paid, lost = paid_in_vain(case), ended.progress.failed + ended.progress.held
    assert paid <= bound.paid, (paid, lost)
    assert lost <= bound.lost, (paid, lost)
    assert (paid == 0) or billed
    if ended.exit_code in {0, 65}:
        assert ended.progress.answered == ROWS - lost
    if ended.exit_code == 69:
        assert "does not answer" in ended.error
    case.release()
    again = case.run(FakeLane(), FastClock())  # also rows that were in doubt three times
    assert (again.exit_code, again.unfinished_rows) == (0, {})


CUT = "stream FIN after text"


def test_another_row_tries_each_time(case, read_by_the_lane):
    ended, server = ran(case, read_by_the_lane[CUT], lambda _, seconds, n: seconds > 0.3)
    assert ended.exit_code == 69
    probes = [prompt_of(attempt) for attempt in server.broken[-MOST_PAID_PROBES:]]
    assert len(set(probes)) == MOST_PAID_PROBES


@pytest.mark.parametrize("alone", [7, ROWS], ids=["in the middle", "the last"])
def test_a_row_that_breaks_alone_is_held_and_the_others_go_on(case, read_by_the_lane, alone):
    def breaks(attempt: Attempt, seconds: float, before: int) -> bool:
        return prompt_of(attempt) == f"row {alone}"

    ended, server = ran(case, read_by_the_lane[CUT], breaks)
    assert ended.exit_code == 65
    assert (ended.progress.answered, ended.progress.held) == (ROWS - 1, 1)
    assert len(server.broken) == 3


@pytest.mark.parametrize(("others", "most"), [(40, 3), (0, MOST_PAID_PROBES)])
def test_a_row_that_breaks_is_held_however_often_the_process_begins_anew(case, others, most):
    """Each invocation is told to end when the row has broken once.

    While others show that the server is there it has its three tries; alone, it looks like an
    outage until it had them.
    """
    case.write(rows(others + 1))
    poison = f"row {min(others, 6) + 1}"
    tries = []

    async def answer(attempt: Attempt) -> Outcome:
        if prompt_of(attempt) != poison:
            return answered()
        tries.append(attempt)
        if len(tries) % 2:
            os.kill(os.getpid(), signal.SIGINT)
        return unknown()

    for _ in range(8):
        case.limit(concurrency=1).run(FakeLane(answer))
    assert case.one("SELECT COUNT(*) FROM v_attempts WHERE state = 'unknown'") == len(tries)
    assert 3 <= len(tries) <= most
    assert case.ask("SELECT kind, reason FROM v_failures") == [("held", "parked_in_doubt")]
    assert len(case.texts()) == others


def test_a_long_outage_costs_no_row_however_often_the_process_begins_anew(
    case, read_by_the_lane
):
    for _ in range(4):
        ended, _ = ran(case, read_by_the_lane[CUT], lambda *_: True)
        assert ended.exit_code == 69
    assert paid_in_vain(case) == 4 * MOST_PAID_PROBES
    assert case.run(FakeLane(), FastClock()).exit_code == 0
