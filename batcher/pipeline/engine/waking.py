"""Workers that found nothing to send, and the moments at which they look again."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from batcher.clock import Clock
from batcher.pipeline.engine.pace import Change, Pace
from batcher.pipeline.engine.supply import Supply
from batcher.pipeline.progress import Progress

_AGAIN_SECONDS: Final = 0.01  # between two looks when woken workers found nothing they may send


class Waking:
    """Puts workers to sleep and wakes them; all methods belong to the event loop's thread.

    `may_send` says whether anything may leave at all at the moment.
    """

    def __init__(
        self, supply: Supply, pace: Pace, clock: Clock, may_send: Callable[[], bool]
    ) -> None:
        self._supply = supply
        self._pace = pace
        self._clock = clock
        self._may_send = may_send
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._kick = asyncio.Event()

    async def sleep(self) -> None:
        """Wait to be woken."""
        sleeper = asyncio.get_running_loop().create_future()
        self._sleepers.append(sleeper)
        self._kick.set()
        await sleeper

    def wake(self, count: int) -> None:
        """Wake as many, if as many sleep."""
        for _ in range(min(count, len(self._sleepers))):
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)

    def wake_all(self) -> None:
        """Wake everybody."""
        self.wake(len(self._sleepers))

    def heed(self, change: Change, progress: Progress) -> None:
        """Less may go than before, or everybody who waited may try."""
        if change.shut:
            progress.outage = change.outage
            self.look_again()
        if change.recovered:
            progress.outage = ""
            self.wake_all()

    def look_again(self) -> None:
        """What may be sent, or when, may have changed."""
        self._kick.set()

    async def keep_time(self) -> None:
        """Wake workers at the moments at which something may go that could not go before."""
        while True:
            self._kick.clear()
            now = self._clock.monotonic()
            moment = self._supply.next_moment(now)
            idle = self._sleepers and self._may_send()  # a worker that ends looks for itself
            if moment is None or not idle:
                await self._kick.wait()
            elif moment > now:
                await self._pace.wait(self._kick, moment - now)
            else:
                self.wake(self._pace.at_most(self._supply.chances))
                await self._clock.sleep(_AGAIN_SECONDS)
