"""Time and randomness, in one place, so that tests can own them."""

import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

# Linux stops its monotonic clock while the machine sleeps, and has another that goes on.
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class Clock(Protocol):
    """What the program knows of time and chance."""

    def now_us(self) -> int:
        """The wall clock: microseconds since 1970-01-01 UTC."""

    def monotonic(self) -> float:
        """Seconds since some fixed moment; never goes back."""

    def random(self) -> float:
        """A number in [0, 1), for jitter; not for secrets."""

    def token(self) -> str:
        """Eight hexadecimal digits of chance, for a name that never comes again."""

    async def sleep(self, seconds: float) -> None:
        """Return after `seconds`; at once when they are zero or less."""


class SystemClock:
    """See `Clock`: the machine's own time."""

    def now_us(self) -> int:
        """See `Clock.now_us`."""
        return time.time_ns() // 1000

    # See `Clock`: the machine's own functions, since every row asks for them several times.
    monotonic = staticmethod(time.monotonic)
    random = staticmethod(random.random)

    def token(self) -> str:
        """See `Clock.token`; a forked process draws others, too."""
        return os.urandom(4).hex()

    async def sleep(self, seconds: float) -> None:
        """See `Clock.sleep`."""
        import asyncio  # noqa: PLC0415 - a third of what `batcher --help` takes to start

        await asyncio.sleep(max(seconds, 0))


def boot_seconds() -> float:
    """Seconds since some fixed moment, also those in which the machine was asleep."""
    return time.clock_gettime(_BOOT_CLOCK)


def seeded(seed: str) -> Callable[[], float]:
    """Numbers in [0, 1) that are always the same for the same `seed`; not for secrets."""
    return random.Random(seed).random


def microseconds(moment: datetime) -> int:
    """Microseconds UTC since 1970; exact."""
    return (moment - _EPOCH) // _MICROSECOND


def moment_of(moment_us: int) -> datetime:
    """The aware UTC datetime of microseconds since 1970; exact."""
    return _EPOCH + timedelta(microseconds=moment_us)
