"""What is learned on the way: the pace of a server that names no limits, what requests take.

The first from when it refuses, the second, in tokens, from the requests before.
"""

from typing import Final

from batcher.pacing.limits import Expected

_BELOW: Final = 0.95  # of what the server let in
_FORGET_SECONDS: Final = 30.0  # a single refusal means nothing: no second one, no limit
_SMALLEST: Final = 0.7  # of the pace before: one measurement may be wrong
_DEBT_SECONDS: Final = 5.0  # refusals so soon after a pause are still the old trouble
_PATIENCE: Final = 2  # such refusals in a row
_CUT: Final = 0.7  # for each further one
_RECOVERY: Final = 1.3
_RECOVERY_SECONDS: Final = 5.0
_ENOUGH: Final = 50  # requests to measure a pace by
_ENOUGH_SECONDS: Final = 30.0
_MEASURED_SECONDS: Final = 60.0
_CLIMB_SECONDS: Final = 45.0
_FIRST_STEP: Final = 0.02
_STEP_GROWTH: Final = 1.5
_LARGEST_STEP: Final = 0.03
_GENTLE_SECONDS: Final = 2.0  # after a pause: at a quarter of the pace
_GENTLE: Final = 4.0
_SLOWEST: Final = 0.01  # requests per second


class LearnedRate:
    """No limit until the first refusal; from then on requests per second.

    A refusal says that the server's bucket is empty; what it lets in from then until the next
    refusal is what it refills. The pace stays a little below that and climbs while nothing is
    refused, in ever larger steps, so that a raised limit is found too. There is no slow start:
    most servers without headers have no limit at all. Moments are seconds of a monotonic clock.
    """

    __slots__ = (
        "_admitted",
        "_climb_at",
        "_debts",
        "_forgot_at",
        "_is_sure",
        "_next",
        "_resumed",
        "_since",
        "_step",
        "_target",
        "per_second",
    )

    def __init__(self, now: float) -> None:
        self.per_second: float | None = None
        self._admitted = 0
        self._since = now
        self._next = now
        self._resumed = float("-inf")
        self._step = _FIRST_STEP
        self._target = 0.0  # the last pace that was measured
        self._is_sure = False
        self._forgot_at = float("-inf")
        self._debts = 0  # refusals in a row that came right after a pause
        self._climb_at = now

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
        if now - self._since > _MEASURED_SECONDS:  # half of what went is as old as the rest
            self._since += (now - self._since) / 2
            self._admitted //= 2
        if self.per_second is None:
            return
        if not self._is_sure and now - self._resumed > _FORGET_SECONDS:
            self.per_second, self._forgot_at = None, now
            return
        gap = 1 / self.per_second
        if now - self._resumed < _GENTLE_SECONDS:
            gap *= _GENTLE
        self._next = max(self._next, now - 0.1) + gap
        if now >= self._climb_at:
            self._climb(now, self.per_second)

    def refused(self, now: float, resumes: float, *, is_news: bool) -> None:
        """One of those that were sent was not let in; nobody sends before `resumes`.

        `is_news` is false for the others that were under way with it.
        """
        self._admitted = max(self._admitted - 1, 0)
        in_debt = now - self._resumed < _DEBT_SECONDS
        self._resumed = resumes
        self._climb_at = resumes + _CLIMB_SECONDS
        if is_news and in_debt:
            self._wait_for_debts(now)
        elif is_news:
            self._debts = 0
            self._learn(now)

    def _wait_for_debts(self, now: float) -> None:
        """Answers under way keep a bucket empty for a while; after that it is the pace."""
        self._debts += 1
        if self._debts <= _PATIENCE:
            return
        if self.per_second is None:
            self._learn(now)
        else:
            self.per_second = max(self.per_second * _CUT, _SLOWEST)

    def _learn(self, now: float) -> None:
        elapsed = now - self._since
        enough = self._admitted >= _ENOUGH or elapsed >= _ENOUGH_SECONDS
        if not enough and self._debts <= _PATIENCE:
            return
        measured = self._admitted / max(elapsed, 1e-3)
        before = self.per_second
        pace = measured
        if before is not None:
            pace = min(max(measured, before * _SMALLEST), before) * _BELOW
        self._is_sure = self._is_sure or before is not None or self._debts > _PATIENCE
        self._is_sure = self._is_sure or now - self._forgot_at < _FORGET_SECONDS * 4
        self.per_second = self._target = max(pace, _SLOWEST)
        self._since, self._admitted = now, 0
        self._step = _FIRST_STEP

    def _climb(self, now: float, pace: float) -> None:
        if pace < self._target:  # it was only cut; back to what was measured
            self.per_second = min(pace * _RECOVERY, self._target)
            self._climb_at = now + _RECOVERY_SECONDS
            return
        self.per_second = pace * (1 + self._step)
        self._step = min(self._step * _STEP_GROWTH, _LARGEST_STEP)
        self._climb_at = now + _CLIMB_SECONDS


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
