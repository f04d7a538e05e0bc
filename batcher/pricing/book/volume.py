"""Discounts by volume: which tier a month reached, told as a plain discount of that month.

An answer's price must not depend on what else was answered by then: it would be another one
after a crash, on another worker, or when it is recomputed. So a book with tiers prices without
them; when a month is over, a book is made of it that has the tier's factor for that month.
"""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date
from fractions import Fraction

from msgspec.structs import replace as struct_replace

from batcher.pricing.book.book import SEPARATOR, PriceBook, parse_book
from batcher.pricing.book.layer import Discount, Layer, VolumeTier, parse_toml
from batcher.pricing.book.text import render_layer
from batcher.pricing.money import METERS, PICO, decimal_text

# Pico-units in the order of `METERS`, by price list and UTC day of sending.
Spent = Mapping[tuple[str, date], Sequence[int]]


def tiers_of(content: str) -> tuple[Discount, ...]:
    """The discounts by volume of a book's text that no month is settled of."""
    upper = content.partition(SEPARATOR)[0]
    if "tiers" not in upper:
        return ()
    return tuple(each for each in parse_toml(upper, "price book").discounts if each.tiers)


def settled(book: PriceBook, spent: Spent, today: date) -> PriceBook:
    """The book with the factor that each month before that of `today` reached.

    `spent` is what all months cost without the tiers, which stay for the months that come. A
    book that this changes nothing of is given back.
    """
    if not tiers_of(book.content):
        return book
    upper, separator, lower = book.content.partition(SEPARATOR)
    layer = parse_toml(upper, book.version)
    this_month = today.replace(day=1)
    plain = tuple(
        each for given in layer.discounts for each in _plain(given, spent, this_month)
    )
    if plain == layer.discounts:
        return book  # no month of it is over
    text = render_layer(_named(replace(layer, discounts=plain), this_month))
    return parse_book(f"{text}{separator}{lower}", book.version)


def _named(layer: Layer, this_month: date) -> Layer:
    return replace(layer, version=f"{layer.version} (volume before {this_month:%Y-%m})")


def _plain(given: Discount, spent: Spent, this_month: date) -> list[Discount]:
    """One for each month that is over and reached a tier, and the tiers for what comes."""
    if not given.tiers:
        return [given]
    mine = {day.replace(day=1) for name, day in spent if name == given.price_list}
    over = sorted(first for first in mine if first < this_month)
    found = [_of_month(given, first, spent) for first in over]
    if given.valid_until is None or given.valid_until >= this_month:
        begin = max(given.valid_from, this_month)
        found.append(struct_replace(given, valid_from=begin))
    return [each for each in found if each is not None]


def _of_month(given: Discount, first: date, spent: Spent) -> Discount | None:
    """The discount of the month that begins on `first`; `None`: it reached no tier."""
    last = first.replace(day=monthrange(first.year, first.month)[1])
    begin, end = max(first, given.valid_from), min(last, given.valid_until or last)
    meters = [METERS.index(name) for name in given.meters]
    volume = sum(
        amounts[meter]
        for (name, day), amounts in spent.items()
        if name == given.price_list and begin <= day <= end
        for meter in meters
    )
    reached = [tier for tier in given.tiers if volume > tier.above * PICO]
    if not reached or begin > end:
        return None
    cost = decimal_text(Fraction(volume, PICO))
    above = decimal_text(reached[-1].above)
    factor = _of_parts(volume, reached) if given.marginal else reached[-1].factor
    return struct_replace(
        given,
        factor=factor,
        tiers=(),
        marginal=False,
        valid_from=begin,
        valid_until=end,
        note=f"{first:%Y-%m} cost {cost} before it, which is above {above}",
    )


def _of_parts(volume: int, reached: Sequence[VolumeTier]) -> Fraction:
    """The one factor of a month whose tiers are each for the part above it, to 12 digits."""
    ends = [*(tier.above * PICO for tier in reached[1:]), Fraction(volume)]
    parts = [
        (end - tier.above * PICO) * (1 - tier.factor)
        for tier, end in zip(reached, ends, strict=True)
    ]
    saved = sum(parts, Fraction())
    return Fraction(round((1 - saved / volume) * PICO), PICO)
