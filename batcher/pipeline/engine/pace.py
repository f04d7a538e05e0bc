"""Between the engine and what paces it: what outcomes say about quotas and about the server.

Also the workers that found nothing to send, and the moments at which they look again.
"""

import asyncio
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from batcher.clock import Clock
from batcher.errors import Busy, ProviderUnavailable
from batcher.messages.answer import Answer
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import (
    Answered,
    NotSent,
    Outcome,
    Partial,
    Rejected,
    Unknown,
    Unusable,
)
from batcher.pacing.backoff import Breaker
from batcher.pacing.limits import Expected
from batcher.pacing.pacer import Pacer, Reservation
from batcher.pacing.pool import Refusal
from batcher.pipeline.engine.decide import (
    ABORTED,
    failure_of,
    in_doubt,
    met_overload,
    uses_up_patience,
)
from batcher.pipeline.engine.work import Work
from batcher.pipeline.progress import Progress

_REFUSED: Final = 300  # HTTP statuses from here on say so at once
_FAILED: Final = 500
_RAMP: Final = "ramp_limit_exceeded"  # too steep a rise of usage, not too much of it


class Pace:
    """Asks the pacer about works and tells it their outcomes; moments are monotonic seconds."""

    def __init__(self, pacer: Pacer, clock: Clock, waiting: int = 0) -> None:
        self._waiting = waiting
        self._pacer = pacer
        self._clock = clock
        self.concurrency = pacer.concurrency

    async def wait(self, kick: asyncio.Event, seconds: float) -> None:
        """Return after `seconds`, or as soon as `kick` is set."""
        waits: list[asyncio.Task[Any]] = [
            asyncio.create_task(kick.wait()),
            asyncio.create_task(self._clock.sleep(seconds)),
        ]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def has_room(self, in_flight: int, held_back: int) -> bool:
        """Whether one more may be in flight, as the server bears it; `held_back`: fewer."""
        return in_flight < max(self.concurrency.allowed - held_back, 1) + self._waiting

    def at_most(self, chances: int) -> int:
        """How many of so many may go, as the server bears it; at least one may try."""
        room = self._pacer.room
        return chances if room is None else min(chances, max(room, 1) + self._waiting)

    def wait_seconds(self, work: Work, now: float) -> float:
        """Seconds until `work` may go; 0.0: now."""
        request = work.request
        if work.expected is None:
            work.expected = self._pacer.expect(
                request.model, len(request.body), request.max_tokens
            )
        return self._pacer.may_send(request.model, work.expected, now)

    def begin(self, work: Work, now: float) -> None:
        """Take what `work` is expected to use out of its quota; `wait_seconds` gave 0.0."""
        expected = work.expected or Expected(0.0, 0.0)
        work.reservation = self._pacer.sent(work.request.model, expected, now)
        work.expected = None

    def withdraw(self, work: Work) -> None:
        """Give back what `begin` took: `work` is not sent after all."""
        if work.reservation is not None:
            self._pacer.refunded(work.reservation)
            work.reservation = None

    def end(self, work: Work, outcome: Outcome) -> None:
        """Its attempt ended: what it took, and what that says about the server."""
        reservation, work.reservation = work.reservation, None
        if reservation is None:
            return
        now = self._clock.monotonic()
        match outcome:
            case Answered():
                self._pacer.settled(reservation, _taken(outcome.answer), now)
                self._pacer.concurrency.good(now)
            case Rejected() | Partial() if outcome.failure.verdict is Verdict.PAUSE_QUOTA:
                self._pacer.refused(reservation, self._refusal(outcome.failure), now)
            case Rejected():
                self._rejected(reservation, outcome, now)
            case NotSent():
                self._pacer.refunded(reservation)
            case Unknown() | Partial() if outcome.failure.error_type != ABORTED:
                self._pacer.settled(reservation, None, now)
                self._pacer.concurrency.bad(now)
            case Unknown() | Partial() | Unusable():
                self._pacer.settled(reservation, None, now)

    def _rejected(self, reservation: Reservation, outcome: Rejected, now: float) -> None:
        self._pacer.refunded(reservation)
        overloaded = outcome.failure.verdict is Verdict.OVERLOADED  # also inside a 200
        if overloaded or (outcome.exchange.http_status or 0) >= 500:
            self._pacer.concurrency.bad(now)

    def _refusal(self, failure: Failure) -> Refusal:
        return Refusal(
            failure.retry_after_seconds, self._clock.random(), failure.error_code == _RAMP
        )


