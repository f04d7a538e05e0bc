"""The public price of what was used, from the price book that comes with the program."""

from collections.abc import Sequence
from typing import Final

from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, RateSet
from batcher.pricing.rate.rating import resolve

_LIST: Final = "anthropic"


def public_book() -> PriceBook:
    """The price book."""
    return load_shipped()


def public_rates(
    rates: RateSet, day: int, prompt_above: int | None = None, *, at_standard: bool = False
) -> RateSet | None:
    """The public rates on a day (since 1970) for the same model, terms and place.

    `prompt_above` is a prompt size that was exceeded, `None`: as the terms of `rates` say.
    `at_standard` leaves out the discount of the batch lane. The answer is `None` where there is
    no public price, or none in the currency of `rates`.
    """
    book = load_shipped()
    if rates.currency != book.lists[_LIST].currency:
        return None
    terms, *rest = rates.terms.split("/")
    place = next((part for part in rest if not part.startswith(">")), None)
    if prompt_above is None:
        prompt_above = next((int(part[1:]) for part in rest if part.startswith(">")), 0)
    tier = BATCH if terms == BATCH and not at_standard else STANDARD
    variant = (tier, FAST if terms == FAST else None, place)
    found = resolve(book, _LIST, rates.model, variant, day)
    return next((dearer for size, dearer in found.tiers if prompt_above >= size), found.base)


def amount_at(rates: RateSet | None, quantities: Sequence[int]) -> int | None:
    """What quantities (in the order of the meters) cost, pico-units; `None` without a rate."""
    if rates is None:
        return None
    used = [(q, rate) for q, rate in zip(quantities, rates.rates, strict=True) if q]
    if any(rate is None for _, rate in used):
        return None
    return sum(quantity * (rate or 0) for quantity, rate in used)
