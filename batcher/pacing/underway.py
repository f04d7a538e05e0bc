"""Output that requests under way will still take from the quota, seen and to be expected."""

from typing import Final

from batcher.pacing.estimates import Average

_FIRST_SECONDS: Final = 10.0  # how long an answer takes, before the first one came


class UnderWay:
    """What was reserved for requests that have not ended.

    A server debits output while it is produced, so its remaining quota does not show yet what
    requests under way will take. An answer is thought to come evenly over the average time.
    Moments are seconds of a monotonic clock.
    """

    __slots__ = ("_open", "_owed_seconds", "_seconds", "_token")

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, float]] = {}  # what was reserved, and when
        self._token = 0
        self._seconds = Average(_FIRST_SECONDS, 0.02)
        self._owed_seconds = Average(_FIRST_SECONDS / 2, 0.02)

    def begin(self, output_tokens: float, now: float) -> int:
        """A request goes; returns the number by which `end` knows it."""
        self._token += 1
        self._open[self._token] = (output_tokens, now)
        return self._token

    def end(self, number: int) -> None:
        """It ended, one way or another."""
        self._open.pop(number, None)

    def took(self, seconds: float) -> None:
        """An answer was complete after `seconds`."""
        self._seconds.add(seconds)
        whole = max(self._seconds.value, 1e-3)
        part = min(seconds, whole)
        self._owed_seconds.add(part - part * part / (2 * whole))

    def owed(self, now: float) -> float:
        """Tokens that those under way will still take."""
        whole = max(self._seconds.value, 1e-3)
        end = now - whole
        return sum(
            tokens * (since - end) for tokens, since in self._open.values() if since > end
        ) / whole  # fmt: skip

    def owed_at_worst(self) -> float:
        """The same when answers turn out long: those that run late have much still to come."""
        return sum(tokens for tokens, _ in self._open.values()) / 2

    def owed_steadily(self, tokens_per_second: float) -> float:
        """The same in a steady state with that throughput."""
        return tokens_per_second * self._owed_seconds.value
