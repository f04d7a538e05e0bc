"""The engine: requests in, attempts out, outcomes settled, until nothing is left to do."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from batcher.clock import Clock
from batcher.ledger.write.records import FailureKind, Intent, Quarantine
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
from batcher.pipeline.engine.reservations import Budget, Wallet, open_budget
from batcher.pipeline.engine.supply import ALIKE_BEFORE_STOP, ScoutReport, Supply
from batcher.pipeline.engine.tally import Tally
from batcher.pipeline.engine.tools import Tools
from batcher.pipeline.engine.work import Work
from batcher.pipeline.job import RunLimits
from batcher.pipeline.progress import Progress
from batcher.rows.batch import is_cut_off
from batcher.transport.endpoint import Lane

_AGAIN_SECONDS: Final = 0.01  # between two looks when woken workers found nothing they may send


@dataclass(kw_only=True, eq=False)
class Engine:
    """Runs one invocation's requests. All methods belong to the event loop's thread.

    `may_send` says whether the run is ours for sure: nothing leaves while it is not. `consumed`
    is told the body bytes of each row that needs no more room. `wallets` are the caps with what
    was settled before; `first_purpose` is that of a fresh row's first attempt.
    """

    invocation_id: int
    database_uid: str
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
    first_purpose: Purpose = Purpose.FIRST
    draining: bool = field(default=False, init=False)
    error: BaseException | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._tally = Tally(self.progress)
        self._pace = Pace(self.pacer, self.clock)
        self._breaker = Breaker(self.limits.breaker)
        self._health = Health(self._breaker, self.clock, self.policy.endpoint)
        self._supply = Supply(self._pace, self._breaker, self.consumed)
        self._tools = Tools(self.policy.answers.choices.tools)
        caps, wake = self.wallets, self._wake_all
        self._budget = open_budget(caps, self.invocation_id, self.writer, wake)
        self._counter = self._accepted = self._in_flight = 0
        self._body_bytes = 0
        self._sleepers: deque[asyncio.Future[None]] = deque()
        self._workers: list[asyncio.Task[None]] = []
        self._kick = asyncio.Event()
        self._over = asyncio.Event()

    async def run(self) -> None:
        """Work until everything is done, or drained, or the run cannot go on; see `error`."""
        self._workers = [
            asyncio.create_task(self._work()) for _ in range(self.limits.concurrency)
        ]
        keeper = asyncio.create_task(self._keep_time())
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
        self._wake(len(works))

    def input_ended(self) -> None:
        """No more rows come."""
        self._supply.end_input()
        self._check_over()

    def look_again(self) -> None:
        """What `may_send` says may have changed."""
        self._kick.set()

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
                    sleeper = asyncio.get_running_loop().create_future()
                    self._sleepers.append(sleeper)
                    self._kick.set()
                    await sleeper
                else:
                    if self._supply.is_held:
                        self._wake(1)  # there may be quota for one more
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
                self._kick.set()  # there may be room again
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
            uid=f"{self.database_uid}-{self.invocation_id:x}-{self._counter:x}",
            request_id=work.request_id or attempt_id,
            request=request,
            number=work.attempts,
            leg=work.leg,
            purpose=work.purpose,
            body=body,
            opened_at=now,
            cost_high=self.rater.bound(body, request.model, request.max_tokens, now),
            replaces=work.last_attempt_id or None,
        )
        work.request_id = attempt.request_id
        work.last_attempt_id = attempt_id
        self.done.opened(attempt_id)
        self.progress.sent += 1
        return attempt

    # What an outcome leads to

    def _settle(self, work: Work, attempt: Attempt, outcome: Outcome) -> None:
        work.used_up += uses_up_patience(outcome)
        work.doubts += in_doubt(outcome)
        charges = self.rater.charges_of(outcome, attempt.request.model)
        verdicts = decide(work, attempt, outcome, charges, self.clock.random(), self.policy)
        self.writer.put(verdicts.settlement, lambda: self._durable(attempt, verdicts))
        if self._budget:
            self._budget.settle(attempt.cost_high or 0, most_it_cost(verdicts.settlement))
            self._budget.show(self.progress)
        self._tally.settled(verdicts)
        self._pace.end(work, outcome)
        self._observe(outcome)
        self._go_on(work, outcome, verdicts)
        self._report_scout(work, outcome)

    def _go_on(self, work: Work, outcome: Outcome, verdicts: OutcomeDecision) -> None:
        now = self.clock.monotonic()
        match verdicts.next:
            case Again(wait_seconds):
                work.retry()
                self._supply.again(work, now + wait_seconds)
                self._kick.set()
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
        if lasting:
            self.done.add(row.source_id, row.row_number)

    def _observe(self, outcome: Outcome) -> None:
        change = self._health.observe(outcome)
        if change.shut:
            self.progress.outage = change.outage
            self._kick.set()
        if change.recovered:
            self.progress.outage = ""
            self._wake_all()
        if change.error:
            self.stop(change.error)

    def _report_scout(self, work: Work, outcome: Outcome) -> None:
        refusal = speaks_against_row(outcome)
        waiting = self._supply.waiting_for_scouts
        if self._supply.report(work, refusal) is ScoutReport.STOP and refusal is not None:
            self.stop(scout_error(refusal, self.policy.endpoint, ALIKE_BEFORE_STOP))
        self._wake(waiting)

    def _quarantine(self, row: BadRow, *, takes_room: bool) -> None:
        self.writer.put(Quarantine(row=row), lambda: self._refused(row, takes_room=takes_room))
        self._tally.gave_up(FailureKind.QUARANTINED)

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

    def _wake_all(self) -> None:
        self._wake(len(self._sleepers))

    def _wake(self, count: int) -> None:
        for _ in range(min(count, len(self._sleepers))):
            sleeper = self._sleepers.popleft()
            if not sleeper.done():
                sleeper.set_result(None)

    def _check_over(self) -> None:
        if not self._in_flight and (self.draining or self._supply.is_empty):
            self._over.set()

    async def _keep_time(self) -> None:
        """Wake workers at the moments at which something may go that could not go before."""
        while True:
            self._kick.clear()
            now = self.clock.monotonic()
            moment = self._supply.next_moment(now)
            idle = self._sleepers and self._may_send  # a worker that ends looks for itself
            if moment is None or not idle:
                await self._kick.wait()
            elif moment > now:
                await self._pace.wait(self._kick, moment - now)
            else:
                self._wake(self._supply.chances)
                await self.clock.sleep(_AGAIN_SECONDS)
