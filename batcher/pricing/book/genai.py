"""Prices from an installed genai-prices package: another opinion, or a start for own files.

Nothing is fetched: the package carries its data. What its data cannot say (last days,
geographies) stays unsaid. Differences that were looked into are listed here.
"""

import importlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from importlib import metadata
from typing import Any, Final

from batcher.errors import ConfigurationError
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.book.differences import PriceDifference, compare_lists
from batcher.pricing.book.layer import Layer, ListTerms
from batcher.pricing.book.merge import merge_lists
from batcher.pricing.money import METERS, ExactRates, parse_rate
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, PriceList, RatePeriod

# genai-prices states no first day of a price that never changed.
UNDATED: Final = date(2020, 1, 1)

_NAMES: Final = (
    *("input_mtok", "cache_write_mtok", "cache_write_1h_mtok", "cache_read_mtok"),
    *("output_mtok", "web_searches_kcount"),
)
_VARIANTS: Final = {BATCH: {"processing": "batch"}, FAST: {"speed": "fast"}}


def genai_layer(
    provider: str = "anthropic",
    *,
    price_list: str = "anthropic",
    extends: bool = True,
) -> Layer:
    """The prices of one provider of the installed genai-prices as a layer of a price book.

    Models that the shipped book has under another name (an alias) get the shipped name.
    Raises `ConfigurationError` when the package is not installed, or knows no such provider, or
    when its prices depend on the time of day.
    """
    data, version = _package()
    found = next((p for p in data.get_snapshot().providers if p.id == provider), None)
    if found is None:
        raise ConfigurationError(f"genai-prices {version} has no provider {provider}")
    source = f"genai-prices {version}, provider {provider}"
    return Layer(
        version=f"genai-prices-{version}-{provider}",
        published=None,
        source=source,
        extends=extends,
        rounds=False,
        lists={price_list: ListTerms(currency="USD", source=source)},
        aliases={},
        context_tokens={
            m.id: m.context_window for m in found.models if m.context_window
        },
        periods=tuple(
            period
            for model in found.models
            for period in _model_periods(model, (price_list, source))
        ),
    )  # fmt: skip


def installed_version() -> str | None:
    """The version of the installed genai-prices, `None` when there is none."""
    try:
        return _package()[1]
    except ConfigurationError:
        return None


def _package() -> tuple[Any, str]:
    try:
        data = importlib.import_module("genai_prices.data_snapshot")
    except ImportError as exc:
        raise ConfigurationError(
            "genai-prices is not installed; install it with: pip install genai-prices"
        ) from exc
    return data, metadata.version("genai-prices")


def _model_periods(model: Any, origin: tuple[str, str]) -> Iterator[RatePeriod]:  # noqa: ANN401
    name = load_shipped().aliases.get(model.id, model.id)
    dated = _dated(model)
    ends = [*(later for later, _ in dated[1:]), None]
    for (start, base), end in zip(dated, ends, strict=True):
        yield from _blocks(name, (STANDARD, start, end), base, origin)
        for terms, when in _VARIANTS.items():
            variant = _variant(model, when)
            if variant is None:
                continue
            first = max(start, _first_day(variant.constraint, model.id))
            if end is None or first < end:
                prices = {**base, **_prices(variant.prices)}
                yield from _blocks(name, (terms, first, end), prices, origin)


def _dated(model: Any) -> list[tuple[date, dict[str, Any]]]:  # noqa: ANN401
    """(first day, prices) in order; of several with one first day, the last holds."""
    entries = model.prices if isinstance(model.prices, list) else None
    if entries is None:
        return [(UNDATED, _prices(model.prices))]
    dated = [(_first_day(e.constraint, model.id), _prices(e.prices)) for e in entries]
    return sorted(dict(dated).items())


def _first_day(constraint: Any, model: str) -> date:  # noqa: ANN401
    if constraint is None:
        return UNDATED
    day = getattr(constraint, "start_date", None)
    if not isinstance(day, date):
        raise ConfigurationError(
            f"genai-prices: {model} has prices by the time of day; price books cannot hold them"
        )
    return day


def _variant(model: Any, when: Mapping[str, str]) -> Any:  # noqa: ANN401
    variants = getattr(model, "price_variants", None) or ()
    return next((variant for variant in variants if variant.when == when), None)


def _prices(prices: Any) -> dict[str, Any]:  # noqa: ANN401
    values = {name: getattr(prices, name, None) for name in _NAMES}
    return {name: value for name, value in values.items() if value is not None}


def _blocks(
    model: str,
    span: tuple[str, date, date | None],
    prices: Mapping[str, Any],
    origin: tuple[str, str],
) -> Iterator[RatePeriod]:
    """A block per prompt size; a price that is no tier's holds for all sizes."""
    terms, start, end = span
    sizes = {tier.start for price in prices.values() for tier in getattr(price, "tiers", ())}
    for above in sorted({0, *sizes}):
        rates = _rates(prices, above)
        if any(rate is not None for rate in rates):
            yield RatePeriod(
                price_list=origin[0],
                model=model,
                terms=terms,
                prompt_tokens_above=above,
                valid_from=start,
                valid_until=None if end is None else date.fromordinal(end.toordinal() - 1),
                rates=rates,
                batch_factor=None,
                geographies=(),
                rounds=False,
                source=origin[1],
                note="",
            )


def _rates(prices: Mapping[str, Any], above: int) -> ExactRates:
    one, two, three, four, five, six = (
        _rate(prices.get(_NAMES[meter]), meter, above) for meter in range(len(METERS))
    )
    return one, two, three, four, five, six


def _rate(price: Any, meter: int, above: int) -> Fraction | None:  # noqa: ANN401
    if price is None:
        return None
    tiers = [tier for tier in getattr(price, "tiers", ()) if tier.start <= above]
    base = getattr(price, "base", price)
    value = max(tiers, key=lambda tier: tier.start).price if tiers else base
    return parse_rate(f"{value:f}", meter)


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

    def explains(self, difference: PriceDifference) -> bool:
        """Whether this is the reason of `difference`."""
        text = f"{difference.model} {difference.terms} {difference.meter}"
        return (
            re.fullmatch(self.pattern, text) is not None
            and self.first_day in {None, difference.first_day}
            and self.last_day in {None, difference.last_day}
        )


# Looked into with genai-prices 0.2.3 on 2026-11-30.
KNOWN_DIFFERENCES = (
    KnownDifference(
        pattern=r"\S+ (standard|batch|fast)/(us|regional)\S* all",
        why="genai-prices does not know the tenth more for inference in the US or in a region",
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


def genai_differences(book: PriceBook) -> tuple[tuple[PriceDifference, str | None], ...]:
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


def _reason(difference: PriceDifference) -> str | None:
    reasons = (known.why for known in KNOWN_DIFFERENCES if known.explains(difference))
    return next(reasons, None)


def _first_days(prices: PriceList) -> dict[str, date]:
    first: dict[str, date] = {}
    for period in prices.periods:
        first[period.model] = min(period.valid_from, first.get(period.model, date.max))
    return first


def _is_before(difference: PriceDifference, first_days: Mapping[str, date]) -> bool:
    first = first_days.get(difference.model)
    return first is not None and (difference.last_day or date.max) < first
