"""Signals where no run hears them itself: while one starts, waits or ends, and elsewhere.

Python leaves SIGTERM and SIGHUP to the kernel, which ends the process without a word, and as
the first process of a container does nothing at all.
"""

import signal
import sys
from types import FrameType
from typing import Final, NoReturn

from batcher.clock import SystemClock

_HEARD: Final = (signal.SIGTERM, signal.SIGHUP)
_ONE_SECONDS: Final = 1.0
# What is under way is not lost: the same command does it. Of others nobody expects that.
_AGAIN, _ENDED = 75, 143


class Interrupted(BaseException):
    """A signal came, and what is done now ends; nobody in between is to take it for trouble."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(number.name)
        self.number = number

    @property
    def exit_code(self) -> int:
        """That of the command which was typed."""
        return _AGAIN if _is_run() else _ENDED

    def __str__(self) -> str:
        again = "; type the same command again" if _is_run() else ""
        return f"{self.number.name} received: ended before its time{again}"


def aborted_words() -> str:
    """What is said of a Ctrl-C that no run heard itself."""
    kept = ": every answer is in the ledger; type the same command again" if _is_run() else ""
    return f"aborted{kept}"


def heed_signals() -> None:
    """Raise `Interrupted` for them from now on; two within a second are one.

    One that is ignored, as under `nohup`, stays so.
    """
    clock = SystemClock()
    last: list[float] = []

    def interrupt(number: int, _: FrameType | None) -> None:
        now = clock.monotonic()
        if not last or now - last[-1] >= _ONE_SECONDS:
            last.append(now)
            raise Interrupted(signal.Signals(number))

    for number in _HEARD:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, interrupt)


def end_with(code: int) -> NoReturn:
    """End: all is done and told, and a signal that comes now changes nothing about it.

    Python gives signals back to the kernel before it has ended, but for those that are ignored.
    """
    for number in (*_HEARD, signal.SIGINT):
        signal.signal(number, signal.SIG_IGN)
    sys.exit(code)


def _is_run() -> bool:
    return sys.argv[1:2] == ["run"]
