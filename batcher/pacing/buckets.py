"""What a quota is steered by: a bucket of ours, so that the server's stays a little filled.

Where a server names no limits the pace is learned from its refusals, and what requests take,
in tokens, from the requests before.
"""

from typing import Final

from batcher.pacing.limits import Expected

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
_FILLING_SECONDS: Final = 30.0  # until answers under way take what they will of output
_FRESH_SECONDS: Final = 5.0  # what the server said so lately holds, of what it debits at once
_STALE_SECONDS: Final = 60.0  # a mirror that old says nothing any more


class QuotaLevel:
    """A local bucket that is filled at the pace at which the server's keeps its level.

    Reserve what a request is expected to take, settle what it took. `per_minute` is the
    server's limit, or the user's where the server names none; `ceiling` is the user's.
    Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_at", "_capacity", "_ceiling", "_debited_late", "_level", "_mirror", "_mirror_at",
        "_rate", "_seen", "_since", "_steered", "_typical", "per_minute", "spent",
    )  # fmt: skip

    def __init__(
        self,
        per_minute: float,
        now: float,
        part: float,
        ceiling: float | None = None,
        *,
        debited_late: bool = False,
    ) -> None:
        self.per_minute = per_minute
        self.spent = 0.0
        self._since = now
        self._debited_late = debited_late
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
        is_filled = now - self._since > _FILLING_SECONDS
        is_fresh = not self._debited_late and now - self._mirror_at < _FRESH_SECONDS
        fastest = _FASTEST if is_filled or is_fresh else 1.0
        return min(max(pace, _SLOWEST * limit) * filled, fastest * limit)

    def _set_point(self, seen: float) -> float:
        """How much the server's bucket shall hold: some seconds, and enough large requests."""
        wanted = max(_SET_POINT_OF_LIMIT * self.per_minute, _WANTED_REQUESTS * self._typical)
        needed = min(_NEEDED_REQUESTS * self._typical, _NEEDED_OF_CAPACITY * seen)
        return min(wanted, max(_SET_POINT_OF_CAPACITY * seen, needed))


_BELOW: Final = 0.98  # of what the server let in
_SMALLEST: Final = 0.7  # of the pace before: one measurement may be wrong
_ENOUGH: Final = 50  # requests to measure a pace by
_ENOUGH_SECONDS: Final = 30.0
_MEASURED_SECONDS: Final = 60.0  # before the first refusal, and twice as long after it
_SOON_SECONDS: Final = 3.0  # answers that take less show at once what a pace does
_FEW: Final = 15  # requests to measure a pace by, then
_DEBT_SECONDS: Final = 5.0  # refusals so soon after a pause are still the old trouble
_PATIENCE: Final = 1  # such refusals in a row
_CUT: Final = 0.7  # for each further one
_TARGET_CUT: Final = 0.85
_RECOVERY: Final = 1.3
_RECOVERY_SECONDS: Final = 5.0
_HELD_SECONDS: Final = 10.0  # after a refusal, before the pace is raised
_HELD: Final = 150  # requests, so that refusals stay below one in a hundred
_RISEN: Final = 1.15  # times the pace before: it may be far more yet
_STEP_SECONDS: Final = 2.0
_FIRST_STEP: Final = 0.02
_FIRST_STEP_UNSURE: Final = 0.06
_STEP_GROWTH: Final = 1.5
_LARGEST_STEP: Final = 0.5
_FAR: Final = 2.0  # times what was measured: the limit is another by now
_FORGET: Final = 16.0  # times what a single refusal showed: it meant no pace
_LONGEST_ANSWER_SECONDS: Final = 30.0
_GENTLE_SECONDS: Final = 2.0  # after a pause that was not enough: at a quarter of the pace
_GENTLE: Final = 4.0
_SLOWEST_RATE: Final = 0.01  # requests per second


