"""One bucket of a quota: ours in front, steered so that the server's stays a little filled."""

from typing import Final

_MARGIN: Final = 0.01  # below the limit, where no header tells how it stands
_BURST_SECONDS: Final = 1.0
_SETTLE_SECONDS: Final = 20.0  # in which a deviation from the set point is worked off
_SET_POINT_OF_LIMIT: Final = 0.2
_SET_POINT_OF_CAPACITY: Final = 0.4
_WANTED_REQUESTS: Final = 8  # typical ones, which a small bucket's set point covers
_NEEDED_REQUESTS: Final = 6
_NEEDED_OF_CAPACITY: Final = 0.6
_SHORTEST_STEERED: Final = 0.05  # a bucket of less than 3 s of quota is too noisy to steer by
_SLOWEST: Final = 0.5  # of the limit
_FASTEST: Final = 1.5
_EMPTY: Final = 0.2  # of the slowest, when nothing is left
_TYPICAL_WEIGHT: Final = 0.1
_FILLING_SECONDS: Final = 30.0  # until answers under way take what they will
_STALE_SECONDS: Final = 60.0  # a mirror that old says nothing any more


class QuotaLevel:
    """A local bucket that is filled at the pace at which the server's keeps its level.

    Reserve what a request is expected to take, settle what it took. `per_minute` is the
    server's limit, or the user's where the server names none; `ceiling` is the user's.
    Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_at",
        "_capacity",
        "_ceiling",
        "_level",
        "_mirror",
        "_mirror_at",
        "_rate",
        "_seen",
        "_since",
        "_steered",
        "_typical",
        "per_minute",
        "spent",
    )

    def __init__(
        self, per_minute: float, now: float, part: float, ceiling: float | None = None
    ) -> None:
        self.per_minute = per_minute
        self.spent = 0.0
        self._since = now
        self._typical = 0.0
        self._ceiling = ceiling
        self._seen: float | None = None  # the most that was ever left: the server's capacity
        self._mirror = 0.0
        self._mirror_at = float("-inf")
        self._at = now
        self.steer(part, now)
        self._level = self._capacity

    @property
    def allowed_per_minute(self) -> float:
        """The tighter of the server's and the user's limit."""
        ceiling = self._ceiling
        return self.per_minute if ceiling is None else min(self.per_minute, ceiling)

    def wait_seconds(self, cost: float, now: float) -> float:
        """Seconds until `cost` may go, 0.0 for now; too much for the bucket goes when full."""
        capacity = self._capacity
        elapsed = now - self._at
        if elapsed > 0.0:
            self._at = now
            if self._level < capacity:
                level = self._level + elapsed * self._rate
                self._level = level if level < capacity else capacity
        missing = (cost if cost < capacity else capacity) - self._level
        return missing / self._rate if missing > 1e-6 * capacity else 0.0

    def reserve(self, cost: float) -> None:
        """Take what a request that is sent now is expected to cost out of the bucket."""
        self._level -= cost
        self._typical += _TYPICAL_WEIGHT * (cost - self._typical)
        self.spent += cost

    def give_back(self, amount: float) -> None:
        """Correct a reservation that was too high by `amount`; negative: too low."""
        self.spent -= amount
        # Beyond the capacity too: most answers are shorter than the average, few much longer.
        self._level += amount

    def settle(self, unused: float) -> None:
        """An answer came, which took less than reserved by `unused`, or more.

        While the server's own bucket steers the pace it has shown that already.
        """
        if self._steered:
            self.spent -= unused
        else:
            self.give_back(unused)

    def run_dry(self, owed: float) -> None:
        """The server refused for want of this; what is `owed` will be taken nevertheless."""
        self._level = min(self._level, -owed)

    def used(self, now: float) -> float:
        """The part of the limit that was used while anything asked for it; 1.0 is all of it.

        What takes long to end after the last row went is no time in which more could have gone.
        """
        seconds = max(min(now, self._at) - self._since, 1.0)
        return self.spent / (self.allowed_per_minute / 60 * seconds)

    def read(self, limit: int | None, remaining: int | None, ahead: float, now: float) -> None:
        """The server's own words; `ahead` is what under-way requests will still take.

        `ahead` counts against what they take in a steady state, so it may be negative.
        """
        if limit is not None and limit != self.per_minute:
            if self._seen is not None:
                self._seen *= limit / self.per_minute
            self.per_minute = limit
        if remaining is not None:
            self._seen = max(self._seen or 0.0, float(remaining))
            self._mirror = remaining - ahead
            self._mirror_at = now

    def steer(self, part: float, now: float) -> None:
        """Set the pace for now; `part` of the whole is ours."""
        allowed = self.allowed_per_minute / 60 * part
        self._rate = self._pace(now) * part
        if self._ceiling is not None:
            self._rate = min(self._rate, self._ceiling / 60 * part)
        burst = allowed * _BURST_SECONDS
        if self._seen:
            burst = min(burst, _SET_POINT_OF_CAPACITY * self._seen * part)
        self._capacity = max(burst, 1.0)

    def _pace(self, now: float) -> float:
        """Per second, for all who share the quota."""
        limit = self.per_minute / 60
        pace = limit * (1 - _MARGIN)
        seen = self._seen
        tells = now - self._mirror_at <= _STALE_SECONDS
        if seen is None or seen < _SHORTEST_STEERED * self.per_minute or not tells:
            self._steered = False
            return pace
        self._steered = self._ceiling is None or self._ceiling >= self.per_minute
        set_point = self._set_point(seen)
        pace += (self._mirror - set_point) / _SETTLE_SECONDS
        filled = min(max(self._mirror / (0.5 * set_point), _EMPTY), 1.0)
        fastest = _FASTEST if now - self._since > _FILLING_SECONDS else 1.0
        return min(max(pace, _SLOWEST * limit) * filled, fastest * limit)

    def _set_point(self, seen: float) -> float:
        """How much the server's bucket shall hold: some seconds, and enough large requests."""
        wanted = max(_SET_POINT_OF_LIMIT * self.per_minute, _WANTED_REQUESTS * self._typical)
        needed = min(_NEEDED_REQUESTS * self._typical, _NEEDED_OF_CAPACITY * seen)
        return min(wanted, max(_SET_POINT_OF_CAPACITY * seen, needed))
