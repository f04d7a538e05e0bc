"""Price books as rows of text, for people and for other programs."""

from collections.abc import Sequence
from datetime import date

from batcher.pricing.book.book import PriceBook
from batcher.pricing.book.differences import Difference, rates_on
from batcher.pricing.meters import METERS
from batcher.pricing.money import decimal_text, rate_text
from batcher.pricing.rate.rates import TERMS, PriceList, RatePeriod, RateSet

Rows = list[tuple[str, ...]]

_METER_HEADS = ("input", "write_5m", "write_1h", "read", "output", "search/1k")
_NONE = "-"


def current_prices(book: PriceBook, price_list: str, day: date) -> Rows:
    """A head, then a row per model, terms and prompt size with a price on `day`."""
    prices = book.lists[price_list]
    rows: Rows = [("model", "terms", *_METER_HEADS, "currency", "since")]
    for model in prices.models():
        sizes = sorted(
            {0, *(p.prompt_tokens_above for p in prices.periods if p.model == model)}
        )
        for terms in TERMS:
            for size in sizes:
                rates = rates_on(prices, model, (terms, "", size), day)
                if rates is not None and rates.terms.endswith(f">{size}") == bool(size):
                    rows.append(_current(rates))
    return rows


def all_periods(book: PriceBook, model: str) -> Rows:
    """A head, then a row per block of `model` in every list; only the head when unknown."""
    rows: Rows = [
        (
            *("list", "model", "terms", "from", "until", *_METER_HEADS),
            *("batch", "geographies", "currency", "source", "note"),
        )
    ]
    for prices in book.lists.values():
        priced, _ = book.priced_model(prices.name, model)
        rows += [_period(period, prices) for period in prices.periods if period.model == priced]
    return rows


def difference_rows(differences: Sequence[Difference]) -> Rows:
    """A head, then a row per difference."""
    rows: Rows = [("list", "model", "terms", "meter", "from", "until", "before", "after")]
    rows += [
        (
            *(d.price_list, d.model, d.terms, d.meter),
            *(str(d.first_day), str(d.last_day or _NONE), d.before, d.after),
        )
        for d in differences
    ]
    return rows


def _current(rates: RateSet) -> tuple[str, ...]:
    prices = (_price(rate, meter) for meter, rate in enumerate(rates.rates))
    return rates.model, rates.terms, *prices, rates.currency, rates.valid_from


def _price(rate: int | None, meter: int) -> str:
    return _NONE if rate is None else rate_text(rate, meter)


def _period(period: RatePeriod, prices: PriceList) -> tuple[str, ...]:
    above = f"/>{period.prompt_tokens_above}" if period.prompt_tokens_above else ""
    texts = (
        _NONE if rate is None else rate_text(rate, meter)
        for meter, rate in zip(range(len(METERS)), period.rates, strict=True)
    )
    batch = _NONE if period.batch_factor is None else f"x{decimal_text(period.batch_factor)}"
    places = (f"{name} x{decimal_text(factor)}" for name, factor in period.geographies)
    return (
        *(prices.name, period.model, f"{period.terms}{above}"),
        *(str(period.valid_from), str(period.valid_until or _NONE), *texts),
        *(batch, ", ".join(places) or _NONE, prices.currency),
        *(period.source or _NONE, period.note or _NONE),
    )
