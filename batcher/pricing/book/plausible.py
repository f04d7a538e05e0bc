"""What cannot be meant in a price book: slips that are right as a file and wrong as prices."""

from collections.abc import Iterator
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import Final

from batcher.pricing.book.book import SEPARATOR, PriceBook
from batcher.pricing.book.layer import Layer, parse_toml
from batcher.pricing.money import METERS, WEB_SEARCH, rate_text
from batcher.pricing.rate.rates import STANDARD, PriceList, RatePeriod

_INPUT, _READ, _OUTPUT = (METERS.index(name) for name in ("input", "cache_read", "output"))
_MUCH: Final = 20  # no seller is so many times dearer or cheaper than the provider
_PER_TOKEN: Final = 100_000  # rather a million times than a thousand times less
# Pico-USD per token: $0.0005 and $5,000 per million. Free models cost 0, which is no slip.
_LEAST, _MOST = 500, 5_000_000_000
_LIST: Final = "anthropic"


def implausible(book: PriceBook, shipped: PriceBook, today: date) -> tuple[str, ...]:
    """A sentence for each price that looks like a slip; none for those that are shipped."""
    found: dict[str, None] = {}  # one sentence, however many periods have it
    own = parse_toml(book.content.partition(SEPARATOR)[0], book.version)
    if own.published is not None and own.published > today:
        found[f"published is {own.published}, which is in the future"] = None
    found.update(dict.fromkeys(_dearer_tiers(own)))
    models = {model for prices in book.lists.values() for model in prices.models()}
    for alias, model in sorted(book.aliases.items()):
        if model not in models:
            found[f"alias {alias} names {model}, which has no price"] = None
    known = {period for prices in shipped.lists.values() for period in prices.periods}
    for prices in book.lists.values():
        for period in prices.periods:
            if period not in known:
                found.update(dict.fromkeys(_slips(prices, period, shipped)))
    return tuple(found)


def _dearer_tiers(own: Layer) -> Iterator[str]:
    for discount in own.discounts:
        if any(one.factor < other.factor for one, other in pairwise(discount.tiers)):
            yield f"{discount.price_list}: a tier of more volume has dearer prices"


def _slips(prices: PriceList, period: RatePeriod, shipped: PriceBook) -> Iterator[str]:
    where = f"{prices.name}, {period.model} {period.terms}"
    rates = period.rates
    if rates[_OUTPUT] is None and rates[_INPUT] is not None:
        yield f"{where}: no output price"
    if any(rate and rate < Fraction(1, 2) for rate in rates):
        yield f"{where}: a price rounds to 0: is it per token, not per million?"
        return
    if period.terms == STANDARD and (rates[_OUTPUT] or 0) < (rates[_INPUT] or 0):
        yield f"{where}: output costs less than input"
    if (rates[_READ] or 0) > (rates[_INPUT] or 0) > 0:
        yield f"{where}: reading from a cache costs more than input"
    if prices.currency == "USD":
        yield from _size(where, period, shipped)


def _size(where: str, period: RatePeriod, shipped: PriceBook) -> Iterator[str]:
    """Against the shipped price of that model, else against any price there ever was."""
    model, _ = shipped.priced_model(_LIST, period.model)
    like = _latest(shipped.lists[_LIST], model, period) if model else None
    for meter in range(WEB_SEARCH):
        rate, usual = period.rates[meter], like.rates[meter] if like else None
        if not rate:
            continue
        name = f"{where}: {METERS[meter]} {rate_text(rate, meter)}"
        if usual:
            ratio = max(rate / usual, usual / rate)
            if ratio < _MUCH:
                continue
            unit = ": is it per token, not per million?" if ratio >= _PER_TOKEN else ""
            yield f"{name} is not near the provider's {rate_text(usual, meter)}{unit}"
        elif rate < _LEAST:
            yield f"{name} is next to nothing: is it per token, not per million?"
        elif rate > _MOST:
            yield f"{name} is more than any costs"


def _latest(prices: PriceList, model: str, period: RatePeriod) -> RatePeriod | None:
    """The newest block of the same terms and prompt size, else the newest standard one."""
    mine = [p for p in prices.periods if p.model == model]
    same = [
        p for p in mine
        if (p.terms, p.prompt_tokens_above) == (period.terms, period.prompt_tokens_above)
    ]  # fmt: skip
    return max(same or mine, key=lambda p: p.valid_from, default=None)
