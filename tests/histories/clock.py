"""Time that passes only because everybody waits for it."""

import asyncio
import heapq
import itertools
import random
from collections.abc import Callable

_BEGIN_US = 1_794_700_000_000_000  # in November 2026
_TURN_SECONDS = 0.0005  # of real time: the writer's thread has its own


class VirtualClock:
    """See `batcher.clock.Clock`. Jumps to the next moment that somebody sleeps for.

    `chance` is drawn from the history's own generator. One clock lives through many runs. Who
    ticks regularly does so every `least_seconds` at most. No time passes unless it is `quiet`.
    """

    def __init__(
        self,
        chance: random.Random,
        least_seconds: float = 0.0,
        quiet: Callable[[], bool] = lambda: True,
    ) -> None:
        self._chance = chance
        self._least_seconds = least_seconds
        self._quiet = quiet
        self._now = 1_000.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._driver: asyncio.Task[None] | None = None
        self._set_us = 0  # by how much somebody set the wall clock; nobody notices otherwise

    def now_us(self) -> int:
        return _BEGIN_US + int(self._now * 1_000_000) + self._set_us

    def wind(self, microseconds: int) -> None:
        """Set the wall clock forward, or back."""
        self._set_us += microseconds

    def travel_to(self, moment_us: int) -> None:
        """It is another night."""
        self._set_us += moment_us - self.now_us()

    def monotonic(self) -> float:
        return self._now

    def random(self) -> float:
        return self._chance.random()

    def token(self) -> str:
        return f"{self._chance.getrandbits(32):08x}"

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0:
            await asyncio.sleep(0)
            return
        if seconds >= 0.2:
            seconds = max(seconds, self._least_seconds)
        loop = asyncio.get_running_loop()
        if self._driver is None or self._driver.get_loop() is not loop:
            self._sleepers.clear()  # those of a run that is over
            self._driver = loop.create_task(self._drive())
        future = loop.create_future()
        heapq.heappush(self._sleepers, (self._now + seconds, next(self._order), future))
        await future

    async def _drive(self) -> None:
        while True:
            await asyncio.sleep(_TURN_SECONDS)
            if not self._quiet():
                continue
            while self._sleepers and self._sleepers[0][2].done():
                heapq.heappop(self._sleepers)  # it was cancelled
            if self._sleepers:
                due, _, future = heapq.heappop(self._sleepers)
                self._now = max(self._now, due)
                future.set_result(None)
