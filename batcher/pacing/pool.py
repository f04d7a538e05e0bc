"""One quota: what all requests of a model class, with one key at one endpoint, share."""

from dataclasses import dataclass
from typing import Final

from batcher.pacing.buckets import Average, Estimates, LearnedRate, QuotaLevel
from batcher.pacing.limits import Expected, Limit, QuotaLimits, QuotaReading, Window

_FIRST_SECONDS: Final = 10.0  # how long an answer takes, before the first one came


class UnderWay:
    """What was reserved for requests that have not ended.

    A server debits output while it is produced, so its remaining quota does not show yet what
    requests under way will take. An answer is thought to come evenly over the average time.
    Moments are seconds of a monotonic clock.
    """

    __slots__ = ("_open", "_owed_seconds", "_seconds", "_token", "_usual_seconds")

    def __init__(self) -> None:
        self._open: dict[int, tuple[float, float]] = {}  # what was reserved, and when
        self._token = 0
        self._seconds = Average(_FIRST_SECONDS, 0.02)
        self._owed_seconds = Average(_FIRST_SECONDS / 2, 0.02)
        self._usual_seconds = Average(_FIRST_SECONDS)  # the first answers say enough for this

    def begin(self, output_tokens: float, now: float) -> int:
        """A request goes; returns the number by which `end` knows it."""
        self._token += 1
        self._open[self._token] = (output_tokens, now)
        return self._token

    def end(self, number: int) -> None:
        """Forget a request that ended, one way or another."""
        self._open.pop(number, None)

    def took(self, seconds: float) -> None:
        """An answer was complete after `seconds`."""
        self._seconds.add(seconds)
        self._usual_seconds.add(seconds)
        whole = max(self._seconds.value, 1e-3)
        part = min(seconds, whole)
        self._owed_seconds.add(part - part * part / (2 * whole))

    def oldest(self, now: float) -> tuple[float, float]:
        """Seconds since the oldest went, and that answers usually take."""
        _, since = next(iter(self._open.values()), (0.0, now))
        return now - since, self._usual_seconds.value

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


_UNSAID_PAUSE_SECONDS: Final = 1.0  # a 429 without retry-after; doubles while they repeat
_UNSAID_PAUSE_MAX_SECONDS: Final = 60.0


class Gate:
    """Open, or shut until a moment. Moments are seconds of a monotonic clock."""

    def __init__(self) -> None:
        self.shut_until = 0.0
        self.pauses = 0
        self._unsaid = 0

    def is_open(self, now: float) -> bool:
        """Whether a request may go."""
        return now >= self.shut_until

    def pause(self, now: float, retry_after_seconds: float | None, chance: float) -> None:
        """A 429 came: nobody sends before the server's moment, or ours if it named none.

        Answers to requests that were under way when the gate shut lengthen the pause only when
        the server names a later moment: they are the same refusal, seen again.
        """
        if retry_after_seconds is not None:
            self.shut_until = max(self.shut_until, now + retry_after_seconds)
        elif self.is_open(now):
            wait = min(_UNSAID_PAUSE_SECONDS * 2.0**self._unsaid, _UNSAID_PAUSE_MAX_SECONDS)
            self.shut_until = now + wait * (0.75 + chance / 2)
            self._unsaid = min(self._unsaid + 1, 10)
        self.pauses += 1

    def count(self, now: float, retry_after_seconds: float | None) -> None:
        """A 429 that says nothing of later requests, but for a moment that it named."""
        self.shut_until = max(self.shut_until, now + (retry_after_seconds or 0.0))
        self.pauses += 1

    def keep_shut(self, moment: float) -> None:
        """Somebody else was refused: nobody sends before `moment`."""
        self.shut_until = max(self.shut_until, moment)

    def answered(self) -> None:
        """An answer came: the next unexplained 429 starts from the short pause again."""
        self._unsaid = 0


_LIMITS: Final = (Limit.REQUESTS, Limit.INPUT_TOKENS, Limit.OUTPUT_TOKENS)
_STEER_SECONDS: Final = 0.5  # between two looks at the mirror
_CUT: Final = 0.97  # of the pace, for each pause although we steered
_SMALLEST_PART: Final = 0.1
_RECOVERY_PER_SECOND: Final = 0.002
_RAMP_FROM: Final = 0.2
_RAMP_SECONDS: Final = 60.0
_HUNGRY_SECONDS: Final = 5.0
_HEADROOM: Final = 1.25
_LESSON_SECONDS: Final = 0.005  # 200 answers a second are enough to learn from
_ROUNDING: Final = 1_000  # tokens: what a reading may be wrong by