def _taken(answer: Answer) -> Expected | None:
    """What counts towards the token quotas: the provider does not count cache reads."""
    usage = answer.usage
    if usage is None or usage.input_tokens is None or usage.output_tokens is None:
        return None
    return Expected(usage.input_tokens + (usage.cache_write_tokens or 0), usage.output_tokens)


LONG_SECONDS: Final = 60.0


class LongWaits:
    """Tells people of waits that a server asks for, once each, with the moment at their end.

    `max_runtime_seconds` is how long the run may take, from now on; `None`: without a limit.
    """

    def __init__(
        self,
        pacer: Pacer,
        clock: Clock,
        endpoint: str,
        say: Callable[[str], None],
        max_runtime_seconds: float | None,
    ) -> None:
        self._pacer = pacer
        self._clock = clock
        self._endpoint = endpoint
        self._say = say
        self._told = float("-inf")
        self._ends = math.inf
        if max_runtime_seconds is not None:
            self._ends = clock.monotonic() + max_runtime_seconds

    def meet(self, failure: Failure) -> Busy | None:
        """The server asks for such a wait; gives why the run ends, if it must."""
        seconds = failure.retry_after_seconds or 0.0
        until = self._clock.monotonic() + seconds
        end = datetime.fromtimestamp(self._clock.now_us() / 1e6 + seconds, UTC)
        said = " ".join(failure.message.split())[:200]
        words = (
            f"endpoint {self._endpoint} asks to wait until {end:%Y-%m-%d %H:%M:%S} UTC"
            f" ({failure.error_code or failure.error_type}: {said})"
        )
        if self._pacer.all_paused_until > self._ends:
            return Busy(f"{words}, which is beyond --max-runtime: type the command again then")
        if until > self._told + LONG_SECONDS:
            self._told = until
            self._say(words)
        return None


@dataclass(frozen=True, slots=True)
class Change:
    """What follows from an outcome, besides what becomes of its row.

    `shut`: less may go than before. `recovered`: everybody who waited may try. `outage`: what
    to tell people while nothing but probes goes. `error`: the server has been down, or wants us
    to wait, for longer than we do.
    """

    shut: bool = False
    recovered: bool = False
    outage: str = ""
    error: ProviderUnavailable | Busy | None = None


_NOTHING: Final = Change()


MOST_PAID_PROBES: Final = 8


