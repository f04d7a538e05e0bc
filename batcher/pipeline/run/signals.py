"""A first signal drains, a second aborts; and with which code a run ends, and why."""

import asyncio
import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.clock import Clock
from batcher.errors import BatcherError, Busy
from batcher.ledger.connect import Connection
from batcher.ledger.money.budget import unclear_charges
from batcher.ledger.write.records import answered_after, unfinished_rows
from batcher.pipeline.events import LATE, Observer
from batcher.pipeline.job import HEARD, Job, SignalWays
from batcher.pipeline.run.plan import PlannedSource

_ONE_SECONDS: Final = 1.0
_ONE_WITH_SIGTERM: Final = (signal.SIGTERM, signal.SIGHUP)


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
        late := answered_after(connection, sources, job.deadline.at_us)
    ):
        counts[LATE] = late
    return counts


_ROWS_WITHOUT_ANSWER: Final = 65
_ABORTED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}


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
