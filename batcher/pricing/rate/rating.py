"""From an answer's usage to charges: pure, exact, integers only.

The rules are those of pricing, 2.2 and 2.3, and messages-api, 3.4. What cannot be priced is
`unpriced` with a reason and keeps its quantities; it is never zero and never a guess.
"""

from enum import StrEnum

import msgspec

from batcher.messages.answer import Answer
from batcher.pricing.book.book import PriceBook
from batcher.pricing.meters import (
    METERS,
    NOT_REPORTED,
    NOTHING,
    MeterAmounts,
    MeterQuantities,
)
from batcher.pricing.money import LARGEST_AMOUNT
from batcher.pricing.rate.lines import UsageLine, quantities, usage_lines, variant
from batcher.pricing.rate.rates import RateSet
from batcher.pricing.rate.resolve import MICROSECONDS_PER_DAY, resolve

__all__ = ["Charge", "ChargeStatus", "RateSet", "rate"]


class ChargeStatus(StrEnum):
    """How much an amount can be trusted."""

    PRICED = "priced"
    ASSUMED = "assumed"  # priced, with an assumption that `reason` names
    UNBILLED = "unbilled"  # the provider does not charge it: zero by rule
    UNPRICED = "unpriced"  # no amount is known; `reason` says why


class Charge(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The amounts of one usage line.

    `line` is 0 for the answer's top-level usage; with iterations they are numbered from 0 in
    their order. `model` is the served id as reported, `rates.model` the id it is priced as.
    `quantities` and `amounts` are in the order of `METERS`; a quantity is `None` when it was
    not reported. Amounts are pico-units of `rates.currency`; unpriced ones and their total are
    `None`. Web searches are reported once per answer and stand on one line only, the first
    that is billed. `rates` is `None` for unbilled and unpriced lines.
    """

    line: int
    model: str | None
    status: ChargeStatus
    reason: str | None
    quantities: MeterQuantities
    amounts: MeterAmounts
    total: int | None
    rates: RateSet | None


def rate(
    answer: Answer,
    *,
    requested_model: str,
    price_list: str | None,
    sent_at: int,
    book: PriceBook,
) -> tuple[Charge, ...]:
    """The charges of one answer, at least one, in the order of its usage lines.

    The served model is priced, at the rates of the UTC day of `sent_at` (microseconds since
    1970). `price_list` `None` means that there are no prices, so that all is unpriced.
    """
    day = sent_at // MICROSECONDS_PER_DAY
    lines = usage_lines(answer, requested_model)
    return tuple([_charge(line, price_list, day, book) for line in lines])


def _charge(line: UsageLine, price_list: str | None, day: int, book: PriceBook) -> Charge:
    used, split = quantities(line)
    if price_list is None:
        return _unpriced(line, used, "no_price_list")
    if used[0] is None or used[4] is None:
        return _unpriced(line, used, "usage_missing")
    if line.unbilled:
        return _unbilled(line, used)
    if line.model is None:
        return _unpriced(line, used, "model_missing")
    found = resolve(book, price_list, line.model, variant(line), day)
    if found.base is None:
        return _unpriced(line, used, found.reason or "unknown_model")
    rates, tier = (
        _tier(line, used, found.base, found.tiers) if found.tiers else (found.base, None)
    )
    assumed = line.assumed
    if split or tier or found.regional:
        region = "region_assumed" if found.regional else None
        assumed = "+".join(part for part in (assumed, split, tier, region) if part)
    return _priced(line, used, rates, assumed)


def _tier(
    line: UsageLine,
    used: MeterQuantities,
    base: RateSet,
    tiers: tuple[tuple[int, RateSet], ...],
) -> tuple[RateSet, str | None]:
    """The rates for this prompt's size, and whether the size had to be assumed.

    Top-level totals of an answer with server tools add up several prompts, so that only
    iterations tell the size of each (pricing, 2.3).
    """
    prompt = (used[0] or 0) + (used[1] or 0) + (used[2] or 0) + (used[3] or 0)
    for above, rates in tiers:
        if prompt > above:
            several = line.counts is line.answer_usage and line.web_searches
            return rates, "tier_assumed" if several else None
    return base, None


def _priced(
    line: UsageLine, used: MeterQuantities, rates: RateSet, assumed: str | None
) -> Charge:
    amounts = [
        0 if not quantity else None if rate is None else quantity * rate
        for quantity, rate in zip(used, rates.rates, strict=True)
    ]
    if None in amounts:
        return _unpriced(line, used, f"no_rate_for_{METERS[amounts.index(None)]}")
    total = sum(amounts)  # type: ignore[arg-type] # None was ruled out above
    if total > LARGEST_AMOUNT:
        return _unpriced(line, used, "amount_too_large")
    return Charge(
        line=line.number,
        model=line.model,
        status=ChargeStatus.ASSUMED if assumed else ChargeStatus.PRICED,
        reason=assumed,
        quantities=used,
        amounts=tuple(amounts),  # type: ignore[arg-type] # six, like the rates
        total=total,
        rates=rates,
    )


def _unbilled(line: UsageLine, used: MeterQuantities) -> Charge:
    return Charge(
        line=line.number,
        model=line.model,
        status=ChargeStatus.UNBILLED,
        reason=line.unbilled,
        quantities=used,
        amounts=NOTHING,
        total=0,
        rates=None,
    )


def _unpriced(line: UsageLine, used: MeterQuantities, reason: str) -> Charge:
    return Charge(
        line=line.number,
        model=line.model,
        status=ChargeStatus.UNPRICED,
        reason=reason,
        quantities=used,
        amounts=NOT_REPORTED,
        total=None,
        rates=None,
    )
