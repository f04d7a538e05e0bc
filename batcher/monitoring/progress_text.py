"""How far a run is, how fast and what limits it, as words for people."""

from collections import deque
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from batcher.pacing.limits import Limit, QuotaUse
from batcher.pipeline.progress import BindingLimit, Progress
from batcher.pricing.money import format_amount, format_usd
from batcher.report.words import count_of

_RECENT_SECONDS: Final = 30.0  # of the speed that is shown
_STEADY_SECONDS: Final = 300.0  # of the speed that a forecast goes by
_FIRST_SECONDS: Final = 5.0  # a run gathers speed: a forecast before would be far off
_FIRST_ROWS: Final = 10
_QUOTAS_SHOWN: Final = 4  # the fullest ones; --json has them all
_HINTS: Final = {
    "--concurrency": "a higher --concurrency would raise it",
    "--rpm": "a higher --rpm would raise it",
    "--itpm": "a higher --itpm would raise it",
    "--otpm": "a higher --otpm would raise it",
    "--quota-share": "a higher --quota-share would raise it",
    "--database": "a --database on a faster disk or server would raise it, and so may a higher"
    " --concurrency",
    "INPUT": "an INPUT that is read faster, like uncompressed JSONL, would raise it",
}


@dataclass(frozen=True, slots=True)
class Reading:
    """What can be said at one moment; `None`: not yet.

    `rows_per_second` is that of the last half minute. Forecasts wait until ten rows, and as
    many as are in flight, are through. Money is pico-USD.
    """

    elapsed_seconds: float
    rows_per_second: float | None
    seconds_left: float | None
    projected_cost: int | None
    share: float | None


class Meter:
    """Remembers the last minutes of one run. Moments are monotonic seconds."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._began: float | None = None
        self._recent, self._steady = _Window(_RECENT_SECONDS), _Window(_STEADY_SECONDS)

    def read(self, now: float) -> Reading:
        """Take a sample and say what follows from it."""
        progress = self._progress
        began = self._began = now if self._began is None else self._began
        rows = progress.answered + progress.failed + progress.held
        recent, steady = self._recent.rate(now, rows), self._steady.rate(now, rows)
        total = max(progress.total_rows, progress.finished_rows)
        left = total - progress.finished_rows
        enough = rows >= max(_FIRST_ROWS, progress.in_flight) and now - began >= _FIRST_SECONDS
        return Reading(
            elapsed_seconds=now - began,
            rows_per_second=recent,
            seconds_left=left / steady if enough and steady else None,
            projected_cost=progress.cost + progress.cost * left // rows if enough else None,
            share=progress.finished_rows / total if total else None,
        )


class _Window:
    """Rows per second of the last `seconds`, or since the last sample if that is longer."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._samples: deque[tuple[float, int]] = deque()

    def rate(self, now: float, rows: int) -> float | None:
        """Take a sample; `None` for the first."""
        self._samples.append((now, rows))
        while len(self._samples) > 2 and now - self._samples[1][0] >= self._seconds:
            self._samples.popleft()
        then, rows_then = self._samples[0]
        return (rows - rows_then) / (now - then) if now > then else None


def percent_words(reading: Reading) -> str:
    """`42 %`, rounded down: 100 only at the end; empty while nobody knows how many rows."""
    return "" if reading.share is None else f"{int(reading.share * 100)} %"


def rows_words(progress: Progress) -> str:
    """Rows done, rows without an answer by kind, and rows in flight."""
    total = max(progress.total_rows, progress.finished_rows)
    about = "" if progress.total_is_exact else "about "
    kinds = ("failed", "held", "quarantined")
    counts = [(name, getattr(progress, name)) for name in kinds]
    done = progress.finished_rows - sum(count for _, count in counts)
    parts = [f"{done:,} of {about}{total:,} rows done"]
    parts += [f"{count:,} {name}" for name, count in counts if count]
    if progress.in_batches:
        number = progress.batches
        these = "1 batch" if number == 1 else f"{number:,} batches"
        parts.append(f"{progress.in_batches:,} in {these}")
    parts.append(f"{progress.in_flight:,} in flight")
    return ", ".join(parts)


