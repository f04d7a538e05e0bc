"""What `batcher estimate --lanes` says: one table of the ways that rows can go, by money."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from batcher.cli.words.say import tell, tell_table
from batcher.estimate.ways import BATCH, BATCH_SECONDS, Way
from batcher.monitoring.progress_text import duration_words
from batcher.pricing.money import format_usd, usd_text
from batcher.report.words import safe_text

_TITLES: Final = ("Way", "Requests", "Expected", "At most", "Takes")
_NOTES: Final = (
    "expected: by the tokens of rows like these, without searches and what caches saved them;"
    " at most: one attempt a row",
    "live takes as long as rpm, itpm and otpm, where they are set, and the latency of earlier"
    " answers say; a batch what the newest ones here waited in the middle, 24 hours at most",
)
_CACHED: Final = (
    "cached: with a cache_control behind the system prompt and tools that rows share, the first"
    " answered before the others are sent"
)
_OTHERS: Final = "another model may make more or fewer tokens of the same text"


def tell_ways(ways: Sequence[Way]) -> None:
    """Print the table, the cheapest first, and what to know about it."""
    if not ways:
        tell("\nnothing to compare: no price in USD is known, or nothing is left to do")
        return
    tell("")
    tell_table([_TITLES, *map(_cells, ways)])
    tell("\n".join(_notes(ways)))


def ways_json(ways: Sequence[Way]) -> list[dict[str, Any]]:
    """The same for programs; amounts are exact decimal text."""
    return [
        {
            "lane": way.lane,
            "dedup": way.once,
            "cached": way.cached,
            "model": way.model or None,
            "requests": way.requests,
            "expected_usd": None if way.expected is None else usd_text(way.expected),
            "ceiling_usd": None if way.ceiling is None else usd_text(way.ceiling),
            "seconds": way.seconds,
            "seconds_at_most": way.most_seconds,
        }
        for way in ways
    ]


def _notes(ways: Sequence[Way]) -> Iterator[str]:
    yield from _NOTES
    if any(way.cached for way in ways):
        yield _CACHED
    if any(way.model for way in ways):
        yield _OTHERS


def _cells(way: Way) -> tuple[str, ...]:
    parts = [f"--lane {way.lane}"]
    parts += ["--dedup"] * way.once + ["cached"] * way.cached
    parts += [f"-m {safe_text(way.model)}"] * bool(way.model)
    return (
        " ".join(parts),
        f"{way.requests:,}",
        "-" if way.expected is None else format_usd(way.expected),
        "-" if way.ceiling is None else format_usd(way.ceiling),
        _time(way),
    )


def _time(way: Way) -> str:
    if way.seconds is not None:
        return f"about {duration_words(way.seconds)}"
    known = way.lane == BATCH and way.most_seconds
    return f"up to {BATCH_SECONDS // 3600} h" if known else "-"
