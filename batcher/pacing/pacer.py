"""Whether a request may go now, by every quota of one key at one endpoint."""

from collections.abc import Mapping
from typing import Final

import msgspec

from batcher.pacing.backoff import Concurrency
from batcher.pacing.limits import (
    Blame,
    Expected,
    Limit,
    QuotaLimits,
    QuotaReading,
    QuotaUse,
    model_class,
    read_quota,
)
from batcher.pacing.pool import Pool, Refusal

_REFUSED: Final = 429
_SHORT_SECONDS: Final = 1.0
_NOTHING: Final = Expected(0.0, 0.0)


class Reservation(msgspec.Struct, frozen=True, gc=False):
    """What was set aside for one request, until its outcome is told."""

    pool: Pool
    model: str
    expected: Expected
    number: int
    sent_at: float
    others: int  # that were in flight


class Pacer:
    """All quotas of a run: decides, never sleeps, never sends.

    Moments are seconds of a monotonic clock. Every `sent` is followed by exactly one of
    `settled`, `refunded` and `refused`.
    """

    def __init__(self, limits: QuotaLimits, concurrency: int, now: float) -> None:
        self.concurrency = Concurrency(concurrency)
        self._limits = limits
        self._pools: dict[str, Pool] = {}  # by class
        self._by_model: dict[str, Pool] = {}
        self._blame = Blame()
        self._began = now
        self._shut_until = 0.0  # by a refusal that may have meant any quota
        self._in_flight = 0
        said = (limits.requests, limits.input_tokens, limits.output_tokens)
        if any(limit is not None for limit in said):
            self.concurrency.release()

    def is_free(self, model: str) -> bool:
        """Whether nothing is known that could hold `model` back; no estimate is needed then."""
        pool = self._by_model.get(model) or self._pool(model)
        return pool.is_free

    def expect(self, model: str, body_bytes: int, max_tokens: int | None) -> Expected:
        """What a request will probably take; nothing while nobody wants to know."""
        pool = self._by_model.get(model) or self._pool(model)
        if not pool.levels:
            return _NOTHING
        return pool.estimates.expect(model, body_bytes, max_tokens)

    def may_send(self, model: str, expected: Expected, now: float) -> float:
        """Seconds until such a request may go; 0.0: it may go now."""
        pool = self._by_model.get(model) or self._pool(model)
        seconds, cause = pool.wait(expected, now)
        if cause is not None:
            self._blame.add(cause, now)
        return seconds

    def sent(self, model: str, expected: Expected, now: float) -> Reservation:
        """Set aside what a request that is sent now is expected to take."""
        pool = self._by_model.get(model) or self._pool(model)
        others, number = self._in_flight, pool.reserve(expected, now)
        self._in_flight += 1
        return Reservation(pool, model, expected, number, now, others)

    def settled(self, reservation: Reservation, real: Expected | None, now: float) -> None:
        """End a request that took `real`; `None` when nobody knows what it took."""
        pool = reservation.pool
        self._in_flight -= 1
        pool.settle(reservation.number, reservation.expected, real)
        if real is not None and self.concurrency.learned.wants_answers:
            self.concurrency.learned.answered(reservation.others, now)
            self.concurrency.look()
        if real is not None and now >= pool.next_lesson:
            pool.took(now - reservation.sent_at, now)
            pool.estimates.learn(reservation.model, reservation.expected, real)

    def refunded(self, reservation: Reservation) -> None:
        """End a request that the server did not count: it never arrived, or met an overload."""
        self._in_flight -= 1
        reservation.pool.refund(reservation.number, reservation.expected)

    def refused(self, reservation: Reservation, refusal: Refusal, now: float) -> None:
        """A 429: nobody who shares the quota sends before the moment that the server named.

        A server without headers does not say whose quota it means: everybody waits. Where it
        names no moment, or the next second, it may mean the number in flight: see `InFlight`.
        """
        self._in_flight -= 1
        if self._too_many(reservation, refusal, now):
            reservation.pool.refuse_number(
                reservation.number, reservation.expected, refusal, now
            )
        else:
            reservation.pool.refuse(reservation.number, reservation.expected, refusal, now)
        if not reservation.pool.speaks:
            self._shut_until = max(self._shut_until, reservation.pool.gate.shut_until)
            for pool in self._pools.values():
                pool.gate.keep_shut(self._shut_until)

    def _too_many(self, reservation: Reservation, refusal: Refusal, now: float) -> bool:
        if reservation.pool.speaks or (refusal.retry_after_seconds or 0.0) > _SHORT_SECONDS:
            return False  # time mends it
        learned, before = self.concurrency.learned, reservation.others
        found = learned.refused(before, reservation.sent_at, self._in_flight, now)
        self.concurrency.look()
        return found

    def hear(self, model: str, status: int, headers: Mapping[str, str], now: float) -> None:
        """The headers of an answer to `model` came; they are read when they would be news."""
        pool = self._by_model.get(model) or self._pool(model)
        if pool.wants_reading(now) or status == _REFUSED:
            reading = read_quota(headers)
            if reading is None:
                pool.heard_nothing(now)
            else:
                self.reading(model, reading, now)

    def wants_reading(self, model: str, now: float) -> bool:
        """Whether a reading would be news now; that of a 429 always is."""
        pool = self._by_model.get(model) or self._pool(model)
        return pool.wants_reading(now)

    def reading(self, model: str, reading: QuotaReading, now: float) -> None:
        """What the headers of an answer to `model` said, as soon as they came."""
        pool = self._by_model.get(model) or self._pool(model)
        spoke = pool.speaks
        pool.read(reading, now)
        if pool.speaks and not spoke:
            self.concurrency.release()

    @property
    def room(self) -> int | None:
        """How many more may be in flight, as the server bears it; `None`: as many as like."""
        concurrency = self.concurrency
        return max(concurrency.allowed - self._in_flight, 0) if concurrency.is_cut else None

    @property
    def quotas(self) -> list[str]:
        """The names of the quotas that requests have asked for so far."""
        return list(self._pools)

    def demands(self, now: float) -> dict[str, float]:
        """By quota, the part of it that this process could use; see `water_fill`.

        A part of what the user lets all who share have. To be asked every few seconds, by
        whoever shares the quotas out.
        """
        ours = self._limits.share
        return {name: min(pool.demand(now) / ours, 1.0) for name, pool in self._pools.items()}

    def take_share(self, quota: str, share: float) -> None:
        """From now on this process may use `share` of that quota, 0 < share <= 1."""
        pool = self._pools.get(quota)
        if pool is not None:
            pool.take_share(share * self._limits.share)

    def pause_until(self, quota: str, moment: float) -> None:
        """Another process was refused: nobody sends before `moment`."""
        pool = self._pools.get(quota)
        if pool is not None:
            pool.gate.keep_shut(moment)

    def paused_until(self, quota: str) -> float:
        """The moment until which the server asked everybody to wait; in the past when open."""
        pool = self._pools.get(quota)
        return pool.gate.shut_until if pool is not None else 0.0

    @property
    def all_paused_until(self) -> float:
        """The moment until which no known quota lets anything go; in the past when one does."""
        return min((pool.gate.shut_until for pool in self._pools.values()), default=0.0)

    @property
    def pauses(self) -> int:
        """How many 429s there were."""
        return sum(pool.gate.pauses for pool in self._pools.values())

    def binding_limit(self, now: float, in_flight: int) -> Limit | None:
        """What keeps requests from going out at present; `None`: nothing of this kind."""
        cause = self._blame.main(now)
        if cause is None and in_flight >= self.concurrency.allowed:
            return Limit.CONCURRENCY
        return cause

    def quota_used(self, now: float) -> list[QuotaUse]:
        """Each known limit and how much of it was used, in no particular order."""
        return [
            QuotaUse(name, limit, level.allowed_per_minute, level.used(now))
            for name, pool in self._pools.items()
            for limit, level in pool.levels.items()
        ]

    def learned_per_minute(self) -> dict[str, int]:
        """By quota, the requests per minute that were learned from refusals."""
        paces = ((name, pool.learned_per_minute) for name, pool in self._pools.items())
        return {name: round(pace) for name, pace in paces if pace is not None}

    def oldest(self, now: float) -> tuple[float, float]:
        """Seconds since the oldest in flight went, and that its like usually takes."""
        return max((pool.oldest(now) for pool in self._pools.values()), default=(0.0, 0.0))

    def _pool(self, model: str) -> Pool:
        name = model_class(model)
        pool = self._pools.get(name)
        if pool is None:
            pool = self._pools[name] = Pool(self._limits, self._began)
            pool.gate.keep_shut(self._shut_until)
        self._by_model[model] = pool
        return pool
