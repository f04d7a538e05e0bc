"""Which rates hold: looked up once per model, terms and day, then remembered by the book."""

from datetime import date, timedelta
from typing import Final

from batcher.pricing.book.book import PriceBook, Resolution
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, PriceList, rate_set

MICROSECONDS_PER_DAY: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()
_ANY_PLACE: Final = frozenset({None, "", "global", "not_available"})
_REMEMBERED: Final = 20_000  # model names come from servers: what they can fill is bounded


def resolve(
    book: PriceBook,
    price_list: str,
    model: str,
    variant: tuple[str | None, str | None, str | None],
    day: int,
) -> Resolution:
    """The rates of `model` for `variant` = (service_tier, speed, inference_geo), as reported.

    `day` counts UTC days since 1970-01-01. An absent part of the variant is the standard one;
    an unknown one gives a resolution with a reason, never the standard rates.
    """
    key = (price_list, model, *variant, day)
    found = book.resolutions.get(key)
    if found is None:
        if len(book.resolutions) >= _REMEMBERED:
            book.resolutions.clear()
        found = book.resolutions[key] = _look_up(book, price_list, model, variant, day)
    return found


def utc_day(moment_us: int) -> date:
    """The UTC date of a moment in microseconds since 1970."""
    return calendar_day(moment_us // MICROSECONDS_PER_DAY)


def calendar_day(day: int) -> date:
    """The date of a day counted from 1970-01-01."""
    return date.fromordinal(_EPOCH + day)


def _look_up(
    book: PriceBook,
    price_list: str,
    model: str,
    variant: tuple[str | None, str | None, str | None],
    day: int,
) -> Resolution:
    if price_list not in book.lists:
        return Resolution(reason="unknown_price_list")
    priced, regional = book.priced_model(price_list, model)
    if priced is None:
        return Resolution(reason="unknown_model")
    terms, reason = _terms(variant[0], variant[1])
    if reason:
        return Resolution(reason=reason)
    found = _on_day(book.lists[price_list], priced, terms, variant[2], day)
    return Resolution(
        base=found.base, tiers=found.tiers, regional=regional, reason=found.reason
    )


def _terms(service_tier: str | None, speed: str | None) -> tuple[str, str | None]:
    """The book's terms for what the response says, or a reason why there are none."""
    if service_tier not in {None, "", STANDARD, BATCH}:
        return "", f"service_tier={service_tier:.40}"
    if speed not in {None, "", STANDARD, FAST}:
        return "", f"speed={speed:.40}"
    if speed == FAST and service_tier == BATCH:
        return "", "batch_and_fast"  # the API does not offer both at once
    if speed == FAST:
        return FAST, None
    return service_tier or STANDARD, None


def _on_day(
    prices: PriceList, model: str, terms: str, place: str | None, day: int
) -> Resolution:
    moment = calendar_day(day)
    valid = [p for p in prices.periods if p.model == model and p.holds_on(moment)]
    if not valid:
        return Resolution(reason="no_price_on_day")
    blocks = [p for p in valid if terms in p.all_terms()]
    if not any(p.prompt_tokens_above == 0 for p in blocks):
        return Resolution(reason=f"no_price_for_{terms}")
    geography = "" if place in _ANY_PLACE else str(place)
    if geography and not all(geography in dict(p.geographies) for p in blocks):
        return Resolution(reason=f"inference_geo={geography:.40}")
    sets = sorted(
        (
            (p.prompt_tokens_above, rate_set(p, terms, geography, prices.currency))
            for p in blocks
        ),
        key=lambda pair: -pair[0],
    )
    return Resolution(base=sets[-1][1], tiers=tuple(sets[:-1]))


def moment_of_day(day: str) -> int:
    """The first microsecond of an ISO day; raises `ValueError` for anything else."""
    return _first_microsecond(date.fromisoformat(day))


def month_window(month: str) -> tuple[int, int]:
    """The first microsecond of `2026-10` and that of the month after.

    Raises `ValueError` for anything else.
    """
    if len(month) != len("2026-10"):
        raise ValueError(f"{month!r:.20} is no month such as 2026-10")
    first = date.fromisoformat(f"{month}-01")
    following = (first + timedelta(days=31)).replace(day=1)
    return _first_microsecond(first), _first_microsecond(following)


def _first_microsecond(day: date) -> int:
    return (day.toordinal() - _EPOCH) * MICROSECONDS_PER_DAY
