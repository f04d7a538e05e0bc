"""The engine of a run: one, or one for each endpoint that rows may go to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import count

from batcher.clock import Clock
from batcher.ledger.write.writer import Writer
from batcher.messages.request import Purpose, Request
from batcher.pacing.pacer import Pacer
from batcher.pipeline.batches.admission import Admission, PackedPrefixes
from batcher.pipeline.engine.decide import OutcomePolicy
from batcher.pipeline.engine.doors import Doors, NextDoor
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.engine.opening import Opener
from batcher.pipeline.engine.policies import answer_policy
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.reservations import Wallet, open_budget
from batcher.pipeline.engine.tally import DetourTally, Tally
from batcher.pipeline.engine.work import Returns
from batcher.pipeline.job import FallbackServices, Job, Services
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.begin import BegunInvocation
from batcher.pipeline.run.guard import guard_for
from batcher.transport.endpoint import Lane
from batcher.transport.room import AnswerRoom


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
