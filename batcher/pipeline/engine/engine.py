"""The engine: requests in, attempts out, outcomes settled, until nothing is left to do."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from batcher.clock import Clock
from batcher.ledger.write.records import FailureKind, Intent, Quarantine, Settlement
from batcher.ledger.write.writer import Writer
from batcher.messages.attempt import Answered, Attempt, Outcome, Purpose, attempt_id_of
from batcher.messages.request import BadRow, Request
from batcher.pacing.breaker import Breaker
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.decide import (
    Again,
    Done,
    OutcomeDecision,
    OutcomePolicy,
    StopRun,
    cut_off,
    decide,
    in_doubt,
    most_it_cost,
    no_bound,
    scout_error,
    speaks_against_row,
    uses_up_patience,
)
from batcher.pipeline.engine.known_rows import BegunRequests, DoneRows
from batcher.pipeline.engine.pace import Health, Pace
from batcher.pipeline.engine.policies import Better, NextLeg, go_on
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.reservations import (
    Budget,
    Wallet,
    billed_beyond,
    no_cap_holds,
    no_price_now,
    open_budget,
)
from batcher.pipeline.engine.supply import ALIKE_BEFORE_STOP, ScoutReport, Supply
from batcher.pipeline.engine.tally import Tally
from batcher.pipeline.engine.tools import Tools
from batcher.pipeline.engine.waking import Waking
from batcher.pipeline.engine.work import Work
from batcher.pipeline.job import RunLimits
from batcher.pipeline.progress import Progress
from batcher.rows.batch import is_cut_off
from batcher.transport.endpoint import Lane
from batcher.transport.room import AnswerRoom


@dataclass(kw_only=True, eq=False)
class Engine:
    """Runs one invocation's requests. All methods belong to the event loop's thread.

    `attempt_uids` is what the uids of its attempts begin with.
    `may_send` says whether the run is ours for sure: nothing leaves while it is not. `consumed`
    is told the body bytes of each row that needs no more room. `wallets` are the caps with what
    was settled before; `first_purpose` is that of a fresh row's first attempt. `say` is told
    what people should hear at once.
    """

    invocation_id: int
    attempt_uids: str
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
    wallets: Sequence[Wallet]
    consumed: Callable[[int], None]
    may_send: Callable[[], bool]
    room: AnswerRoom
    first_purpose: Purpose = Purpose.FIRST
    say: Callable[[str], None] = lambda _: None
    draining: bool = field(default=False, init=False)
    error: BaseException | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._tally = Tally(self.progress)
        self._pace = Pace(self.pacer, self.clock)
        self._breaker = Breaker(self.limits.breaker)
        self._health = Health(self._breaker, self.clock, self.policy.endpoint)
        self._supply = Supply(self._pace, self._breaker, self.consumed)
        self._tools = Tools(self.policy.answers.choices.tools)
        self._waking = Waking(self._supply, self._pace, self.clock, lambda: self._may_send)
        caps, wake = self.wallets, self._waking.wake_all
        self._budget = open_budget(caps, self.invocation_id, self.writer, wake)
        self._counter = self._accepted = self._in_flight = 0
        self._body_bytes = 0
        self._workers: list[asyncio.Task[None]] = []
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Work until everything is done, or drained, or the run cannot go on; see `error`."""
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self.limits.concurrency)
        ]
        keeper = asyncio.create_task(self._waking.keep_time())
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
        return self._supply.is_empty and not self.limit_reached

    @property
    def is_idle(self) -> bool:
        """Whether all rows that were received have ended, and more would be sent."""
        busy = self._in_flight or self.draining or self.limit_reached
        return not busy and self._supply.holds_nothing

    @property
    def limit_reached(self) -> bool:
        """Whether as many rows were taken as the limit allows."""
        return self._accepted == self.limits.row_limit

    # What the reader finds

    def receive(self, items: Sequence[Request | BadRow]) -> None:
        """Rows that were just read, in order."""
        works = []
        first, answers = self.first_purpose, self.policy.answers
        for item in items:
            if isinstance(item, BadRow):
                self._quarantine(item, takes_room=True)
            elif self._within_limit():
                works.append(self.history.work_for(item, first, answers))
        self._tally.read(works)
        self._supply.add(works)
        self._waking.wake(len(works))

    def input_ended(self) -> None:
        """No more rows come."""
        self._supply.end_input()
        self._check_over()

    def look_again(self) -> None:
        """What `may_send` says may have changed."""
        self._waking.look_again()

    def tell_spent(self, *, everything: bool = False) -> None:
        """Let the ledger know what was spent under caps; `everything`: see `Budget.tell`."""
        if self._budget:
            self._budget.tell(everything=everything)

    # How a run ends early

    def drain(self) -> None:
        """Send nothing more; the run is over when nothing is in flight."""
        self.draining = True
        self._check_over()

    def stop(self, error: BaseException) -> None:
        """The run cannot go on: drain, then report the first such error."""
        if self.error is None:
            self.error = error
        self.drain()

    def abort(self) -> None:
        """Cut off what is in flight; each cut attempt is settled as unknown."""
        self.draining = True
        for worker in self._workers:
            worker.cancel()
        self._over.set()

    # One request

    async def _work(self) -> None:
        try:
            while not self._over.is_set():
                work = self._take()
                if work is None:
                    await self._waking.sleep()
                else:
                    if self._supply.is_held:
                        self._waking.wake(1)  # there may be quota for one more
                    await (self._run_tools(work) if work.tools_due else self._attempt(work))
        except Exception as exc:  # noqa: BLE001 - the worker's edge: a bug must end the run
            self.stop(exc)

    def _take(self) -> Work | None:
        while self._may_send:
            work = self._supply.take(self.clock.monotonic())
            if work is None or work.tools_due or self._budget is None:
                return work
            bound = self._bound(work)
            if bound is None:
                self._refuse_unbounded(work)
            elif self._budget.reserve(bound):
                return work
            else:
                self._wait_for_money(work, self._budget)
                return None
        return None

    def _bound(self, work: Work) -> int | None:
        request, now = work.request, self.clock.now_us()
        return self.rater.bound(work.body(), request.model, request.max_tokens, now)

    def _refuse_unbounded(self, work: Work) -> None:
        """Under a cap nothing is sent whose worst case is not known."""
        request, now = work.request, self.clock.now_us()
        if self.rater.had_bound(work.body(), request.model, request.max_tokens):
            self._supply.put_back(work)  # not the row's fault: it stays to do
            self.stop(no_price_now(request.model, now, self.rater.book.published))
            return
        self._supply.drop(work)
        self._quarantine(no_bound(work.request), takes_room=False)
        self._check_over()

    def _wait_for_money(self, work: Work, budget: Budget) -> None:
        """The row goes when money comes free; when none can, the run ends."""
        self._supply.put_back(work)
        if budget.refused and self._in_flight == 0:
            self.stop(budget.exhausted_error())

    @property
    def _may_send(self) -> bool:
        if self.draining or self._body_bytes > self.limits.body_bytes:
            return False
        if not self.may_send():  # `look_again` is called when that changes
            return False
        if self._budget and self._budget.refused and self._in_flight:
            return False  # an attempt that ends may free money
        return self._pace.has_room(self._in_flight)

    async def _attempt(self, work: Work) -> None:
        attempt = self._open(work)
        size = len(attempt.body)
        self._body_bytes += size
        self._in_flight += 1
        self.progress.in_flight = self._in_flight
        durable = False
        try:
            await self.writer.durable(Intent(attempt=attempt))
            durable = True
            self.progress.recorded += 1
            outcome = await self.lane.send(attempt)
        except asyncio.CancelledError:
            self._settle(work, attempt, cut_off(attempt, self.clock.now_us(), sent=durable))
            raise
        except Exception as exc:  # noqa: BLE001 - what a lane raises ends the run
            self._settle(work, attempt, cut_off(attempt, self.clock.now_us(), sent=durable))
            self.stop(exc)
        else:
            self._settle(work, attempt, outcome)
        finally:
            if not self._may_send:
                self._waking.look_again()  # there may be room again
            self._body_bytes -= size
            self._in_flight -= 1
            self.progress.in_flight = self._in_flight
            self._check_over()

    async def _run_tools(self, work: Work) -> None:
        """What the last leg calls runs now; the row goes on when the results are durable."""
        self._breaker.not_sent()
        self._pace.withdraw(work)
        self._in_flight += 1
        try:
            await self._tools.answer(work, self.writer, self.clock.now_us())
        finally:
            self._supply.again(work, self.clock.monotonic())  # also when it was cut off
            self._in_flight -= 1
            self._check_over()

    def _open(self, work: Work) -> Attempt:
        request = work.request
        self._counter += 1
        attempt_id = attempt_id_of(self.invocation_id, self._counter)
        body = work.body()
        now = self.clock.now_us()
        work.attempts += 1
        attempt = Attempt(
            attempt_id=attempt_id,
            uid=f"{self.attempt_uids}{self._counter:x}",
            request_id=work.request_id or attempt_id,
            request=request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=now,
            cost_high=self.rater.bound(body, request.model, request.max_tokens, now),
            replaces=work.last_attempt_id or None,
            asked=self.rater.asked(body),
        )
        work.request_id = attempt.request_id
        work.last_attempt_id = attempt_id
        self.done.opened(attempt_id)
        self.progress.sent += 1
        return attempt

    # What an outcome leads to

    def _settle(self, work: Work, attempt: Attempt, outcome: Outcome) -> None:
        doubt = in_doubt(outcome) and self._health.blames(work)
        work.count(used_up=uses_up_patience(outcome), doubt=doubt)
        outcome = self.rater.weighed(attempt, outcome)
        charges = self.rater.charges_of(outcome, attempt.request.model)
        verdicts = decide(work, attempt, outcome, charges, self.clock.random(), self.policy)
        self.writer.put(verdicts.settlement, lambda: self._durable(attempt, verdicts))
        if self._budget:
            self._budget.settle(attempt.cost_high or 0, most_it_cost(verdicts.settlement))
            self._budget.show(self.progress)
        if self._tally.settled(verdicts):
            self._billed_beyond(verdicts.settlement)
        self._pace.end(work, outcome)
        self._observe(work, outcome)
        self._go_on(work, outcome, verdicts)
        self._report_scout(work, outcome)

    def _billed_beyond(self, settlement: Settlement) -> None:
        """The server does not keep its side: with it falls the promise that a cap holds."""
        words = billed_beyond(settlement)
        if self._budget:
            self.stop(no_cap_holds(words))
        elif self.progress.overbilled == 1:
            self.say(words)

    def _go_on(self, work: Work, outcome: Outcome, verdicts: OutcomeDecision) -> None:
        now = self.clock.monotonic()
        match verdicts.next:
            case Again(wait_seconds):
                work.retry()
                self._supply.again(work, now + wait_seconds)
                self._waking.look_again()
            case NextLeg() | Better() as step if isinstance(outcome, Answered):
                go_on(work, outcome.answer, step)
                self._supply.again(work, now)
            case StopRun(error):
                self.stop(error)
            case _:
                pass  # done: nothing further, once it is durable

    def _durable(self, attempt: Attempt, verdicts: OutcomeDecision) -> None:
        row = attempt.request
        lasting = isinstance(verdicts.next, Done) and verdicts.next.lasting
        self.done.settled(attempt.attempt_id)
        if self.room.unsaved:
            self.room.recorded(attempt.attempt_id)
        if lasting:
            self.done.add(row.source_id, row.row_number)

    def _observe(self, work: Work, outcome: Outcome) -> None:
        change = self._health.observe(outcome, work)
        if change.shut:
            self.progress.outage = change.outage
            self._waking.look_again()
        if change.recovered:
            self.progress.outage = ""
            self._waking.wake_all()
        if change.error:
            self.stop(change.error)

    def _report_scout(self, work: Work, outcome: Outcome) -> None:
        refusal = speaks_against_row(outcome)
        waiting = self._supply.waiting_for_scouts
        if self._supply.report(work, refusal) is ScoutReport.STOP and refusal is not None:
            self.stop(scout_error(refusal, self.policy.endpoint, ALIKE_BEFORE_STOP))
        self._waking.wake(waiting)

    def _quarantine(self, row: BadRow, *, takes_room: bool) -> None:
        self.writer.put(Quarantine(row=row), lambda: self._refused(row, takes_room=takes_room))
        self._tally.gave_up(FailureKind.QUARANTINED, row.reason, row.message)

    def _refused(self, row: BadRow, *, takes_room: bool) -> None:
        if not is_cut_off(row):  # looked at again each time, until the file is whole
            self.done.add(row.source_id, row.row_number)
        if takes_room:
            self.consumed(0)

    # Waking and ending

    def _within_limit(self) -> bool:
        if self._accepted == self.limits.row_limit:
            return False
        self._accepted += 1
        return True

    def _check_over(self) -> None:
        if not self._in_flight and (self.draining or self._supply.is_empty):
            self._over.set()
