"""What limits a run at present, and how much of each quota it uses; for people to read."""

from dataclasses import dataclass
from typing import Final

from batcher.pacing.limits import Limit

_HALF_WINDOW_SECONDS: Final = 5.0


@dataclass(frozen=True, slots=True)
class QuotaUse:
    """One bucket of one quota: its limit per minute and the part of it that was used.

    `quota` names the model class. `used` is the part since the limit became known, 1.0 for all
    of it; the burst that the server saved up beforehand may carry it beyond.
    """

    quota: str
    limit: Limit
    per_minute: float
    used: float


class Blame:
    """Which limit made requests wait lately. Moments are seconds of a monotonic clock."""

    __slots__ = ("_before", "_counts", "_turn")

    def __init__(self) -> None:
        self._before: dict[Limit, int] = {}
        self._counts: dict[Limit, int] = {}
        self._turn = 0.0

    def add(self, cause: Limit, now: float) -> None:
        """A request had to wait for `cause`."""
        if now >= self._turn:
            self._turn_over(now)
        self._counts[cause] = self._counts.get(cause, 0) + 1

    def main(self, now: float) -> Limit | None:
        """What most of them waited for in the last seconds; `None` when nothing waited."""
        if now >= self._turn:
            self._turn_over(now)
        both = {
            cause: self._before.get(cause, 0) + self._counts.get(cause, 0)
            for cause in {**self._before, **self._counts}
        }
        return max(both, key=both.__getitem__, default=None)

    def _turn_over(self, now: float) -> None:
        recent = now < self._turn + _HALF_WINDOW_SECONDS
        self._before = self._counts if recent else {}
        self._counts = {}
        self._turn = now + _HALF_WINDOW_SECONDS
