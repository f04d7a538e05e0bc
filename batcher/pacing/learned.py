"""What is learned on the way: the pace of a server that names no limits, what requests take.

The first from when it refuses, the second, in tokens, from the requests before.
"""

from typing import Final

from batcher.pacing.limits import Expected

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
_SLOWEST: Final = 0.01  # requests per second


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
        self.per_second = self._target = max(pace, _SLOWEST)
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
        self.per_second = max(pace * _CUT, _SLOWEST)
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
