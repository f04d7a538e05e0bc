"""What stops a run early, and with which code it ends, and why.

A first signal drains, a second aborts; under `[guard]` answers that are not what the same job's
answers were stop it, too.
"""

import asyncio
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from typing import Final

from batcher.clock import Clock
from batcher.errors import BatcherError, Busy, GuardStopped
from batcher.ledger.connect import Connection
from batcher.ledger.money.budget import UsualAnswers, unclear_charges
from batcher.ledger.write.records import Settlement, answered_after, unfinished_rows
from batcher.messages.answer import Answer
from batcher.messages.request import Answered, NotSent
from batcher.pipeline.choices import GuardLimits
from batcher.pipeline.engine.decide import ABORTED
from batcher.pipeline.engine.policies import TRUNCATED
from batcher.pipeline.job import HEARD, Job, SignalWays
from batcher.pipeline.progress import LATE, Observer
from batcher.pipeline.run.plan import PlannedSource
from batcher.pricing.money import format_usd

_ONE_SECONDS: Final = 1.0
_ONE_WITH_SIGTERM: Final = (signal.SIGTERM, signal.SIGHUP)
_ROWS_WITHOUT_ANSWER: Final = 65
_ABORTED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}
_USUAL_SHARE: Final = 0.05  # of answers is never too much, whatever was before
_USUAL_LATENCY_US: Final = 1_000_000  # nor is this, on the average
_DEVIATIONS: Final = 3  # that chance may add to a share
_NOBODY_S_FAULT: Final = (429, 529)  # these wait, and say nothing of rows or answers
_WORDS: Final = {
    "input_tokens": "input tokens an answer, cached ones too",
    "output_tokens": "output tokens an answer",
    "cost": "an answer",
    "latency": "seconds until the answer",
    "refusals": "of the answers refusals",
    "truncations": "of the answers cut off",
    "invalid": "of the answers against their schema",
    "failures": "of the attempts failed",
}
_MEANS: Final = ("input_tokens", "output_tokens", "cost", "latency")
_Row = dict[str, int]  # what one attempt adds to the sums; "answers" is 1 for an answer