@dataclass(frozen=True, slots=True)
class Refusal:
    """A 429. `is_ramp`: the server named an acceleration limit (`ramp_limit_exceeded`).

    `retry_after_seconds` is `None` when it named no moment; `chance` in [0, 1) is for jitter.
    """

    retry_after_seconds: float | None
    chance: float
    is_ramp: bool = False


class Pool:
    """Three buckets, a gate, and what is under way. Moments are seconds of a monotonic clock.

    Without headers and limits it is free until the first refusal, then learns a pace from
    refusals.
    """

    def __init__(self, limits: QuotaLimits, now: float) -> None:
        self.gate = Gate()
        self.estimates = Estimates()
        self.learned = LearnedRate(now)
        self.levels: dict[Limit, QuotaLevel] = {}
        self._ordered: list[
            tuple[int, QuotaLevel]
        ] = []  # the same, with the index in `_LIMITS`
        self.speaks = False  # whether the server sends headers
        self.share = limits.share
        self.next_lesson = now
        self._part = 1.0  # cut by refusals
        self._ramp_since = float("-inf")
        self._next_steer = now
        self._steered_at = now
        self._next_reading = now
        self._last: QuotaReading | None = None
        self._waited_at = float("-inf")
        self._demanded: tuple[float, dict[Limit, float]] = (now, {})
        self._under_way = UnderWay()
        said = (limits.requests, limits.input_tokens, limits.output_tokens)
        for limit, per_minute in zip(_LIMITS, said, strict=True):
            if per_minute is not None:
                self._add(limit, self._level(limit, per_minute, now, per_minute))
        self._steer(now)

    @property
    def is_free(self) -> bool:
        """Whether nothing is known that could hold a request back, but for a pause."""
        return not self.levels and self.learned.per_second is None

    def wait(self, expected: Expected, now: float) -> tuple[float, Limit | None]:
        """Seconds until such a request may go, 0.0 for now, and what it waits for."""
        if now < self.gate.shut_until:
            return self.gate.shut_until - now, Limit.PAUSE
        if now >= self._next_steer:
            self._steer(now)
        longest, cause = 0.0, None
        costs = (1.0, expected.input_tokens, expected.output_tokens)  # in the order of _LIMITS
        for index, level in self._ordered:
            seconds = level.wait_seconds(costs[index], now)
            if seconds > longest:
                longest, cause = seconds, _LIMITS[index]
        if not self.speaks and self.learned.per_second is not None:
            seconds = self.learned.wait_seconds(now)
            if seconds > longest:
                longest, cause = seconds, Limit.LEARNED
        if cause is not None:
            self._waited_at = now
        return longest, cause

    def reserve(self, expected: Expected, now: float) -> int:
        """Such a request goes; returns the number that ends it."""
        costs = (1.0, expected.input_tokens, expected.output_tokens)
        for index, level in self._ordered:
            level.reserve(costs[index])
        if not self.speaks:
            self.learned.sent(now)
        return self._under_way.begin(expected.output_tokens, now)

    def settle(self, number: int, expected: Expected, real: Expected | None) -> None:
        """End a request that took `real`; `None`: nobody knows what it took."""
        self._under_way.end(number)
        if real is not None:
            more_input = expected.input_tokens - real.input_tokens
            less = (0.0, more_input, expected.output_tokens - real.output_tokens)
            for index, level in self._ordered:
                level.settle(less[index])

    def take_share(self, share: float) -> None:
        """From now on this part of the quota is ours."""
        self.share = share

    def took(self, seconds: float, now: float) -> None:
        """An answer was complete `seconds` after its request; the next lesson waits."""
        self.next_lesson = now + _LESSON_SECONDS
        if now - seconds >= self.gate.shut_until:
            self.gate.answered()
        self._under_way.took(seconds)

    def refund(self, number: int, expected: Expected) -> None:
        """End that request: the server counted nothing, so all of it comes back."""
        self._under_way.end(number)
        costs = (1.0, expected.input_tokens, expected.output_tokens)
        for index, level in self._ordered:
            level.give_back(costs[index])

    def refuse(self, number: int, expected: Expected, refusal: Refusal, now: float) -> None:
        """The server refused it with a 429; its reading, if any, was told before."""
        self.refund(number, expected)
        is_news = self.gate.is_open(now)
        self.gate.pause(now, refusal.retry_after_seconds, refusal.chance)
        if refusal.is_ramp or (is_news and self._had_room(expected)):
            self._ramp_since = self.gate.shut_until
        if self.speaks:
            self._run_dry()
        if is_news and self.speaks:
            self._part = max(self._part * _CUT, _SMALLEST_PART)
        if not self.speaks:
            self.learned.refused(
                now, self.gate.shut_until, self._under_way.oldest(now)[1], is_news=is_news
            )
        self._next_steer = now

    def refuse_number(
        self, number: int, expected: Expected, refusal: Refusal, now: float
    ) -> None:
        """The server refused it since too many were in flight: no quota has to do with that."""
        self.refund(number, expected)
        self.gate.count(now, refusal.retry_after_seconds)

    def oldest(self, now: float) -> tuple[float, float]:
        """See `UnderWay.oldest`."""
        return self._under_way.oldest(now)

    @property
    def learned_per_minute(self) -> float | None:
        """The pace that was learned from refusals; `None`: it does not go by one."""
        per_second = None if self.speaks else self.learned.per_second
        return None if per_second is None else per_second * 60

    def demand(self, now: float) -> float:
        """The part of the quota that could be used, from 0 to 1; asked every few seconds.

        All of it when something waited for the quota just now, else a little more than was
        used since the last call.
        """
        since, spent = self._demanded
        self._demanded = (now, {limit: level.spent for limit, level in self.levels.items()})
        if now - self._waited_at < _HUNGRY_SECONDS:
            return 1.0
        parts = (
            (level.spent - spent.get(limit, 0.0)) / level.allowed_per_minute
            for limit, level in self.levels.items()
        )
        return min(max(parts, default=0.0) * 60 / max(now - since, 1.0) * _HEADROOM, 1.0)

    def wants_reading(self, now: float) -> bool:
        """Whether a reading would be news: one every half second is enough."""
        return now >= self._next_reading

    def heard_nothing(self, now: float) -> None:
        """An answer came without a reading; the next one is looked at later."""
        self._next_reading = now + _STEER_SECONDS

    def read(self, reading: QuotaReading, now: float) -> None:
        """The server said how its buckets stand."""
        self._next_reading = now + _STEER_SECONDS
        self._next_steer = now
        self._last = reading
        self._read(Limit.REQUESTS, reading.requests, 0.0, now)
        self._read(Limit.INPUT_TOKENS, reading.input_tokens, 0.0, now)
        self._read(Limit.OUTPUT_TOKENS, reading.output_tokens, self._output_ahead(now), now)
        self.speaks = bool(self.levels)

    def _read(self, limit: Limit, window: Window | None, ahead: float, now: float) -> None:
        if window is None:
            return
        level = self.levels.get(limit)
        if level is None:
            if window.limit is None:
                return
            level = self._add(limit, self._level(limit, window.limit, now))
        level.read(window.limit, window.remaining, ahead, now)

    def _add(self, limit: Limit, level: QuotaLevel) -> QuotaLevel:
        self.levels[limit] = level
        self._ordered.append((_LIMITS.index(limit), level))
        return level

    def _level(
        self, limit: Limit, per_minute: float, now: float, ceiling: float | None = None
    ) -> QuotaLevel:
        late = limit is Limit.OUTPUT_TOKENS
        return QuotaLevel(per_minute, now, self.share, ceiling, debited_late=late)

    def _output_ahead(self, now: float) -> float:
        """Output that the server has yet to debit, against what it is in a steady state."""
        level = self.levels.get(Limit.OUTPUT_TOKENS)
        if level is None:
            return 0.0
        steady = self._under_way.owed_steadily(level.per_minute / 60 * self.share)
        return (self._under_way.owed(now) - steady) / self.share

    def _run_dry(self) -> None:
        """After a refusal for want of output, wait for what is still to be produced too."""
        level = self.levels.get(Limit.OUTPUT_TOKENS)
        window = self._last.output_tokens if self._last else None
        if level is not None and window is not None and window.remaining == 0:
            level.run_dry(self._under_way.owed_at_worst())

    def _had_room(self, expected: Expected) -> bool:
        """Whether the server's buckets plainly had room: it minds the growth, not the level."""
        last = self._last
        if last is None:
            return False
        windows = (
            (last.requests, 1.0),
            (last.input_tokens, expected.input_tokens * 2 + _ROUNDING),
            (last.output_tokens, float(_ROUNDING)),
        )
        return all(w is None or (w.remaining or 0) > room for w, room in windows)

    def _steer(self, now: float) -> None:
        self._next_steer = now + _STEER_SECONDS
        self._part = min(self._part + (now - self._steered_at) * _RECOVERY_PER_SECOND, 1.0)
        self._steered_at = now
        ramp = _RAMP_FROM + (1 - _RAMP_FROM) * (now - self._ramp_since) / _RAMP_SECONDS
        part = self._part * self.share * min(max(ramp, _RAMP_FROM), 1.0)
        for level in self.levels.values():
            level.steer(part, now)
