"""A book against an installed genai-prices, and the differences that were looked into."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from batcher.pricing.book.book import PriceBook
from batcher.pricing.book.differences import Difference, compare_lists
from batcher.pricing.book.genai import genai_layer
from batcher.pricing.book.merge import merge_lists
from batcher.pricing.rate.rates import PriceList

PRICE_LIST = "anthropic"


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownDifference:
    """A difference that was looked into: `pattern` matches "model terms meter" as a whole.

    `first_day` and `last_day`, where given, must be those of the difference.
    """

    pattern: str
    why: str
    first_day: date | None = None
    last_day: date | None = None

    def explains(self, difference: Difference) -> bool:
        """Whether this is the reason of `difference`."""
        text = f"{difference.model} {difference.terms} {difference.meter}"
        return (
            re.fullmatch(self.pattern, text) is not None
            and self.first_day in {None, difference.first_day}
            and self.last_day in {None, difference.last_day}
        )


# Looked into with genai-prices 0.2.3 on 2026-11-21 (pricing, 1.1).
KNOWN_DIFFERENCES = (
    KnownDifference(
        pattern=r"\S+ (standard|batch|fast)/us\S* all",
        why="genai-prices does not know the tenth more for inference in the US",
    ),
    KnownDifference(
        pattern=r"\S+ batch(/>\d+)? all",
        last_day=date(2026, 10, 13),
        why="genai-prices has batch prices from 2026-10-14 on only; batches are older",
    ),
    KnownDifference(
        pattern=r"claude-(3-\S+|opus-4|opus-4-1|sonnet-4) batch(/>\d+)? all",
        why="genai-prices has no batch prices for retired models",
    ),
    KnownDifference(
        pattern=r"claude-mythos-5(-1)? (standard|batch) all",
        why="genai-prices does not have this model",
    ),
    KnownDifference(
        pattern=r"claude-(2|v1|3-sonnet) standard all",
        why="retired before there were message batches; not in our book",
    ),
    KnownDifference(
        pattern=r"claude-opus-4-[67] fast(/>200000)? all",
        why="genai-prices dropped the fast mode that this model once had",
    ),
    KnownDifference(
        pattern=r"claude-opus-4-8 fast all",
        first_day=date(2026, 12, 1),
        why="genai-prices has no last days: the API rejects it after 2026-11-30",
    ),
    KnownDifference(
        pattern=r"claude-sonnet-4-5 (standard|batch)/>200000 \w+",
        why="genai-prices has no last days: long prompts were rejected after 2026-04-30",
    ),
    KnownDifference(
        pattern=r"claude-sonnet-4 standard/>200000 \w+",
        last_day=date(2026, 4, 30),
        why="genai-prices does not have the long prompts of the beta",
    ),
    KnownDifference(
        pattern=r"claude-sonnet-5-5 standard cache_read",
        last_day=date(2026, 10, 6),
        why="genai-prices has only the later price, of 2026-10-07",
    ),
)


def genai_differences(book: PriceBook) -> tuple[tuple[Difference, str | None], ...]:
    """How the book (before) and the installed genai-prices (after) differ, with known reasons.

    Days before the book's first price of a model are not compared: genai-prices does not say
    when a price began. Raises `ConfigurationError` when genai-prices is not installed.
    """
    ours = book.lists[PRICE_LIST]
    layer = genai_layer(price_list=PRICE_LIST, extends=False)
    theirs = merge_lists({}, layer, "genai-prices")[PRICE_LIST]
    first_days = _first_days(ours)
    return tuple(
        (difference, _reason(difference))
        for difference in compare_lists({PRICE_LIST: ours}, {PRICE_LIST: theirs})
        if not _is_before(difference, first_days)
    )


def _reason(difference: Difference) -> str | None:
    reasons = (known.why for known in KNOWN_DIFFERENCES if known.explains(difference))
    return next(reasons, None)


def _first_days(prices: PriceList) -> dict[str, date]:
    first: dict[str, date] = {}
    for period in prices.periods:
        first[period.model] = min(period.valid_from, first.get(period.model, date.max))
    return first


def _is_before(difference: Difference, first_days: Mapping[str, date]) -> bool:
    first = first_days.get(difference.model)
    return first is not None and (difference.last_day or date.max) < first
