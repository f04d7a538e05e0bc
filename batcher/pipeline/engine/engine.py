"""The engine: requests in, attempts out, outcomes settled, until nothing is left to do."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from batcher.clock import Clock
from batcher.errors import ProviderUnavailable
from batcher.ledger.write.records import Quarantine, Settlement
from batcher.ledger.write.writer import Writer
from batcher.messages.failure import FailureKind
from batcher.messages.request import (
    Answered,
    Attempt,
    BadRow,
    Outcome,
    Purpose,
    Request,
    Submitted,
)
from batcher.pacing.backoff import Breaker
from batcher.pacing.pacer import Pacer
from batcher.pipeline.batches.admission import Admission
from batcher.pipeline.engine.attempts import Budget, Carrier, Opener, billed_beyond, no_price
from batcher.pipeline.engine.decide import (
    DONE,
    Again,
    Done,
    Elsewhere,
    OutcomeDecision,
    OutcomePolicy,
    StopRun,
    decide,
    most_it_cost,
    no_bound,
    scout_error,
)
from batcher.pipeline.engine.known_rows import BegunRequests, DoneRows
from batcher.pipeline.engine.pace import Change, Health, LongWaits, Pace, Waking
from batcher.pipeline.engine.policies import Better, NextLeg, go_on
from batcher.pipeline.engine.prefixes import prefixes_for
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.supply import ALIKE_BEFORE_STOP, Supply
from batcher.pipeline.engine.tally import DetourTally, Tally
from batcher.pipeline.engine.tools import Tools
from batcher.pipeline.engine.work import Returns, WayOut, Work
from batcher.pipeline.job import RunLimits
from batcher.pipeline.progress import Progress
from batcher.rows.batch import is_cut_off
from batcher.transport.endpoint import Lane
from batcher.transport.room import AnswerRoom


@dataclass(kw_only=True, eq=False)
class Engine:
    """Runs one invocation's requests. All methods belong to the event loop's thread.

    `may_send`: is the run ours for sure, else nothing leaves. `consumed` is told the body bytes
    of each row that needs no more room. `first_purpose` is that of a fresh row's first attempt.
    `say` is told what people should hear at once, `stopped` why the run cannot go on. `way_out`
    leads to the next endpoint, `refill` asks for rows of the last one, `judged` for errors.
    """

    opener: Opener
    limits: RunLimits
    policy: OutcomePolicy
    lane: Lane
    writer: Writer
    rater: Rater
    pacer: Pacer
    clock: Clock
    progress: Progress
    done: DoneRows
    history: BegunRequests
    admission: Admission
    budget: Budget | None
    consumed: Callable[[int], None]
    may_send: Callable[[], bool]
    room: AnswerRoom
    returns: Returns
    first_purpose: Purpose = Purpose.FIRST
    say: Callable[[str], None] = lambda _: None
    tally: Tally | DetourTally
    way_out: WayOut | None = None
    refill: Callable[[], bool] = lambda: False
    stopped: Callable[[BaseException], None] = lambda _: None
    judged: Callable[[Settlement], BaseException | None] | None = None
    draining: bool = field(default=False, init=False)
    error: BaseException | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._pace = Pace(self.pacer, self.clock, self.limits.waiting)
        self.breaker = Breaker(self.limits.breaker)
        name, limits = self.policy.endpoint, self.limits
        waits = LongWaits(self.pacer, self.clock, name, self.say, limits.max_runtime_seconds)
        self._health = Health(self.breaker, self.clock, name, waits)
        prefixes, scouting = prefixes_for(self.opener.cache_rates, limits), limits.scouting
        self.supply = Supply(self._pace, self.breaker, self.consumed, scouting, prefixes)
        self._tools = Tools(self.policy.answers.choices.tools)
        self.waking = Waking(self.supply, self._pace, self.clock, lambda: self._may_send)
        self._carrier = Carrier(self)
        self._in_flight = self._body_bytes = 0
        self._workers: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Work until everything is done, or drained, or the run cannot go on; see `error`."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self.limits.workers)]
        keeper = asyncio.create_task(self.waking.keep_time())
        try:
            await self._over.wait()
        finally:
            keeper.cancel()
            for worker in self._workers:
                worker.cancel()
            await asyncio.gather(keeper, *self._workers, return_exceptions=True)

    @property
    def nothing_left(self) -> bool:
        """Whether the input was read to its end and none of its rows still waits."""
        return self.supply.is_empty and self.admission.is_whole

    @property
    def is_idle(self) -> bool:
        """Whether all rows that were received have ended, or left."""
        return not (self._in_flight or self.draining) and self.supply.holds_nothing

    @property
    def limit_reached(self) -> bool:
        """Whether as many rows were taken as the limit allows."""
        return self.admission.limit_reached

    # What the reader finds

    def receive(self, items: Sequence[Request | BadRow]) -> None:
        """Rows that were just read, in order."""
        works = []
        first, answers = self.first_purpose, self.policy.answers
        for item in items:
            if isinstance(item, BadRow):
                self._quarantine(item, takes_room=True)
            elif (work := self.history.work_for(item, first, answers)) is None:
                self.consumed(len(item.body))  # it waits for what is under way
            elif work.underway or self.admission.admits(work, self.clock.now_us()):
                works.append(work)
        self.tally.read([work for work in works if not work.underway])
        self.supply.add(works)
        self.waking.wake(len(works))

    def input_ended(self) -> None:
        """No more rows come."""
        self.supply.end_input()
        self.check_over()

    def look_again(self) -> None:
        """What `may_send` says may have changed."""
        self.waking.look_again()

    def settle_alone(self, attempt: Attempt, outcome: Outcome) -> None:
        """Record what came of an attempt whose row is not at hand: it is not sent again."""
        work = Work(request=attempt.request, request_id=attempt.request_id)
        self._settle(work, attempt, outcome, goes_on=False)

    def tell_spent(self, *, everything: bool = False) -> None:
        """Let the ledger know what was spent under caps; `everything`: see `Budget.tell`."""
        if self.budget:
            self.budget.tell(everything=everything)

    # How a run ends early

    def drain(self) -> None:
        """Send nothing more; the run is over when nothing is in flight."""
        self.draining = True
        self.lane.drain()
        self.check_over()

    def stop(self, error: BaseException) -> None:
        """The run cannot go on: drain, then report the first such error."""
        self.end_with(error)
        self.stopped(error)

    def end_with(self, error: BaseException) -> None:
        """The rows that are left here have to wait for another invocation."""
        if self.error is None:
            self.error = error
        self.drain()

    def give_up(self, error: BaseException) -> None:
        """The endpoint will not answer; its rows go elsewhere, where there is an elsewhere."""
        if self.way_out is not None and isinstance(error, ProviderUnavailable):
            self.way_out.only_way(error)
        else:
            self.stop(error)

    def abort(self) -> None:
        """Cut off what is in flight; each cut attempt is settled as unknown."""
        self.drain()
        for worker in self._workers:
            worker.cancel()
        self._over.set()

    # One request

    async def _work(self) -> None:
        try:
            while not self._over.is_set():
                work = self._take()
                if work is None:
                    await self.waking.sleep()
                else:
                    if self.supply.is_held:
                        self.waking.wake(1)  # there may be quota for one more
                    tools_due = work.legs and work.tools_due
                    await (self._run_tools(work) if tools_due else self._attempt(work))
        except Exception as exc:  # noqa: BLE001 - the worker's edge: a bug must end the run
            self.stop(exc)

    def _take(self) -> Work | None:
        while self._may_send:
            work = self.supply.take(self.clock.monotonic())
            if work is None:
                if self.supply.holds_nothing and self.refill():
                    continue
                return None
            if self.budget is None or work.tools_due or work.underway:
                return work
            if (bound := self.opener.bound(work)) is None:
                self._refuse_unbounded(work)
            elif self.budget.reserve(bound):
                return work
            else:
                self._wait_for_money(work, self.budget)
                return None
        return None

    def _refuse_unbounded(self, work: Work) -> None:
        """Under a cap nothing is sent whose worst case is not known."""
        request, now = work.request, self.clock.now_us()
        if self.rater.had_bound(work.body(), request.model, request.max_tokens):
            self.supply.put_back(work)  # not the row's fault: it stays to do
            self.stop(no_price(request.model, now, self.rater.book.published))
            return
        self.supply.drop(work)
        self._quarantine(no_bound(work.request), takes_room=False)
        self.check_over()

    def _wait_for_money(self, work: Work, budget: Budget) -> None:
        """The row goes when money comes free; when none can, the run ends."""
        self.supply.put_back(work)
        if budget.refused and not (self.progress.in_flight or self.returns.rows_awaited):
            self.stop(budget.exhausted_error())

    @property
    def _may_send(self) -> bool:
        if self.draining or self._body_bytes > self.limits.body_bytes:
            return False
        if not self.may_send():  # `look_again` is called when that changes
            return False
        if self.budget and self.budget.refused and self.progress.in_flight:  # may free money
            return False
        fewer = self.breaker.held_back
        fits = not (fewer or self._pace.concurrency.is_cut)
        return fits or self._pace.has_room(self._in_flight, fewer)

    async def _attempt(self, work: Work) -> None:
        attempt = self.opener.open(work)
        size = len(attempt.body)
        self._body_bytes += size
        self._in_flight += 1
        self.progress.in_flight += 1
        try:
            outcome, error = await self._carrier.carry(work, attempt)
            if isinstance(outcome, Submitted):
                self._gone(work, attempt, outcome)
            else:
                self._settle(work, attempt, outcome)
            if isinstance(error, asyncio.CancelledError):
                raise error
            if error:  # what a lane raises ends the run
                self.stop(error)
        finally:
            if not self._may_send:
                self.waking.look_again()  # there may be room again
            self._body_bytes -= size
            self._in_flight -= 1
            self.progress.in_flight -= 1
            self.check_over()

    def _gone(self, work: Work, attempt: Attempt, submitted: Submitted) -> None:
        """The attempt stays open: what comes of it is told by `returns`, later."""
        self._pace.withdraw(work)
        self.done.away(attempt.attempt_id, submitted.batch)
        self.returns.went(submitted.batch)
        self._heed(self._health.heard())

    async def _run_tools(self, work: Work) -> None:
        """What the last leg calls runs now; the row goes on when the results are durable."""
        self.breaker.not_sent()
        self._pace.withdraw(work)
        self._in_flight += 1
        try:
            await self._tools.answer(work, self.writer, self.clock.now_us())
        finally:
            self.supply.again(work, self.clock.monotonic())  # also when it was cut off
            self._in_flight -= 1
            self.check_over()

    # What an outcome leads to

    def _settle(
        self, work: Work, attempt: Attempt, outcome: Outcome, *, goes_on: bool = True
    ) -> None:
        if not isinstance(outcome, Answered):
            self._health.count(work, outcome)
        outcome = self.rater.weighed(attempt, outcome)
        charges = self.rater.charges_of(outcome, attempt.request.model)
        verdicts = decide(work, attempt, outcome, charges, self.clock.random(), self.policy)
        self.writer.put(verdicts.settlement, lambda: self._durable(attempt, verdicts))
        known = work.came_back(outcome, packs=self.limits.waiting > 0)
        if self.budget and (known is None or known.is_ours):  # else it is counted already
            self.budget.settle(attempt.cost_high or 0, most_it_cost(verdicts.settlement))
            self.budget.show(self.progress)
        if self.tally.settled(verdicts):
            self._billed_beyond(verdicts.settlement)
        if self.judged and (unusual := self.judged(verdicts.settlement)):
            self.stop(unusual)
        self._pace.end(work, outcome)
        self._heed(self._health.observe(outcome, work, is_old=known is not None))
        if goes_on and verdicts.next is not DONE:
            self._go_on(work, outcome, verdicts)
        if self.supply.has_scouts:
            self._report_scout(work, attempt.request.model, outcome)

    def _billed_beyond(self, settlement: Settlement) -> None:
        """The server does not keep its side: with it falls the promise that a cap holds."""
        words = billed_beyond(settlement)
        if self.budget:
            self.stop(self.budget.broken_error(words))
        elif self.progress.overbilled == 1:
            self.say(words)

    def _go_on(self, work: Work, outcome: Outcome, verdicts: OutcomeDecision) -> None:
        now = self.clock.monotonic()
        match verdicts.next:
            case Again(wait_seconds):
                work.retry()
                self.supply.again(work, now + wait_seconds)
                self.waking.look_again()
            case NextLeg() | Better() as step if isinstance(outcome, Answered):
                go_on(work, outcome.answer, step)
                self.supply.again(work, now)
            case StopRun(error):
                self.stop(error)
            case Elsewhere() if self.way_out:
                self.way_out.take_over(work)
            case _:
                pass  # done: nothing further, once it is durable

    def _durable(self, attempt: Attempt, verdicts: OutcomeDecision) -> None:
        row, attempt_id = attempt.request, attempt.attempt_id
        self.done.settled(attempt_id)
        self.returns.settled(attempt_id)
        if self.room.unsaved:
            self.room.recorded(attempt_id)
        if isinstance(verdicts.next, Done) and verdicts.next.lasting:
            self.done.add(row.source_id, row.row_number)

    def _heed(self, change: Change) -> None:
        self.waking.heed(change, self.progress)
        if change.error:
            self.give_up(change.error)

    def _report_scout(self, work: Work, model: str, outcome: Outcome) -> None:
        """`model` was asked; the row may have gone elsewhere since, and ask another."""
        waiting, now = self.supply.waiting_for_first, self.clock.monotonic()
        if refusal := self.supply.report(work, model, outcome, now):
            self.stop(scout_error(refusal, self.policy.endpoint, ALIKE_BEFORE_STOP))
        self.waking.wake(waiting)

    def _quarantine(self, row: BadRow, *, takes_room: bool) -> None:
        self.writer.put(Quarantine(row=row), lambda: self._refused(row, takes_room=takes_room))
        self.tally.gave_up(FailureKind.QUARANTINED, row.reason, row.message)

    def _refused(self, row: BadRow, *, takes_room: bool) -> None:
        if not is_cut_off(row):  # looked at again each time, until the file is whole
            self.done.add(row.source_id, row.row_number)
        if takes_room:
            self.consumed(0)

    def check_over(self) -> None:
        """End the run when nothing is in flight and nothing waits that may go."""
        if not self._in_flight and (self.draining or self.supply.is_empty):
            self._over.set()
