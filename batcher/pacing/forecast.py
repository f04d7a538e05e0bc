"""When batches will be back, and how long the live lane takes: from what was seen of late."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from batcher.pacing.limits import QuotaLimits

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
