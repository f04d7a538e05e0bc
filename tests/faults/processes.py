"""Faults of the process itself: it is cut off between two steps, told to end, or misled.

A cut is what a kill at that moment leaves: a copy of what is committed. Kills of real
processes, at random moments and at every system call, are in tests/e2e.
"""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from batcher.messages.request import Outcome
from tests.faults.kinds import Stage
from tests.making_runs import Case, answered, not_sent, refused, unknown, until, unusable

ROWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """The process is gone when the row at `at` is in flight for the `tries`-th time.

    Before that it got `before`, outcome by outcome. `expected` is the class of the attempt
    that was cut off, `end` what becomes of the row when the same command is typed again.
    """

    id: str
    at: int
    before: tuple[Callable[[], Outcome], ...] = ()
    expected: str = "unknown"
    end: str = "answered"
    stage: Stage = Stage.PROCESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """Signals that reach the process while rows are in flight; `expected` is their class."""

    id: str
    numbers: tuple[int, ...]
    exit: int
    expected: str
    stage: Stage = Stage.PROCESS


CUTS = [
    Cut(id="cut in the first request", at=1),
    Cut(id="cut in a later request", at=4),
    Cut(id="cut in the last request", at=ROWS),
    Cut(id="cut in a retry", at=2, before=(lambda: refused(500),)),
    Cut(id="cut in a retry after 429", at=2, before=(lambda: refused(429),)),
    Cut(id="cut in a retry of what never left", at=2, before=(not_sent,)),
    Cut(id="cut after a lost answer", at=2, before=(unknown,)),
    Cut(id="cut after an unusable answer", at=2, before=(unusable,)),
    Cut(id="cut after two lost answers", at=2, before=(unknown, unknown), end="held"),
    Cut(
        id="cut in a further leg",
        at=3,
        before=(lambda: answered("a", stop_reason="pause_turn"),),
    ),
]

SIGNALS = [
    Told(id="SIGTERM", numbers=(signal.SIGTERM,), exit=0, expected="answered"),
    Told(id="SIGINT", numbers=(signal.SIGINT,), exit=0, expected="answered"),
    Told(id="SIGHUP", numbers=(signal.SIGHUP,), exit=0, expected="answered"),
    Told(id="SIGHUP twice", numbers=(signal.SIGHUP,) * 2, exit=0, expected="answered"),
    Told(id="SIGTERM twice", numbers=(signal.SIGTERM,) * 2, exit=143, expected="unknown"),
    Told(id="SIGINT twice", numbers=(signal.SIGINT,) * 2, exit=130, expected="unknown"),
]


def strike(case: Case, numbers: tuple[int, ...]) -> Any:
    """Send them one after the other, each when the one before it was noticed."""

    async def send() -> None:
        for number in numbers:
            os.kill(os.getpid(), number)
            await until(lambda: case.watcher.reasons)
            await asyncio.sleep(0.01)

    return send()
