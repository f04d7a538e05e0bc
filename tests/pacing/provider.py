"""A provider of quota on a virtual clock: exact, piecewise linear, no time step.

Three buckets with continuous refill, each holding some seconds of its quota. Requests and input
are debited on admission, output while it is produced (the level may go below zero). Token
values in headers are rounded to thousands; a 429 names whole seconds.
"""

import math
from dataclasses import dataclass

from batcher.pacing.limits import QuotaReading, Window


@dataclass(slots=True)
class Bucket:
    per_minute: float
    capacity: float
    level: float
    lost: float = 0.0  # refill that ran over, since `counted_from`
    refill: float = 0.0
    drain: float = 0.0  # per second, output only
    at: float = 0.0
    counted_from: float = 0.0

    def advance(self, now: float) -> None:
        """Everything between two events is linear, so this is exact."""
        elapsed = now - self.at
        if elapsed <= 0:
            return
        self.at = now
        level = self.level + (self.per_minute / 60 - self.drain) * elapsed
        over = level - self.capacity
        self.level = level if over <= 0 else self.capacity
        if now > self.counted_from:
            self.refill += self.per_minute / 60 * elapsed
            self.lost += max(over, 0.0)

    def resize(self, factor: float) -> None:
        self.per_minute *= factor
        self.capacity *= factor
        self.level = min(self.level, self.capacity)

    @property
    def used(self) -> float:
        """The part of the refill that did not run over."""
        return 1 - self.lost / self.refill


class Provider:
    """Per minute: requests, input, output; `burst_seconds` says how much each bucket holds."""

    def __init__(self, limits, burst_seconds, *, counted_from, speaks=True):
        self.buckets = [
            Bucket(limit, max(limit / 60 * burst, 1.0), max(limit / 60 * burst, 1.0),
                   counted_from=counted_from)
            for limit, burst in zip(limits, burst_seconds, strict=True)
        ]  # fmt: skip
        self.speaks = speaks

    def admit(self, input_tokens: float, now: float) -> int:
        """0 when let in, else the seconds that `retry-after` names."""
        requests, tokens, output = self.buckets
        for bucket in self.buckets:
            bucket.advance(now)
        needed = min(input_tokens, tokens.capacity)
        if requests.level >= 1 - 1e-9 and tokens.level >= needed and output.level > 0:
            requests.level -= 1
            tokens.level -= input_tokens
            return 0
        waits = (
            (1 - requests.level) / requests.per_minute,
            (needed - tokens.level) / tokens.per_minute,
            (1 - output.level) / output.per_minute,
        )
        return max(math.ceil(max(waits) * 60), 1)

    def produce(self, tokens_per_second: float, now: float) -> None:
        """An answer begins, or ends with a negative number."""
        output = self.buckets[2]
        output.advance(now)
        output.drain += tokens_per_second

    def take(self, requests: float, input_tokens: float, output_tokens: float) -> None:
        """Somebody else of the organisation takes some."""
        taken = (requests, input_tokens, output_tokens)
        for bucket, amount in zip(self.buckets, taken, strict=True):
            bucket.level -= amount

    def resize(self, factor: float, now: float) -> None:
        for bucket in self.buckets:
            bucket.advance(now)
            bucket.resize(factor)

    def headers(self, now: float) -> QuotaReading | None:
        if not self.speaks:
            return None
        for bucket in self.buckets:
            bucket.advance(now)
        requests, tokens, output = self.buckets
        return QuotaReading(
            Window(int(requests.per_minute), max(int(requests.level), 0)),
            Window(int(tokens.per_minute), max(round(tokens.level / 1000) * 1000, 0)),
            Window(int(output.per_minute), max(round(output.level / 1000) * 1000, 0)),
        )
