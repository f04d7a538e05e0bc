"""How many may be in flight: a cap that gives way while the server is overloaded."""

from typing import Final

_HALF_WINDOW_SECONDS: Final = 10.0
_BAD_SHARE: Final = 0.1
_FEWEST: Final = 20  # outcomes before a share means anything
_CUT: Final = 0.7
_CUT_EVERY_SECONDS: Final = 5.0
_GROWTH: Final = 1.02  # per success


class Concurrency:
    """The user's cap, cut while more than a tenth of the outcomes say overload.

    Told of 529, 5xx and time-outs only: a 429 is the quota's business. Moments are seconds of a
    monotonic clock. Source: reliability, 1.2.
    """

    __slots__ = ("_allowed", "_before", "_cap", "_counts", "_next_cut", "_turn")

    def __init__(self, cap: int) -> None:
        self._cap = cap
        self._allowed = float(cap)
        self._before = (0, 0)  # good and bad ones of the half window before
        self._counts = [0, 0]
        self._turn = 0.0
        self._next_cut = 0.0

    @property
    def allowed(self) -> int:
        """How many may be in flight now; at least 1."""
        return int(self._allowed)

    @property
    def is_cut(self) -> bool:
        """Whether it is less than the user's cap."""
        return self._allowed < self._cap

    def good(self, now: float) -> None:
        """The server did what it was asked for."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[0] += 1
        if self._allowed < self._cap:
            self._allowed = min(self._allowed * _GROWTH, float(self._cap))

    def bad(self, now: float) -> None:
        """The server could not do it, or not in time."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[1] += 1
        good, bad = self._before[0] + self._counts[0], self._before[1] + self._counts[1]
        enough = good + bad >= _FEWEST and bad > _BAD_SHARE * (good + bad)
        if enough and now >= self._next_cut:
            self._next_cut = now + _CUT_EVERY_SECONDS
            self._allowed = max(self._allowed * _CUT, 1.0)

    def _turn_over(self, now: float) -> None:
        recent = now < self._turn + _HALF_WINDOW_SECONDS
        self._before = (self._counts[0], self._counts[1]) if recent else (0, 0)
        self._counts = [0, 0]
        self._turn = now + _HALF_WINDOW_SECONDS
