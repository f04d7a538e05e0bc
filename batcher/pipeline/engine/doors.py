"""Several endpoints for one run: what one of them cannot do, the next one does.

Each endpoint has an engine of its own, with its own pace, breaker and prices; a row that one
engine has given up becomes the next one's. Nothing here is made where no fallback is set.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final

from batcher.clock import Clock
from batcher.messages.request import BadRow, Request
from batcher.pipeline.choices import FallbackRules
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.work import Work

_LOOK_SECONDS: Final = 0.25
_AHEAD: Final = 2  # rows that wait for the next endpoint, for each that it may have in flight


class NextDoor:
    """See `WayOut`; from the engine of that `number` to the next.

    `asked` gives what is asked there instead of a request, `accepts` tells whether the endpoint
    would take that; `say` is told once what becomes of rows whose
    endpoint is given up.
    """

    def __init__(
        self,
        engines: Sequence[Engine],
        number: int,
        *,
        asked: Callable[[Request], Request],
        rules: FallbackRules,
        accepts: Callable[[Request], bool],
        say: Callable[[str], None],
    ) -> None:
        self._engines = engines
        self._number = number
        self._asked = asked
        self._rules = rules
        self._accepts = accepts
        self._say = say
        self.given_up: BaseException | None = None

    @property
    def _before(self) -> Engine:
        return self._engines[self._number]

    @property
    def _after(self) -> Engine:
        return self._engines[self._number + 1]

    @property
    def has_room(self) -> bool:
        """Whether it may be given rows; the endpoint before may send so long."""
        after = self._after
        return (
            after.supply.chances < after.limits.concurrency * _AHEAD and self.given_up is None
        )

    def takes(self, work: Work) -> bool:
        """See `WayOut.takes`: never a row that has an answered leg, which is paid."""
        if work.legs or (work.doubted and not self._rules.on_doubt):
            return False
        return self._accepts(self._asked(work.request))

    def take_over(self, work: Work) -> None:
        """See `WayOut.take_over`."""
        work.go_elsewhere(self._asked(work.request))
        self._after.supply.add([work])
        self._after.waking.wake(1)

    def only_way(self, error: BaseException) -> None:
        """See `WayOut.only_way`."""
        if self.given_up is None:
            self.given_up = error
            self._say(f"{error}: its rows go to endpoint {self._after.policy.endpoint}")
        self._after.waking.wake_all()

    def refill(self) -> bool:
        """Take a row of an endpoint that is down; whether there was one."""
        before = self._before
        work = before.supply.hand_on(self.takes) if self._is_open(before) else None
        if work is None:
            return False
        self.take_over(work)
        before.check_over()
        return True

    def look(self) -> None:
        """What may go now, goes; what may not, and has nowhere to go, ends the run."""
        before, after = self._before, self._after
        if self._is_open(before):
            after.waking.wake_all()
        if self.given_up is not None and before.supply.has_only_staying:
            before.end_with(self.given_up)

    def _is_open(self, before: Engine) -> bool:
        now, seconds = before.clock.monotonic(), self._rules.after_seconds
        return self.given_up is not None or before.breaker.is_down_for(seconds, now)


class Doors:
    """Runs the engines of all endpoints as if they were one; see `Engine`."""

    def __init__(
        self, engines: Sequence[Engine], ways: Sequence[NextDoor], clock: Clock
    ) -> None:
        self._engines = engines
        self._first = engines[0]
        self._ways = ways
        self._clock = clock
        self._ended: BaseException | None = None

    async def run(self) -> None:
        """See `Engine.run`: one after the other has nothing left."""
        looking = asyncio.create_task(self._look())
        running = [asyncio.create_task(engine.run()) for engine in self._engines]
        try:
            for engine, following in zip(running, [*self._engines[1:], None], strict=True):
                await engine
                if following is not None:
                    following.input_ended()
        finally:
            for task in (looking, *running):
                task.cancel()
            await asyncio.gather(looking, *running, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            await self._clock.sleep(_LOOK_SECONDS)
            for way in self._ways:
                way.look()

    @property
    def error(self) -> BaseException | None:
        """Why the run could not go on, if it could not."""
        return self._ended or next(filter(None, (each.error for each in self._engines)), None)

    @property
    def draining(self) -> bool:
        """Whether nothing more is sent."""
        return self._first.draining

    @property
    def nothing_left(self) -> bool:
        """See `Engine.nothing_left`."""
        return all(engine.nothing_left for engine in self._engines)

    @property
    def is_idle(self) -> bool:
        """See `Engine.is_idle`."""
        return all(engine.is_idle for engine in self._engines)

    @property
    def limit_reached(self) -> bool:
        """See `Engine.limit_reached`."""
        return self._first.limit_reached

    def receive(self, items: Sequence[Request | BadRow]) -> None:
        """See `Engine.receive`."""
        self._first.receive(items)

    def input_ended(self) -> None:
        """See `Engine.input_ended`."""
        self._first.input_ended()

    def tell_spent(self, *, everything: bool = False) -> None:
        """See `Engine.tell_spent`."""
        self._first.tell_spent(everything=everything)

    def look_again(self) -> None:
        """See `Engine.look_again`."""
        for engine in self._engines:
            engine.look_again()

    def drain(self) -> None:
        """See `Engine.drain`."""
        for engine in self._engines:
            engine.drain()

    def stop(self, error: BaseException) -> None:
        """See `Engine.stop`: whatever engine it was, none sends any more."""
        self._ended = self._ended or error
        self.drain()

    def abort(self) -> None:
        """See `Engine.abort`."""
        for engine in self._engines:
            engine.abort()
