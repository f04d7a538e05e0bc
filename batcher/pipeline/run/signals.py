"""A first signal drains, a second aborts; and with which code a run ends."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from typing import Final

from batcher.clock import Clock
from batcher.errors import BatcherError, Busy
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.events import Observer

_DRAINING: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signals:
    """Turns SIGINT, SIGTERM and SIGHUP into a drain, then an abort.

    A hang-up only ever drains: a closed terminal must not cut off paid work; under `nohup` it
    does nothing. `aborted_by` is the signal that cut requests off, or whose drain took too
    long. `pass_on` is called with every signal that comes.
    """

    def __init__(
        self,
        engine: Engine,
        observer: Observer,
        clock: Clock,
        drain_timeout_seconds: float,
        pass_on: Callable[[signal.Signals], None] | None = None,
    ) -> None:
        self._pass_on = pass_on or (lambda _: None)
        self._engine = engine
        self._observer = observer
        self._clock = clock
        self._drain_timeout_seconds = drain_timeout_seconds
        self._deadline: asyncio.Task[None] | None = None
        self._heard = [number for number in _DRAINING if not _is_ignored_hang_up(number)]
        self.received: signal.Signals | None = None
        self.aborted_by: signal.Signals | None = None

    def __enter__(self) -> "Signals":
        loop = asyncio.get_running_loop()
        for number in self._heard:
            loop.add_signal_handler(number, self._received, number)
        return self

    def __exit__(self, *_: object) -> None:
        loop = asyncio.get_running_loop()
        for number in self._heard:
            loop.remove_signal_handler(number)
        if self._deadline:
            self._deadline.cancel()

    def _received(self, number: signal.Signals) -> None:
        self._pass_on(number)
        if self.received is None:
            self.received = number
            self._observer.draining(f"{number.name} received")
            self._engine.drain()
            self._deadline = asyncio.create_task(self._abort_late(number))
        elif number is not signal.SIGHUP:
            self._abort(number)

    async def _abort_late(self, number: signal.Signals) -> None:
        await self._clock.sleep(self._drain_timeout_seconds)
        self._abort(number)

    def _abort(self, number: signal.Signals) -> None:
        self.aborted_by = number
        self._engine.abort()


def _is_ignored_hang_up(number: signal.Signals) -> bool:
    return number is signal.SIGHUP and signal.getsignal(number) is signal.SIG_IGN


def why_stopped(signals: Signals, *, out_of_time: bool, seconds: float | None) -> str:
    """What ended a run before its rows were done; empty where nothing did."""
    if signals.aborted_by is not None:
        return f"aborted by {signals.aborted_by.name}: what was in flight is in doubt"
    if signals.received is not None:
        return f"{signals.received.name} received, rows are left"
    return f"--max-runtime of {seconds or 0:g} s is over, rows are left" if out_of_time else ""


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
