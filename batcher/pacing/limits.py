"""The words of pacing: what can limit a run, whatever somebody set or a server says of limits.

Also how much of a limit was used, how several workers share a quota, and when rows are done
under the limits: by the live lane, or in batches, from what was seen of late.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from batcher.errors import ConfigurationError

# The provider counts Opus 4.5 to 4.8 against one limit, and so Sonnet 4.5 and 4.6.
_SHARED: Final = re.compile(r"(opus|sonnet)-4[-.][5-8](?!\d)")
_DATE: Final = re.compile(r"[-@]20\d{6}$|-latest$")


class Limit(StrEnum):
    """What keeps requests from going out; the value is the name for people."""

    REQUESTS = "requests per minute"
    INPUT_TOKENS = "input tokens per minute"
    OUTPUT_TOKENS = "output tokens per minute"
    CONCURRENCY = "concurrency"
    AT_ONCE = "the number of requests that the server takes at a time"
    PAUSE = "a pause that the server asked for"
    LEARNED = "a rate learned from the server's refusals"
    SERVER = "a server that did not answer"


@dataclass(frozen=True, slots=True, kw_only=True)
class QuotaLimits:
    """What the user allows per minute, for each model class; `None` means not said.

    A ceiling: a server that names a lower limit is believed, one that names a higher limit
    does not raise it. `input_tokens` does not count cache reads. `share` is the part of every
    quota, the server's too, that this process may use.
    """

    requests: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    share: float = 1.0


class Expected(msgspec.Struct, frozen=True, gc=False):
    """What one request takes from the token quotas; input without cache reads.

    An estimate also remembers what it was made from: `body_tokens`, by size alone, and the
    `kind` of request whose outputs are alike. 0 where nothing was estimated.
    """

    input_tokens: float
    output_tokens: float
    body_tokens: float = 0.0
    kind: int = 0


def quota_limits(
    rpm: int | None, itpm: int | None, otpm: int | None, share: float | None
) -> QuotaLimits:
    """What the settings of these names allow; raises `ConfigurationError` for nonsense."""
    for name, value in (("rpm", rpm), ("itpm", itpm), ("otpm", otpm)):
        if value is not None and value < 1:
            raise ConfigurationError(f"{name} is {value}; it must be at least 1")
    if share is not None and not 0 < share <= 1:
        raise ConfigurationError(f"quota_share is {share:g}; it must be above 0 and at most 1")
    return QuotaLimits(requests=rpm, input_tokens=itpm, output_tokens=otpm, share=share or 1.0)


def model_class(model: str) -> str:
    """The name of the quota that `model` draws on; models of one class share it."""
    shared = _SHARED.search(model)
    return f"{shared[1]}-4" if shared else _DATE.sub("", model)


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


_PREFIX: Final = "anthropic-ratelimit-"
_PLAUSIBLE: Final = 10**12  # per minute; anything above is a broken server


@dataclass(frozen=True, slots=True)
class Window:
    """One bucket: its limit per minute and what was left when the headers were written.

    Token counts are rounded to thousands by the server. `None` means not said.
    """

    limit: int | None
    remaining: int | None


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """The buckets of one model class; `None` for a bucket that was not named.

    `input_tokens` does not count what was read from a cache. The family
    `anthropic-ratelimit-tokens-*` only repeats the tighter of the others and is not read.
    """

    requests: Window | None
    input_tokens: Window | None
    output_tokens: Window | None


def read_quota(headers: Mapping[str, str]) -> QuotaReading | None:
    """The reading in `headers` (case-insensitive, or in lower case); `None` when there is none.

    Values that are no whole, plausible numbers count as not said.
    """
    requests = _window(headers, "requests")
    input_tokens = _window(headers, "input-tokens")
    output_tokens = _window(headers, "output-tokens")
    if requests is None and input_tokens is None and output_tokens is None:
        return None
    return QuotaReading(requests, input_tokens, output_tokens)


def _window(headers: Mapping[str, str], family: str) -> Window | None:
    limit = _number(headers.get(f"{_PREFIX}{family}-limit"))
    remaining = _number(headers.get(f"{_PREFIX}{family}-remaining"))
    if limit is None and remaining is None:
        return None
    return Window(limit or None, remaining)  # a limit of 0 would say that nothing ever goes


def _number(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit() and len(value) < 14):
        return None
    number = int(value)
    return number if number <= _PLAUSIBLE else None


_IDLE_PART: Final = 0.05  # of an equal share: what an idle worker keeps, to start with


def water_fill(demands: Sequence[float]) -> list[float]:
    """The part of the quota for each worker, in the order of `demands`; sums up to 1.

    A demand is the part of the quota that the worker could use, from 0 to 1. Nobody gets more
    than that while others want it; what nobody wants is spread over all, so that a worker can
    start at once when rows come.
    """
    count = len(demands)
    if not count:
        return []
    least = _IDLE_PART / count
    wanted = [min(max(demand, least), 1.0) for demand in demands]
    shares = [0.0] * count
    left, open_count = 1.0, count
    for index in sorted(range(count), key=wanted.__getitem__):
        shares[index] = min(wanted[index], left / open_count)
        left -= shares[index]
        open_count -= 1
    return [share + left / count for share in shares]


@dataclass(frozen=True, slots=True)
class Claim:
    """What one worker wants of a quota, and the share that it takes; parts of the whole."""

    demand: float
    share: float


def next_share(claims: Mapping[int, Claim], worker: int) -> float:
    """The share that `worker`, one of `claims`, takes from now on; above 0, at most 1.

    The claims of others are as old as their last renewal, so a share grows only into what
    the others have given up, and shrinks at once: together they never take more than there
    is, but for two that grow at the same moment, until they look again.
    """
    order = sorted(claims)
    fair = water_fill([claims[name].demand for name in order])[order.index(worker)]
    if fair <= claims[worker].share:
        return fair
    left = 1.0 - sum(claim.share for name, claim in claims.items() if name != worker)
    return min(fair, max(left, _IDLE_PART / len(claims)))


CANCEL_SECONDS: Final = 600.0  # what a batch takes at most to end when its end is asked for
USUAL_QUEUE_SECONDS: Final = 3_600.0  # most batches end within an hour, where none was seen yet
_USUAL_LATENCY_SECONDS: Final = 30.0
_USUAL_TOKENS: Final = (2_000.0, 500.0)
_CAUTION: Final = 1.5  # by which the live lane may be slower than it was
_PARTS: Final = 4  # batches that the live lane could redo one after the other
_NINE_OF_TEN: Final = 0.9
_US: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """What is expected of both lanes. Nine of ten batches were back within `queue_seconds`.

    `seen_batches` is of how many that is known; of none it is what is usual. A row takes the
    live lane `seconds_per_row` where it has many of them, and `latency_seconds` alone.
    """

    queue_seconds: float = USUAL_QUEUE_SECONDS
    seen_batches: int = 0
    seconds_per_row: float
    latency_seconds: float = _USUAL_LATENCY_SECONDS

    def live_seconds(self, rows: int) -> float:
        """How long so many rows take, with some caution."""
        return _CAUTION * rows * self.seconds_per_row + 2 * self.latency_seconds


def forecast(
    batch_seconds: Sequence[float],
    latency_seconds: float | None,
    tokens: tuple[float, float] | None,
    quota: QuotaLimits,
    concurrency: int,
) -> Forecast:
    """From the queue times of batches, and latency and (input, output) tokens of answers."""
    queue = sorted(batch_seconds)
    latency = _USUAL_LATENCY_SECONDS if latency_seconds is None else latency_seconds
    of_a_row = (1.0, *(tokens or _USUAL_TOKENS))
    limits = (quota.requests, quota.input_tokens, quota.output_tokens)
    spans = [
        60 * amount / (limit * quota.share)
        for amount, limit in zip(of_a_row, limits, strict=True)
        if limit
    ]
    return Forecast(
        queue_seconds=queue[int((len(queue) - 1) * _NINE_OF_TEN + 0.5)]
        if queue
        else USUAL_QUEUE_SECONDS,
        seen_batches=len(queue),
        seconds_per_row=max([latency / concurrency, *spans]),
        latency_seconds=latency,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePlan:
    """By when what must be done so that all rows are done at `at_us`, microseconds UTC."""

    at_us: int
    forecast: Forecast

    def last_start_us(self, rows: int) -> int:
        """When the live lane must have so many rows."""
        return self.at_us - round(self.forecast.live_seconds(rows) * _US)

    def recall_us(self, rows: int) -> int:
        """When the end of batches with so many rows must be asked for."""
        return self.last_start_us(rows) - round(CANCEL_SECONDS * _US)

    def expected_us(self, began_us: int) -> int:
        """When a batch of that moment is back, in all likelihood."""
        return began_us + round(self.forecast.queue_seconds * _US)

    def packs_until_us(self, rows: int) -> int:
        """Until when batches of so many rows may be made."""
        return self.recall_us(rows) - round(self.forecast.queue_seconds * _US)

    def batch_rows(self, now_us: int, most: int) -> int:
        """How many rows a batch has that is made now, `most` at most; 0: it would be too late.

        The live lane could redo several like it between the moment at which a batch should be
        back and the deadline.
        """
        left = (self.packs_until_us(0) - now_us) / _US
        rows = left / (_CAUTION * self.forecast.seconds_per_row)
        return min(max(int(rows / _PARTS), 1), most) if rows >= 1 else 0