def speed_words(reading: Reading) -> str:
    """The time gone, rows per second, and the time left as soon as it can be told."""
    parts = [f"{duration_words(reading.elapsed_seconds)} so far"]
    if reading.rows_per_second is not None:
        parts.append(f"{reading.rows_per_second:,.1f} rows/s")
    if reading.seconds_left is not None:
        parts.append(f"about {duration_words(reading.seconds_left)} left")
    return ", ".join(parts)


def money_words(progress: Progress, reading: Reading) -> str:
    """Money so far and projected, and what it means for the cap."""
    cost = money_so_far(progress)
    if reading.projected_cost:
        cost += f" so far, about {format_usd(_rounded(reading.projected_cost))} in all"
    if progress.cap_free is None:
        return cost
    return f"{cost}; {_cap_words(progress, progress.cap_free, reading.projected_cost)}"


def token_words(progress: Progress) -> str:
    """Tokens of this invocation's answers."""
    return f"{progress.input_tokens:,} tokens in, {progress.output_tokens:,} out"


def _cap_words(progress: Progress, free: int, projected: int | None) -> str:
    cap = progress.cap_spent + progress.cap_reserved + free
    spent, reserved = format_usd(progress.cap_spent), format_usd(progress.cap_reserved)
    words = f"cap {format_usd(cap)}: {spent} counted, {reserved} reserved"
    at_the_end = progress.cap_spent + projected - progress.cost if projected else 0
    if at_the_end <= cap:
        return words
    return f"{words}, about {format_usd(_rounded(at_the_end))} at the end, above the cap"


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


def limit_words(progress: Progress) -> str:
    """What limits the run at present and the quota used; empty when nothing does."""
    binding = progress.binding_limit_now
    if binding is None:
        return ""
    words = f"limited by {binding.name}"
    used = [use.used for use in progress.quota_used if use.limit == binding.name]
    if used:
        words += f", {_percent(max(used))} used"
    if progress.pauses:
        words += f", {_refusals(progress)}"
    return f"{words} ({binding.option})" if binding.option else words


def limit_lines(progress: Progress) -> list[str]:
    """The same for the whole run, at its end."""
    lines = []
    if progress.binding_limit is not None:
        lines.append(_binding_line(progress.binding_limit))
    lines += [f"quota of {words}" for words in quota_words(progress)]
    if progress.pauses or progress.quota_used:
        lines.append(f"{_refusals(progress)} came back")
    return lines


def quota_words(progress: Progress, most: int = _QUOTAS_SHOWN) -> list[str]:
    """The fullest quotas, `most` of them, and how much of each is used."""
    by_quota = groupby(progress.quota_used, attrgetter("quota"))
    quotas = [(quota, list(uses)) for quota, uses in by_quota]
    quotas.sort(key=lambda quota: -max(use.used for use in quota[1]))
    return [_quota_line(quota, uses) for quota, uses in quotas[:most]]


def limit_json(progress: Progress) -> dict[str, Any]:
    """The same for a program; parts are of 1."""
    binding = progress.binding_limit
    return {
        "binding_limit": binding.name if binding else None,
        "binding_option": binding.option if binding else None,
        "binding_part": round(binding.part, 3) if binding else None,
        "quota_used": [
            {
                "quota": use.quota,
                "limit": str(use.limit),
                "per_minute": use.per_minute,
                "used": round(use.used, 4),
            }
            for use in progress.quota_used
        ],
    }


def _binding_line(binding: BindingLimit) -> str:
    return (
        f"limited by {binding.name} for {_percent(binding.part)} of the time: {_hint(binding)}"
    )


def _hint(binding: BindingLimit) -> str:
    if binding.name in (Limit.LEARNED, Limit.PAUSE):
        return "naming your limits with --rpm, --itpm and --otpm is better"
    if binding.option is not None:
        return _HINTS[binding.option]
    if binding.name == Limit.CONCURRENCY:
        return "the server is overloaded, no option would raise it"
    if binding.name == Limit.SERVER:
        return "no option would raise it"
    return "only the provider can raise it"


def _quota_line(quota: str, uses: list[QuotaUse]) -> str:
    parts = (f"{_percent(use.used)} of {use.per_minute:,.0f} {use.limit}" for use in uses)
    return f"{quota} used: {', '.join(parts)}"


def _refusals(progress: Progress) -> str:
    return f"{count_of(progress.pauses, 'answer')} with status 429"


def _percent(part: float) -> str:
    return f"{part * 100:.0f} %"
