"""Token buckets with continuous refill, in exact integers."""

from datetime import UTC, datetime
from typing import Final

# Levels are counted in tokens x 60e9, so that a refill of `per_minute x nanoseconds` is exact.
_SCALE: Final = 60_000_000_000


class Bucket:
    """One quota: refills continuously up to `burst_seconds` of it, may go below zero."""

    def __init__(self, per_minute: int, burst_seconds: float, now_ns: int) -> None:
        self.per_minute = per_minute
        self._capacity = max(int(burst_seconds * 1e9) * per_minute, _SCALE)
        self._level = self._capacity
        self._at_ns = now_ns

    def wait_ns(self, amount: int, now_ns: int) -> int:
        """Nanoseconds until `amount` would be let in, 0 for now.

        More than the bucket holds is let in when the bucket is full.
        """
        self._refill(now_ns)
        missing = min(amount * _SCALE, self._capacity) - self._level
        return max(-(-missing // self.per_minute), 0)

    def take(self, amount: int, now_ns: int) -> None:
        """Lower the level by `amount`, below zero if need be."""
        self._refill(now_ns)
        self._level -= amount * _SCALE

    def remaining(self, now_ns: int) -> int:
        """Whole tokens left, never negative."""
        self._refill(now_ns)
        return max(self._level // _SCALE, 0)

    def full_at_ns(self, now_ns: int) -> int:
        """When the bucket will be full if nothing more is taken."""
        self._refill(now_ns)
        return now_ns + -(-(self._capacity - self._level) // self.per_minute)

    def _refill(self, now_ns: int) -> None:
        elapsed = max(now_ns - self._at_ns, 0)
        self._at_ns += elapsed
        self._level = min(self._level + elapsed * self.per_minute, self._capacity)


class Quota:
    """The three limits of one model class; a limit of `None` does not exist."""

    def __init__(
        self,
        limits: tuple[int | None, int | None, int | None],
        burst_seconds: float,
        now_ns: int,
    ) -> None:
        names = ("requests", "input-tokens", "output-tokens")
        self._buckets = {
            name: Bucket(limit, burst_seconds, now_ns)
            for name, limit in zip(names, limits, strict=True)
            if limit is not None
        }

    def admit(self, input_tokens: int, now_ns: int) -> int:
        """Take one request and its input, or return the nanoseconds to wait and take nothing.

        `input_tokens` counts without cache reads. Output is not reserved: a request is let in
        while the output bucket is above zero.
        """
        wanted = {"requests": 1, "input-tokens": input_tokens, "output-tokens": 1}
        wait = max(
            (bucket.wait_ns(wanted[name], now_ns) for name, bucket in self._buckets.items()),
            default=0,
        )
        if wait == 0:
            for name, bucket in self._buckets.items():
                bucket.take(wanted[name] if name != "output-tokens" else 0, now_ns)
        return wait

    def produced(self, output_tokens: int, now_ns: int) -> None:
        """Debit output as it leaves."""
        bucket = self._buckets.get("output-tokens")
        if bucket is not None:
            bucket.take(output_tokens, now_ns)

    def headers(self, now_ns: int) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers; tokens rounded to thousands as the API does."""
        headers: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            remaining = bucket.remaining(now_ns)
            if name != "requests":
                remaining = (remaining + 500) // 1000 * 1000
            _describe(headers, name, bucket.per_minute, remaining, bucket.full_at_ns(now_ns))
        tokens = [bucket for name, bucket in self._buckets.items() if name != "requests"]
        if tokens:
            left = sum(bucket.remaining(now_ns) for bucket in tokens)
            limit = sum(bucket.per_minute for bucket in tokens)
            full_at_ns = max(bucket.full_at_ns(now_ns) for bucket in tokens)
            _describe(headers, "tokens", limit, (left + 500) // 1000 * 1000, full_at_ns)
        return headers


def _describe(
    headers: dict[str, str], name: str, limit: int, remaining: int, full_at_ns: int
) -> None:
    prefix = f"anthropic-ratelimit-{name}"
    moment = datetime.fromtimestamp(-(-full_at_ns // 1_000_000_000), tz=UTC)
    headers[f"{prefix}-limit"] = str(limit)
    headers[f"{prefix}-remaining"] = str(remaining)
    headers[f"{prefix}-reset"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