class Health:
    """Keeps the breaker informed."""

    def __init__(
        self, breaker: Breaker, clock: Clock, endpoint: str, waits: LongWaits | None = None
    ) -> None:
        self._breaker = breaker
        self._clock = clock
        self._endpoint = endpoint
        self._waits = waits
        self._paid_probes = 0  # in a row, without an answer
        self._failing: Work | None = None  # the first row that failed since the last answer
        self._several_fail = False

    def blames(self, work: Work) -> bool:
        """Whether a failure of `work` may be its own fault: no other row fails beside it."""
        return not (self._fails_too(work) and self._breaker.is_suspect)

    def observe(self, outcome: Outcome, work: Work, *, is_old: bool = False) -> Change:
        """Tell the pacing what `outcome` of `work` says about the server's state.

        `is_old`: a batch did it some time ago. Its results were had just now, and they alone
        say something.
        """
        if is_old or isinstance(outcome, Answered):
            return self._alive()
        failure = failure_of(outcome)
        late = None
        if (failure.retry_after_seconds or 0.0) > LONG_SECONDS and self._waits is not None:
            late = self._waits.meet(failure)
        if failure.verdict is Verdict.PAUSE_QUOTA and not server_is_down(outcome):
            return Change(shut=True, recovered=self._alive().recovered, error=late)
        if server_is_down(outcome):
            self._breaker.failed(self._clock.monotonic())
            self._several_fail = self._fails_too(work)
            self._failing = self._failing or work
            self._paid_probes += work.is_probe and in_doubt(outcome)
            error = late or self._given_up(failure)
            return Change(shut=True, outage=self._outage(failure), error=error)
        return self._alive()

    def count(self, work: Work, outcome: Outcome) -> None:
        """Hold against `work` what an attempt of it that brought no answer says of it."""
        doubt = in_doubt(outcome)
        work.count(
            used_up=uses_up_patience(outcome),
            overloaded=met_overload(outcome),
            doubt=doubt,
            blamed=doubt and self.blames(work),
        )

    def heard(self) -> Change:
        """The server took something, although no outcome of it is known yet."""
        return self._alive()

    def _fails_too(self, work: Work) -> bool:
        """Whether another row than `work` failed since the last answer."""
        return self._several_fail or not (self._failing is None or self._failing is work)

    def _alive(self) -> Change:
        waited = self._breaker.is_open or self._breaker.held_back
        self._breaker.succeeded()
        self._paid_probes = 0
        self._failing, self._several_fail = None, False
        return Change(recovered=True) if waited else _NOTHING

    def _given_up(self, failure: Failure) -> ProviderUnavailable | None:
        if self._paid_probes >= MOST_PAID_PROBES:
            return ProviderUnavailable(
                f"{self._silent(failure)}; {self._paid_probes} rows that tried in turn may have"
                " been billed in vain: type the same command again when it is back"
            )
        if not self._breaker.gives_up(self._clock.monotonic()):
            return None
        return ProviderUnavailable(
            f"{self._silent(failure)}; nothing is lost: type the same command again when it is"
            " back"
        )

    def _outage(self, failure: Failure) -> str:
        if not self._breaker.is_open:
            return ""
        seconds = self._breaker.patience_seconds
        return f"{self._silent(failure)}: one row at a time tries, for {seconds:,.0f} s at most"

    def _silent(self, failure: Failure) -> str:
        why = f"{failure.error_type}: {failure.message[:300]}"
        return f"endpoint {self._endpoint} does not answer ({why})"


def server_is_down(outcome: Outcome) -> bool:
    """Whether this outcome says that the server is not there or not able to work.

    So it does when a stream breaks off, or when 200 comes with a page of a proxy: whatever may
    have been billed and brought no answer, and whatever it asks to try again.
    """
    if isinstance(outcome, Answered):
        return False
    if isinstance(outcome, (NotSent, Unknown, Partial, Unusable)):
        return True
    verdict, status = outcome.failure.verdict, outcome.exchange.http_status or 0
    begun = status < _REFUSED and verdict is Verdict.PAUSE_QUOTA  # said after the work began
    return begun or verdict in {Verdict.OVERLOADED, Verdict.RETRY_ROW} or status >= _FAILED


_AGAIN_SECONDS: Final = 0.01  # between two looks when woken workers found nothing they may send


class WaitingRows(Protocol):
    """What workers wake for."""

    @property
    def chances(self) -> int:
        """How many workers may find something to send, when it is time, at most."""

    def next_moment(self, now: float) -> float | None:
        """When there may be something to send that is not there now; `None`: not by waiting."""


class Waking:
    """Puts workers to sleep and wakes them; all methods belong to the event loop's thread.

    `may_send` says whether anything may leave at all at the moment.
    """

    def __init__(
        self, supply: WaitingRows, pace: Pace, clock: Clock, may_send: Callable[[], bool]
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
