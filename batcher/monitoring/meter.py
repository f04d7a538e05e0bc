"""Rates and forecasts from a `Progress`, as words for people."""

from collections import deque
from dataclasses import dataclass
from typing import Final

from batcher.pipeline.progress import Progress
from batcher.pricing.money import format_amount, format_usd
from batcher.report.words import count_of

_WINDOW_SECONDS: Final = 30.0


@dataclass(frozen=True, slots=True)
class Reading:
    """What can be said at one moment; `None`: not yet.

    `rows_per_second` is that of the last half minute. Money is pico-USD.
    """

    rows_per_second: float | None
    seconds_left: float | None
    projected_cost: int | None
    share: float | None


class Meter:
    """Remembers the last half minute of one run. Moments are monotonic seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._samples: deque[tuple[float, int]] = deque()

    def read(self, now: float) -> Reading:
        """Take a sample and say what follows from it."""
        progress = self._progress
        rows = progress.answered + progress.failed + progress.held
        self._samples.append((now, rows))
        while now - self._samples[0][0] > _WINDOW_SECONDS:
            self._samples.popleft()
        then, rows_then = self._samples[0]
        rate = (rows - rows_then) / (now - then) if now > then else None
        total = max(progress.total_rows, progress.finished_rows)
        left = total - progress.finished_rows
        return Reading(
            rows_per_second=rate,
            seconds_left=left / rate if rate else None,
            projected_cost=progress.cost + progress.cost * left // rows if rows else None,
            share=progress.finished_rows / total if total else None,
        )


def rows_words(progress: Progress) -> str:
    """Rows done, failed and in flight."""
    total = max(progress.total_rows, progress.finished_rows)
    about = "" if progress.total_is_exact else "about "
    parts = [f"{progress.finished_rows:,} of {about}{total:,} rows done"]
    if progress.failed + progress.held:
        parts.append(f"{progress.failed + progress.held:,} failed")
    if progress.quarantined:
        parts.append(f"{progress.quarantined:,} quarantined")
    parts.append(f"{progress.in_flight:,} in flight")
    return ", ".join(parts)


def speed_words(reading: Reading) -> str:
    """Rows per second and the time left; empty before anything is known."""
    parts = []
    if reading.rows_per_second is not None:
        parts.append(f"{reading.rows_per_second:,.1f} rows/s")
    if reading.seconds_left is not None:
        parts.append(f"{duration_words(reading.seconds_left)} left")
    return ", ".join(parts)


def money_words(progress: Progress, reading: Reading) -> str:
    """Money so far and projected, and tokens."""
    cost = money_so_far(progress)
    if reading.projected_cost:
        cost += f" so far, about {format_usd(_rounded(reading.projected_cost))} in all"
    if progress.cap_free is not None:
        cost += f"; cap: {_cap_words(progress)}"
    return f"{cost}; {progress.input_tokens:,} tokens in, {progress.output_tokens:,} out"


def _cap_words(progress: Progress) -> str:
    parts = (
        (progress.cap_spent, "spent"),
        (progress.cap_reserved, "reserved"),
        (progress.cap_free or 0, "free"),
    )
    return ", ".join(f"{format_usd(amount)} {word}" for amount, word in parts)


def money_so_far(progress: Progress) -> str:
    """What this invocation's answers cost, each currency by itself."""
    amounts = [format_usd(progress.cost)]
    amounts += [format_amount(n, currency) for currency, n in progress.other_currencies.items()]
    if progress.unpriced:
        amounts.append(f"{count_of(progress.unpriced, 'answer')} unpriced")
    return " + ".join(amounts)


def told(count: int, noun: str, one: str, many: str) -> str:
    """A count as the subject of a sentence: `1 row is`, `2 rows are`."""
    return f"{count_of(count, noun)} {one if count == 1 else many}"


def duration_words(seconds: float) -> str:
    """`8 s`, `2 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"


def _rounded(pico: int) -> int:
    """A forecast with three digits: more would be a promise."""
    magnitude = int(10 ** max(len(str(pico)) - 3, 0))
    return pico // magnitude * magnitude