class LearnedRate:
    """No limit until the first refusal; from then on requests per second.

    A refusal says that the server's bucket is empty; what it lets in from then until the next
    refusal is what it refills. The pace stays a little below that for a while, then climbs in
    ever larger steps until the next refusal, so that a raised limit is found soon. Where
    answers take long their output empties a bucket late: then steps and patience are as long.
    Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_admitted", "_answer_seconds", "_climb_at", "_climbed", "_climbs_since", "_debts",
        "_is_far", "_is_sure", "_next", "_resumed", "_since", "_step", "_target", "per_second",
    )  # fmt: skip

    def __init__(self, now: float) -> None:
        self.per_second: float | None = None
        self._admitted = 0
        self._since = now
        self._next = now
        self._resumed = float("-inf")
        self._answer_seconds = 0.0
        self._target = 0.0  # the last pace that was measured
        self._is_sure = False  # whether the last refusals agree
        self._debts = 0  # refusals in a row that came right after a pause
        self._climb_at = now
        self._step = _FIRST_STEP
        self._climbed = 0  # how many were let in since it climbs, and since when that is
        self._climbs_since: float | None = None
        self._is_far = False

    def wait_seconds(self, now: float) -> float:
        """Seconds until the next request may go, 0.0 for now."""
        if self.per_second is None or self._next <= now:
            return 0.0
        return self._next - now

    def sent(self, now: float) -> None:
        """A request goes."""
        if self.per_second is None and self._admitted == 0:
            self._since = now
        self._admitted += 1
        self._climbed += 1
        self._forget_the_old(now)
        if self.per_second is None:
            return
        gap = 1 / self.per_second
        if self._debts and now - self._resumed < _GENTLE_SECONDS:
            gap *= _GENTLE
        self._next = max(self._next, now - 0.1) + gap
        if now >= self._climb_at:
            self._climb(now, self.per_second)

    def refused(
        self, now: float, resumes: float, answer_seconds: float, *, is_news: bool
    ) -> None:
        """One of those that were sent was not let in; nobody sends before `resumes`.

        Answers usually take `answer_seconds`. `is_news` is false for the others that were under
        way with it.
        """
        self._admitted = max(self._admitted - 1, 0)
        self._climbed = max(self._climbed - 1, 0)
        in_debt = now - self._resumed < max(_DEBT_SECONDS, answer_seconds)
        self._resumed = resumes
        self._answer_seconds = min(answer_seconds, _LONGEST_ANSWER_SECONDS)
        if not is_news:
            return
        self._debts = self._debts + 1 if in_debt else 0
        if self._debts == 0 or self.per_second is None or self._knows_soon:
            self._learn(now)
        elif self._debts > _PATIENCE:
            self._cut(self.per_second)
        self._climb_at = resumes + self._held_seconds

    @property
    def _shows_soon(self) -> bool:
        return self._answer_seconds < _SOON_SECONDS

    @property
    def _knows_soon(self) -> bool:
        """Whether even a short while shows what the server lets in."""
        return self._shows_soon and self._admitted >= _FEW

    @property
    def _held_seconds(self) -> float:
        """How long the pace stays as it is after a refusal."""
        if self._debts:
            return _RECOVERY_SECONDS
        seconds = max(_HELD_SECONDS, 2 * self._answer_seconds)
        if self._is_sure and self.per_second is not None:
            seconds = max(seconds, _HELD / self.per_second)
        return seconds

    def _forget_the_old(self, now: float) -> None:
        longest = _MEASURED_SECONDS * (1 if self.per_second is None else 2)
        if now - self._since > longest:  # half of what went is as old as the rest
            self._since += (now - self._since) / 2
            self._admitted //= 2

    def _learn(self, now: float) -> None:
        enough = self._admitted >= _ENOUGH or now - self._since >= _ENOUGH_SECONDS
        if not enough and not self._debts:
            return
        pace, target = self._measured(now), self._target
        if self.per_second is not None:
            if not self._knows_soon:
                pace = max(pace, target * _SMALLEST)
            pace = min(pace, self.per_second) * _BELOW
            self._is_sure = pace < target * _RISEN
        self.per_second = self._target = max(pace, _SLOWEST_RATE)
        self._since, self._admitted = now, 0
        self._climbs_since, self._is_far = None, False
        self._step = _FIRST_STEP if self._is_sure else _FIRST_STEP_UNSURE

    def _measured(self, now: float) -> float:
        """What was let in per second since the last refusal.

        A small bucket ran over while the pace was low: then what was let in since it climbs
        says more, of a large one too much, so the truth is between.
        """
        whole = self._admitted / max(now - self._since, 1e-3)
        if self._climbs_since is None or not self._shows_soon:
            return whole
        climbed = self._climbed / max(now - self._climbs_since, 1e-3)
        return climbed if self._is_far else (whole + climbed) / 2

    def _cut(self, pace: float) -> None:
        """Answers under way keep a bucket empty for a while; after that it is the pace."""
        self.per_second = max(pace * _CUT, _SLOWEST_RATE)
        if self._debts > _PATIENCE + 1:
            self._target = max(self._target * _TARGET_CUT, self.per_second)

    def _climb(self, now: float, pace: float) -> None:
        if pace < self._target:  # it was only cut; back to what was measured
            self.per_second = min(pace * _RECOVERY, self._target)
            self._climb_at = now + _RECOVERY_SECONDS
            return
        if pace > self._target * _FORGET and not self._is_sure:
            self.per_second = None
            return
        is_far = pace > self._target * _FAR
        if self._climbs_since is None or (is_far and not self._is_far):
            self._climbs_since, self._climbed, self._is_far = now, 0, is_far
        self.per_second = pace * (1 + self._step)
        self._step = min(self._step * _STEP_GROWTH, _LARGEST_STEP)
        self._climb_at = now + max(_STEP_SECONDS, self._answer_seconds)


_BYTES_PER_TOKEN: Final = 3
_WEIGHT: Final = 0.02  # of the newest answer in a moving average
_FIRST_OUTPUT: Final = 300.0


class Average:
    """A moving average that believes the first answers more than later ones."""

    __slots__ = ("_weight", "value")

    def __init__(self, start: float, weight: float = 0.5) -> None:
        self.value = start
        self._weight = weight

    def add(self, value: float) -> None:
        """One more observation."""
        self.value += self._weight * (value - self.value)
        if self._weight > _WEIGHT:
            self._weight = max(self._weight / (1 + self._weight), _WEIGHT)


class Estimates:
    """Expected tokens of a request of one model class, before it is sent.

    Input is the body's bytes by a learned factor, which also learns what caches save; output
    is the average of like requests: same model and `max_tokens` to a power of two.
    """

    __slots__ = ("_bias", "_outputs")

    def __init__(self) -> None:
        self._bias = Average(1.0)
        self._outputs: dict[tuple[str, int], Average] = {}

    def expect(self, model: str, body_bytes: int, max_tokens: int | None) -> Expected:
        """What the request will take, cache reads excluded."""
        kind = (max_tokens or 0).bit_length()
        output = self._outputs.get((model, kind))
        if output is None:
            likely = _FIRST_OUTPUT if max_tokens is None else min(_FIRST_OUTPUT, max_tokens)
        else:
            likely = output.value
        body_tokens = body_bytes / _BYTES_PER_TOKEN
        return Expected(body_tokens * self._bias.value, likely, body_tokens, kind)

    def learn(self, model: str, expected: Expected, real: Expected) -> None:
        """What a request really took that was expected to take `expected`."""
        if not expected.body_tokens:
            return
        self._bias.add(real.input_tokens / expected.body_tokens)
        output = self._outputs.get((model, expected.kind))
        if output is None:
            self._outputs[model, expected.kind] = Average(real.output_tokens)
        else:
            output.add(real.output_tokens)