@dataclass(frozen=True, slots=True)
class SignalActions:
    """What a run does when it is told to: send nothing more, then cut off what is in flight."""

    drain: Callable[[], None]
    abort: Callable[[], None]


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into a drain, then an abort.

    A hang-up only ever drains: a closed terminal must not cut off paid work; under `nohup` it
    does nothing. Two SIGTERMs within a second are one: a service manager sends one to the first
    process and one to all, a supervisor passes on what came to it too. So are a hang-up and a
    SIGTERM: who logs out gets both, and the kernel delivers the hang-up first. `aborted_by` is
    the signal that cut requests off, or whose drain took too long.
    """

    def __init__(
        self,
        actions: SignalActions,
        observer: Observer,
        clock: Clock,
        drain_timeout_seconds: float,
        ways: SignalWays,
    ) -> None:
        self._actions = actions
        self._ways = ways
        self._observer = observer
        self._clock = clock
        self._drain_timeout_seconds = drain_timeout_seconds
        self._deadline: asyncio.Task[None] | None = None
        heard = [number for number in HEARD if not _is_ignored_hang_up(number)]
        self._before = {number: signal.getsignal(number) for number in heard}
        self._since = 0.0
        self.received: signal.Signals | None = None
        self.aborted_by: signal.Signals | None = None

    def __enter__(self) -> "Signals":
        loop = asyncio.get_running_loop()
        if self._ways.told is not None:
            self._ways.told(lambda number: loop.call_soon_threadsafe(self._received, number))
            return self
        for number in self._before:
            loop.add_signal_handler(number, self._received, number)
        return self

    def __exit__(self, *_: object) -> None:
        if self._ways.told is None:
            self._give_back()
        if self._deadline:
            self._deadline.cancel()

    def _give_back(self) -> None:
        """To whoever had them: the default would end the process, or nobody would as PID 1."""
        loop = asyncio.get_running_loop()
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, self._before)
        for number, handler in self._before.items():
            loop.remove_signal_handler(number)
            signal.signal(number, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def _received(self, number: signal.Signals) -> None:
        now = self._clock.monotonic()
        is_said_again = number is signal.SIGTERM and self.received in _ONE_WITH_SIGTERM
        if is_said_again and now - self._since < _ONE_SECONDS:
            return
        self._ways.pass_on(number)
        if self.received is None:
            self.received, self._since = number, now
            self._observer.draining(f"{number.name} received")
            self._actions.drain()
            self._deadline = asyncio.create_task(self._abort_late(number))
        elif number is not signal.SIGHUP:
            self._abort(number)

    async def _abort_late(self, number: signal.Signals) -> None:
        await self._clock.sleep(self._drain_timeout_seconds)
        self._abort(number)

    def _abort(self, number: signal.Signals) -> None:
        self.aborted_by = number
        self._actions.abort()


def _is_ignored_hang_up(number: signal.Signals) -> bool:
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


class AnswerGuard:
    """Holds the first answers, then always the latest ones, against those of earlier runs."""

    def __init__(self, limits: GuardLimits, usual: UsualAnswers) -> None:
        self._limits = limits
        self._usual = usual
        self._rows: deque[_Row] = deque()
        self._sums = dict.fromkeys(("answers", *_WORDS), 0)

    def judged(self, settlement: Settlement) -> GuardStopped | None:
        """Count an attempt that ended; the error to end with when it is enough."""
        row = _row_of(settlement)
        if row is None:
            return None
        self._rows.append(row)
        self._add(row, 1)
        if len(self._rows) > self._limits.window:
            self._add(self._rows.popleft(), -1)
        for name, factor in self._limits.factors.items():
            if self._is_beyond(name, factor):
                return GuardStopped(self._sentence(name, factor))
        return None

    def _add(self, row: _Row, sign: int) -> None:
        for name, number in row.items():
            self._sums[name] += sign * number

    def _is_beyond(self, name: str, factor: Fraction) -> bool:
        now, count = self._now(name)
        before, known = self._before(name)
        if count < self._limits.rows:
            return False
        if name == "latency" and now <= _USUAL_LATENCY_US * count:
            return False
        if name in _MEANS:
            return before > 0 and now * known > factor * before * count
        share = before / known
        chance = _DEVIATIONS * sqrt(share * (1 - share) / count)
        return now / count > max(_USUAL_SHARE, float(factor) * share + chance)

    def _now(self, name: str) -> tuple[int, int]:
        """What it comes to, in how many."""
        failures = self._sums["failures"] if name == "failures" else 0
        return self._sums[name], self._sums["answers"] + failures

    def _before(self, name: str) -> tuple[int, int]:
        failures = self._usual.failures if name == "failures" else 0
        return getattr(self._usual, name), self._usual.answers + failures

    def _sentence(self, name: str, factor: Fraction) -> str:
        now, usual = (_shown(name, *each) for each in (self._now(name), self._before(name)))
        return (
            f"[guard] {name}: the latest {self._now(name)[1]:,} have {now} {_WORDS[name]},"
            f" where the {self._before(name)[1]:,} before had {usual}, and {float(factor):g}"
            " times that stops the run: look at batcher answers and batcher report --last run;"
            f" if it is meant, give {name} a larger factor in [guard] and type the same command"
        )


def guard_for(limits: GuardLimits | None, usual: UsualAnswers | None) -> AnswerGuard | None:
    """A guard, where one is wanted and there is enough to compare with."""
    if limits is None or usual is None or usual.answers < limits.rows:
        return None
    return AnswerGuard(limits, usual)


def guard_note(limits: GuardLimits | None, usual: UsualAnswers | None) -> tuple[str, ...]:
    """What to say at the start where a guard is wanted and has nothing to compare with."""
    if limits is None or usual is None or usual.answers >= limits.rows:
        return ()
    return (
        f"[guard] compares nothing yet: this job has {usual.answers:,} answers from before,"
        f" and {limits.rows:,} are needed",
    )


def _row_of(settlement: Settlement) -> _Row | None:
    outcome = settlement.outcome
    if isinstance(outcome, Answered):
        took = outcome.exchange.settled_at - outcome.exchange.sent_at
        return _row_of_answer(settlement, outcome.answer, took)
    status = outcome.exchange.http_status
    waits = isinstance(outcome, NotSent) or status in _NOBODY_S_FAULT
    return None if waits or outcome.failure.error_type == ABORTED else {"failures": 1}


def _row_of_answer(settlement: Settlement, answer: Answer, took_us: int) -> _Row:
    usage, charges = answer.usage, settlement.charges
    read = usage and (usage.input_tokens, usage.cache_read_tokens, usage.cache_write_tokens)
    return {
        "answers": 1,
        "input_tokens": sum(filter(None, read or ())),
        "output_tokens": (usage.output_tokens if usage else 0) or 0,
        "cost": sum(c.total or 0 for c in charges if c.rates and c.rates.currency == "USD"),
        "latency": took_us,
        "refusals": int(answer.stop_reason == "refusal"),
        "truncations": int(answer.stop_reason in TRUNCATED),
        "invalid": int(settlement.valid is False),
    }


def _shown(name: str, total: int, count: int) -> str:
    if name == "cost":
        return format_usd(total // count)
    if name == "latency":
        return f"{total / count / 1_000_000:,.3g}"
    return f"{total / count:,.1f}" if name in _MEANS else f"{total / count:.1%}"


def why_stopped(signals: Signals, *, out_of_time: bool, seconds: float | None) -> str:
    """What ended a run before its rows were done; empty where nothing did."""
    if signals.aborted_by is not None:
        return f"aborted by {signals.aborted_by.name}: what was in flight is in doubt"
    if signals.received is not None:
        return f"{signals.received.name} received, rows are left"
    return f"--max-runtime of {seconds or 0:g} s is over, rows are left" if out_of_time else ""


def minded(
    connection: Connection, job: Job, run_id: int, plan: Sequence[PlannedSource]
) -> dict[str, int]:
    """What keeps a run that is done from ending with 0, by kind: see `Ended`."""
    sources = {source.source_id for source in plan}
    counts = unfinished_rows(connection, sources)
    if job.strict:
        counts |= unclear_charges(connection, run_id)
    if job.deadline is not None and (
        late := answered_after(connection, sources, job.deadline.counts_from_us)
    ):
        counts[LATE] = late
    return counts


def exit_code(
    error: BaseException | None,
    signals: Signals,
    counts: Mapping[str, int],
    *,
    left: bool,
    out_of_time: bool,
) -> int:
    """See docs/exit-codes.md. `counts` are rows without an answer, `left`: some wait."""
    if isinstance(error, BatcherError):
        return error.exit_code
    if signals.aborted_by is not None:
        return _ABORTED[signals.aborted_by]
    if error is not None:
        return BatcherError.exit_code
    if left and (signals.received is not None or out_of_time):
        return Busy.exit_code
    return _ROWS_WITHOUT_ANSWER if counts else 0
