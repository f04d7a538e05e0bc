"""Prices from an installed genai-prices package: another opinion, or a start for own files.

Nothing is fetched: the package carries its data. What its data cannot say (last days,
geographies) stays unsaid.
"""

import importlib
from collections.abc import Iterator, Mapping
from datetime import date
from fractions import Fraction
from importlib import metadata
from typing import Any, Final

from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_shipped
from batcher.pricing.book.layer import Layer, ListTerms
from batcher.pricing.meters import METERS, ExactRates
from batcher.pricing.money import parse_rate
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, RatePeriod

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
    rounds: bool = False,
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
        rounds=rounds,
        lists={price_list: ListTerms(currency="USD", source=source)},
        aliases={},
        context_tokens={
            m.id: m.context_window for m in found.models if m.context_window
        },
        periods=tuple(
            period
            for model in found.models
            for period in _model_periods(model, (price_list, source), rounds)
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


def _model_periods(model: Any, origin: tuple[str, str], rounds: bool) -> Iterator[RatePeriod]:  # noqa: ANN401, FBT001
    name = load_shipped().aliases.get(model.id, model.id)
    dated = _dated(model)
    ends = [*(later for later, _ in dated[1:]), None]
    for (start, base), end in zip(dated, ends, strict=True):
        yield from _blocks(name, (STANDARD, start, end), base, origin, rounds)
        for terms, when in _VARIANTS.items():
            variant = _variant(model, when)
            if variant is None:
                continue
            first = max(start, _first_day(variant.constraint, model.id))
            if end is None or first < end:
                prices = {**base, **_prices(variant.prices)}
                yield from _blocks(name, (terms, first, end), prices, origin, rounds)


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
    rounds: bool,  # noqa: FBT001
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
                rounds=rounds,
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
