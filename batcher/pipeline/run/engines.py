"""The engine of a run: one, or one for each endpoint that rows may go to.

What one endpoint cannot do, the next one does: each has an engine of its own, with its own
pace, breaker and prices; a row that one engine has given up becomes the next one's.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count
from typing import Final

from batcher.clock import Clock
from batcher.ledger.write.writer import Writer
from batcher.messages.request import BadRow, Purpose, Request
from batcher.pacing.pacer import Pacer
from batcher.pipeline.batches.admission import Admission, PackedPrefixes
from batcher.pipeline.choices import FallbackRules
from batcher.pipeline.engine.attempts import Opener, Wallet, open_budget
from batcher.pipeline.engine.decide import OutcomePolicy
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.engine.policies import answer_policy
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.tally import DetourTally, Tally
from batcher.pipeline.engine.work import Returns, Work
from batcher.pipeline.job import FallbackServices, Job, Services
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.begin import BegunInvocation
from batcher.pipeline.run.stopping import guard_for
from batcher.transport.endpoint import Lane
from batcher.transport.room import AnswerRoom

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


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineParts:
    """What the engines of an invocation are made of; `pacers` are in the order of endpoints."""

    job: Job
    services: Services
    begun: BegunInvocation
    writer: Writer
    pacers: Sequence[Pacer]
    progress: Progress
    done: DoneRows
    consumed: Callable[[int], None]
    room: AnswerRoom
    returns: Returns


class _Maker:
    """Makes the engines of one invocation, in the order of their endpoints."""

    def __init__(self, parts: EngineParts, lanes: Sequence[Lane]) -> None:
        job, services = parts.job, parts.services
        self._parts = parts
        self._lanes = lanes
        self._doors: list[Doors] = []
        self._numbers = count(1)
        self._engines: list[Engine] = []
        wallets = [Wallet(cap, settled) for cap, settled in parts.begun.caps]
        invocation_id = parts.begun.scope.invocation_id
        self._budget = open_budget(wallets, invocation_id, parts.writer, self._wake)
        guard = guard_for(job.guard, parts.begun.usual)
        self._judged = guard.judged if guard else None
        self._endpoints = [job.endpoint, *(f.fallback.endpoint for f in services.fallbacks)]
        self._ways = [
            NextDoor(
                self._engines,
                number,
                asked=each.fallback.asked,
                rules=job.fallback_rules,
                accepts=partial(_accepts, each, services.clock, capped=bool(wallets)),
                say=services.observer.waiting,
            )
            for number, each in enumerate(services.fallbacks)
        ]

    def make(self) -> Engine | Doors:
        """The only engine, or all of them together."""
        services = self._parts.services
        for each in services.endpoints:
            self._engines.append(self._engine(len(self._engines), each))
        if not self._ways:
            return self._engines[0]
        doors = Doors(self._engines, self._ways, services.clock)
        self._doors.append(doors)
        return doors

    def _engine(self, number: int, each: Services | FallbackServices) -> Engine:
        parts, begun, job = self._parts, self._parts.begun, self._parts.job
        services, first = parts.services, Purpose.FIRST
        way = self._ways[number] if number < len(self._ways) else None
        refill = {"refill": self._ways[number - 1].refill} if number else {}
        return Engine(
            opener=self._opener(number, each),
            limits=job.limits,
            policy=self._policy(number, each, way),
            lane=self._lanes[number],
            writer=parts.writer,
            rater=each.rater,
            pacer=parts.pacers[number],
            clock=services.clock,
            progress=parts.progress,
            done=parts.done,
            history=begun.history,
            admission=self._admission(each.rater),
            budget=self._budget,
            consumed=parts.consumed,
            may_send=_gate(begun.held.may_send, way),
            room=parts.room,
            returns=parts.returns,
            first_purpose=first if services.chosen is None else Purpose.PILOT,
            say=services.observer.waiting,
            tally=self._tally(number),
            way_out=way,
            stopped=self._stop,
            judged=None if number else self._judged,
            **refill,
        )

    def _admission(self, rater: Rater) -> Admission:
        parts, limits = self._parts, self._parts.job.limits
        prefixes = None
        if limits.cached and parts.job.lane.packs:
            now = parts.services.clock.now_us
            prefixes = PackedPrefixes(
                lambda model: rater.cache_rates(model, now()),
                parts.begun.written,
                leading=limits.leading,
            )
        return Admission(limits.row_limit, prefixes, parts.consumed)

    def _opener(self, number: int, each: Services | FallbackServices) -> Opener:
        begun = self._parts.begun
        return Opener(
            invocation_id=[begun.scope.invocation_id, *begun.fallbacks][number],
            attempt_uids=begun.attempt_uids,
            rater=each.rater,
            clock=self._parts.services.clock,
            numbers=self._numbers,
        )

    def _policy(
        self, number: int, each: Services | FallbackServices, way: NextDoor | None
    ) -> OutcomePolicy:
        job, endpoint = self._parts.job, self._endpoints[number]
        return OutcomePolicy(
            retry=job.limits.retry,
            on_unknown=job.on_unknown,
            max_legs=job.limits.max_legs,
            endpoint=endpoint.name,
            may_bill=endpoint.may_bill,
            most=each.rater.most,
            answers=answer_policy(job.answers, each.largest_output),
            takes_over=way.takes if way else None,
        )

    def _tally(self, number: int) -> Tally | DetourTally:
        progress = self._parts.progress
        tally = Tally(progress)
        if not number:
            return tally
        return DetourTally(tally, progress, self._endpoints[number].name)

    def _wake(self) -> None:
        for engine in self._engines:
            engine.waking.wake_all()

    def _stop(self, error: BaseException) -> None:
        for doors in self._doors:
            doors.stop(error)


def make_engine(parts: EngineParts, lanes: Sequence[Lane]) -> Engine | Doors:
    """The engine that sends over the only lane, or those that send over all of them."""
    return _Maker(parts, lanes).make()


def _gate(may_send: Callable[[], bool], way: NextDoor | None) -> Callable[[], bool]:
    """Whether anything may leave: not faster than the next endpoint takes what is given up."""
    return may_send if way is None else lambda: may_send() and way.has_room


def _accepts(each: FallbackServices, clock: Clock, request: Request, *, capped: bool) -> bool:
    """Under a cap nothing goes where its worst case is not known."""
    if not each.accepts(request):
        return False
    bound = each.rater.bound(request.body, request.model, request.max_tokens, clock.now_us())
    return bound is not None or not capped
