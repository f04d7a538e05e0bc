"""What a price is: dated periods as published, and the integer rates of one charge.

Also the UTC days and months that prices count by, from moments in microseconds since 1970.
"""

from dataclasses import dataclass
from datetime import date, timedelta
from fractions import Fraction
from typing import Final

import msgspec

from batcher.pricing.money import METERS, ExactRates, MeterRates

MICROSECONDS_PER_DAY: Final = 86_400_000_000
ONE_DAY: Final = timedelta(days=1)
_EPOCH: Final = date(1970, 1, 1).toordinal()


def utc_day(moment_us: int) -> date:
    """The UTC date of a moment in microseconds since 1970."""
    return calendar_day(moment_us // MICROSECONDS_PER_DAY)


def calendar_day(day: int) -> date:
    """The date of a day counted from 1970-01-01."""
    return date.fromordinal(_EPOCH + day)


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


STANDARD = "standard"
BATCH = "batch"
FAST = "fast"
TERMS = (STANDARD, BATCH, FAST)

# A rate above this is a slip of the keyboard: one unit of the currency per token.
LARGEST_RATE = 10**12


class RateSet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The rates that one charge was made with; hashable, equal when all is equal.

    `terms` is "standard", "batch" or "fast", then a geography, then a prompt size:
    "batch/us/>100000". `valid_from` is an ISO date. `rates` are pico-units of `currency` per
    token, for web_search per search; `None` where the book has no price.
    """

    price_list: str
    model: str
    terms: str
    valid_from: str
    currency: str
    rates: MeterRates


@dataclass(frozen=True, slots=True, kw_only=True)
class RatePeriod:
    """One block of a price book: a model's rates under some terms, from day to day.

    `terms` is standard, batch or fast. The block holds for prompts of more than
    `prompt_tokens_above` tokens (0: all). Both days are included and are UTC days of sending;
    `valid_until` `None` is open. `rates` are exact pico-units per token or search.
    `batch_factor` makes batch rates of token rates, `None`: no batches. `geographies` are
    factors on token rates. `rounds`: rates finer than a pico-unit are rounded, half to even.
    """

    price_list: str
    model: str
    terms: str
    prompt_tokens_above: int
    valid_from: date
    valid_until: date | None
    rates: ExactRates
    batch_factor: Fraction | None
    geographies: tuple[tuple[str, Fraction], ...]
    rounds: bool
    source: str
    note: str

    def holds_on(self, day: date) -> bool:
        """Whether `day` lies in the period."""
        return self.valid_from <= day and (self.valid_until is None or day <= self.valid_until)

    def overlaps(self, other: "RatePeriod") -> bool:
        """Whether there is a day on which both hold."""
        return self.valid_from <= (other.valid_until or date.max) and other.valid_from <= (
            self.valid_until or date.max
        )

    def all_terms(self) -> tuple[str, ...]:
        """The terms that this block gives rates for: its own, and batch by factor."""
        return (self.terms, BATCH) if self.batch_factor is not None else (self.terms,)


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceList:
    """The prices of one seller in one currency.

    `periods` are sorted by model, terms, prompt size and day, and never overlap.
    """

    name: str
    currency: str
    source: str
    note: str
    periods: tuple[RatePeriod, ...]

    def models(self) -> tuple[str, ...]:
        """The ids with at least one price, sorted."""
        return tuple(sorted({period.model for period in self.periods}))


def rate_set(period: RatePeriod, terms: str, geography: str, currency: str) -> RateSet:
    """The integer rates of a block under `terms` ("batch" may be by factor) and a geography.

    `geography` is "" where none is charged. Raises `ValueError`, naming the meter, when a rate
    is finer than a pico-unit and the block does not allow rounding, or is implausibly large.
    """
    factor = dict(period.geographies)[geography] if geography else Fraction(1)
    if terms != period.terms:
        factor *= period.batch_factor or 1
    above = f">{period.prompt_tokens_above}" if period.prompt_tokens_above else ""
    *token_rates, search_rate = period.rates
    return RateSet(
        price_list=period.price_list,
        model=period.model,
        terms="/".join(part for part in (terms, geography, above) if part),
        valid_from=period.valid_from.isoformat(),
        currency=currency,
        rates=_integers((*[r and r * factor for r in token_rates], search_rate), period.rounds),
    )


def _integers(rates: tuple[Fraction | None, ...], rounds: bool) -> MeterRates:  # noqa: FBT001
    one, two, three, four, five, six = (
        None if rate is None else _integer(rate, METERS[meter], rounds)
        for meter, rate in enumerate(rates)
    )
    return one, two, three, four, five, six


def _integer(rate: Fraction, meter: str, rounds: bool) -> int:  # noqa: FBT001
    if rate.denominator != 1 and not rounds:
        raise ValueError(f"{meter} is finer than 10^-12 per unit")
    if rate > LARGEST_RATE:
        raise ValueError(f"{meter} is dearer than one whole unit of the currency per token")
    return round(rate)  # half to even
