"""Price books side by side: where they differ and since when, as tables, and what looks wrong.

A slip is right as a file and wrong as a price: it shows beside the book that is shipped.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from itertools import pairwise
from typing import Final

from batcher.pricing.book.book import SEPARATOR, PriceBook
from batcher.pricing.book.layer import Layer, parse_toml
from batcher.pricing.money import METERS, WEB_SEARCH, decimal_text, rate_text
from batcher.pricing.rate.rates import (
    ONE_DAY,
    STANDARD,
    TERMS,
    PriceList,
    RatePeriod,
    RateSet,
    rate_set,
)

NO_PRICE = "none"
SOME_PRICE = "priced"
EVERY_METER = "all"


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceDifference:
    """One price that two lists give differently, on all days from first to last.

    `meter` is one of `METERS`, `EVERY_METER` when one side has no price under these terms at
    all, or "currency". `before` and `after` are published prices as text. `last_day` `None`
    is open.
    """

    price_list: str
    model: str
    terms: str
    meter: str
    first_day: date
    last_day: date | None
    before: str
    after: str


def compare_lists(
    before: Mapping[str, PriceList], after: Mapping[str, PriceList]
) -> tuple[PriceDifference, ...]:
    """All differences of two books' lists, by list, model, terms, meter and day."""
    found: list[PriceDifference] = []
    for name in sorted({*before, *after}):
        old = before.get(name) or _empty(after[name])
        new = after.get(name) or _empty(before[name])
        for model in sorted({*old.models(), *new.models()}):
            found += _compare_model(old, new, model)
    return tuple(found)


def _empty(like: PriceList) -> PriceList:
    return replace(like, periods=())


def _compare_model(old: PriceList, new: PriceList, model: str) -> list[PriceDifference]:
    periods = [p for p in (*old.periods, *new.periods) if p.model == model]
    starts = sorted({day for period in periods for day in _edges(period)})
    sizes = sorted({0, *(p.prompt_tokens_above for p in periods)})
    places = sorted({"", *(place for p in periods for place, _ in p.geographies)})
    found: list[PriceDifference] = []
    for terms in TERMS:
        for place in places:
            for size in sizes:
                variant = (terms, place, size)
                spans = [d for day in starts for d in _on_day(old, new, model, variant, day)]
                found += _joined(spans, starts)
    return found


def _edges(period: RatePeriod) -> Iterator[date]:
    yield period.valid_from
    if period.valid_until:
        yield period.valid_until + ONE_DAY


def _on_day(
    old: PriceList, new: PriceList, model: str, variant: tuple[str, str, int], day: date
) -> Iterator[PriceDifference]:
    terms, place, size = variant
    left, right = rates_on(old, model, variant, day), rates_on(new, model, variant, day)
    shown = "/".join(part for part in (terms, place, f">{size}" if size else "") if part)

    def difference(meter: str, before: str, after: str) -> PriceDifference:
        return PriceDifference(price_list=old.name, model=model, terms=shown, meter=meter,
                          first_day=day, last_day=None, before=before, after=after)  # fmt: skip

    if left is None or right is None:
        if left is not right:
            yield difference(EVERY_METER, _presence(left), _presence(right))
        return
    if left.currency != right.currency:
        yield difference("currency", left.currency, right.currency)
    for meter, (one, other) in enumerate(zip(left.rates, right.rates, strict=True)):
        if one != other:
            yield difference(METERS[meter], _price(one, meter), _price(other, meter))


def rates_on(
    prices: PriceList, model: str, variant: tuple[str, str, int], day: date
) -> RateSet | None:
    """The rates of a model on a day for (terms, geography, prompt above so many tokens)."""
    terms, place, size = variant
    blocks = [
        period
        for period in prices.periods
        if period.model == model
        and period.holds_on(day)
        and terms in period.all_terms()
        and period.prompt_tokens_above <= size
    ]
    block = max(blocks, key=lambda period: period.prompt_tokens_above, default=None)
    if block is None or (place and place not in dict(block.geographies)):
        return None
    return rate_set(block, terms, place, prices.currency)


def _presence(rates: RateSet | None) -> str:
    return NO_PRICE if rates is None else SOME_PRICE


def _price(rate: int | None, meter: int) -> str:
    return NO_PRICE if rate is None else rate_text(rate, meter)


def _joined(spans: list[PriceDifference], starts: list[date]) -> list[PriceDifference]:
    """Neighbouring spans with the same difference, as one; each ends where the next begins."""
    following = dict(pairwise(starts))
    joined: dict[tuple[str, str, str], PriceDifference] = {}
    done: list[PriceDifference] = []
    for span in spans:
        edge = following.get(span.first_day)
        ended = replace(span, last_day=edge and edge - ONE_DAY)
        key = (span.meter, span.before, span.after)
        earlier = joined.get(key)
        if earlier and earlier.last_day and earlier.last_day + ONE_DAY == span.first_day:
            joined[key] = replace(earlier, last_day=ended.last_day)
        else:
            done += [earlier] if earlier else []
            joined[key] = ended
    return sorted([*done, *joined.values()], key=lambda d: (d.first_day, d.meter))


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


def difference_rows(differences: Sequence[PriceDifference]) -> Rows:
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
    prices = (_price_text(rate, meter) for meter, rate in enumerate(rates.rates))
    return rates.model, rates.terms, *prices, rates.currency, rates.valid_from


def _price_text(rate: Fraction | int | None, meter: int) -> str:
    return _NONE if rate is None else rate_text(rate, meter)


def _period(period: RatePeriod, prices: PriceList) -> tuple[str, ...]:
    above = f"/>{period.prompt_tokens_above}" if period.prompt_tokens_above else ""
    texts = (
        _price_text(rate, meter)
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
    found.update(dict.fromkeys(_odd_discounts(own, book)))
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


def _odd_discounts(own: Layer, book: PriceBook) -> Iterator[str]:
    written = {(period.price_list, period.model) for period in own.periods}
    for discount in own.discounts:
        name = discount.price_list
        if all((name, model) in written for model in book.lists[name].models()):
            yield f"{name}: a discount touches no price: this file's own are never multiplied"
        factors = [discount.factor, *(tier.factor for tier in discount.tiers)]
        if any(factor is not None and factor > 1 for factor in factors):
            yield f"{name}: a discount makes prices dearer: 15 % off is a factor of 0.85"
        if any(one.factor < other.factor for one, other in pairwise(discount.tiers)):
            yield f"{discount.price_list}: a tier of more volume has dearer prices"


def _slips(prices: PriceList, period: RatePeriod, shipped: PriceBook) -> Iterator[str]:
    where = f"{prices.name}, {period.model} {period.terms}"
    rates = period.rates
    for one, other in ((_INPUT, _OUTPUT), (_OUTPUT, _INPUT)):
        if rates[one] is None and rates[other] is not None:
            yield f"{where}: no {METERS[one]} price"
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
