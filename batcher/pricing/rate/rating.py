"""From an answer's usage to charges: pure, exact, integers only.

What is billed: docs/development/messages-api.md#answers-and-usage. What cannot be priced is
`unpriced` with a reason and keeps its quantities; it is never zero and never a guess.
Which rates hold is looked up once per model, terms and day, then remembered by the book.
"""

from dataclasses import replace
from enum import StrEnum
from typing import Final

import msgspec

from batcher.messages.answer import Answer, Evidence
from batcher.pricing.book.book import IdPlace, PriceBook, Resolution, road_of
from batcher.pricing.money import (
    LARGEST_AMOUNT,
    NOT_REPORTED,
    NOTHING,
    MeterAmounts,
    MeterQuantities,
)
from batcher.pricing.rate.bounds import interval, regional_high, without_rate
from batcher.pricing.rate.lines import PossibleUse, UsageLine, quantities, usage_lines, variant
from batcher.pricing.rate.rates import (
    BATCH,
    FAST,
    MICROSECONDS_PER_DAY,
    STANDARD,
    PriceList,
    RateSet,
    calendar_day,
    rate_set,
)
from batcher.pricing.rate.trust import doubts, is_open, reads_are_clear

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


def _resolve_by(
    road: str,
    book: PriceBook,
    price_list: str,
    model: str,
    variant: tuple[str | None, str | None, str | None],
    day: int,
) -> Resolution:
    """The rates of a served model that was asked for by a `road`; see `road_of`."""
    found = resolve(book, price_list, model, variant, day)
    if not road or found.base is None:
        return found
    there = resolve(book, price_list, f"{road}{model}", variant, day)
    same = there.base is not None and there.base.model == found.base.model
    return there if same else found


def _look_up(
    book: PriceBook,
    price_list: str,
    model: str,
    variant: tuple[str | None, str | None, str | None],
    day: int,
) -> Resolution:
    if price_list not in book.lists:
        return Resolution(reason="unknown_price_list")
    priced, where = book.priced_model(price_list, model)
    if priced is None:
        return Resolution(reason="unknown_model")
    terms, reason = _terms(variant[0], variant[1])
    if reason:
        return Resolution(reason=reason)
    prices, place = book.lists[price_list], variant[2]
    named = where is IdPlace.REGION and place in _ANY_PLACE
    if named and (found := _on_day(prices, priced, terms, where, day)).base is not None:
        return found
    found = _on_day(prices, priced, terms, place, day)
    return replace(found, regional=where is not IdPlace.ANYWHERE)


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


class ChargeStatus(StrEnum):
    """How much an amount can be trusted."""

    PRICED = "priced"
    ASSUMED = "assumed"  # something that `reason` names is open: an interval that holds
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

    An assumed charge costs `total` at least and `high` at most, and its quantities and rates
    are those of the lower end. Every other charge has one amount, and `high` is that.
    """

    line: int
    model: str | None
    status: ChargeStatus
    reason: str | None
    quantities: MeterQuantities
    amounts: MeterAmounts
    total: int | None
    high: int | None
    rates: RateSet | None

    @property
    def told(self) -> int:
        """What the server says that it billed, also where it is more than there can be."""
        reason = self.reason or ""
        more = any(each in reason for each in _TOLD)
        return (self.high if more else self.total) or 0


# Of a reason: the upper end of the charge is what the server told, more than there can be or
# beside something else. Other upper ends are our own, and told by nobody.
_TOLD: Final = ("_above_", "_disagree", "counts_fell", "cache_split_mismatch")


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
    1970) and of the region that the requested id names. `price_list` `None` means that there
    are no prices, so that all is unpriced.
    """
    day, road = sent_at // MICROSECONDS_PER_DAY, road_of(requested_model)
    if price_list is not None:
        clear = _clear(answer, road, price_list, day, book)
        if clear is not None:
            return (clear,)
    lines = usage_lines(answer, requested_model)
    return tuple(
        [_charge(line, answer.evidence, road, price_list, day, book) for line in lines]
    )


def needs_evidence(answer: Answer, evidence: Evidence) -> bool:
    """Whether `evidence` changes how much a charge of `answer` is to be trusted."""
    return is_open(usage_lines(answer, ""), evidence) or answer.stop_reason == "refusal"


def _clear(
    answer: Answer, road: str, price_list: str, day: int, book: PriceBook
) -> Charge | None:
    """The charge of an answer of which nothing can be open; `None`: look closer.

    Most answers are such ones; all the rules say the same of them, and take longer.
    """
    usage, model = answer.usage, answer.model
    if (
        usage is None
        or not model
        or answer.evidence is not None
        or answer.stop_reason == "refusal"
        or usage.iterations
        or usage.odd
        or usage.web_search_requests
        or usage.other_tools
        or usage.other_tokens
        or usage.input_at_most is not None
        or usage.output_at_most is not None
    ):
        return None
    fresh, output, read = usage.input_tokens, usage.output_tokens, usage.cache_read_tokens
    five, hour = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
    written = (five or 0) + (hour or 0)
    if (
        fresh is None
        or output is None
        or (usage.thinking_tokens or 0) > output
        or (usage.cache_write_tokens or 0) != written
        or (read and five is None and not reads_are_clear(usage))
    ):
        return None
    terms = (usage.service_tier, usage.speed, usage.inference_geo)
    found = _resolve_by(road, book, price_list, model, terms, day)
    if found.base is None or found.regional:
        return None
    used = (fresh, five, hour, read, output, usage.web_search_requests)
    return _priced(0, model, used, found.of_size(fresh + written + (read or 0)))


def _charge(
    line: UsageLine,
    evidence: Evidence | None,
    road: str,
    price_list: str | None,
    day: int,
    book: PriceBook,
) -> Charge:
    used = quantities(line)
    if price_list is None:
        return _unpriced(line.number, line.model, used, "no_price_list")
    if line.unbilled:
        return _unbilled(line, used)
    if line.model is None:
        return _unpriced(line.number, line.model, used, "model_missing")
    found = _resolve_by(road, book, price_list, line.model, variant(line), day)
    if found.base is None:
        return _unpriced(line.number, line.model, used, found.reason or "unknown_model")
    spread = doubts(line, evidence)
    if spread is None and not found.regional:
        prompt = (used[0] or 0) + (used[1] or 0) + (used[2] or 0) + (used[3] or 0)
        return _priced(line.number, line.model, used, found.of_size(prompt))
    plain = [n or 0 for n in used]
    spread = spread or PossibleUse(plain, plain.copy())
    others = [
        (why, _resolve_by(road, book, price_list, line.model, terms, day))
        for why, terms in spread.variants
    ]
    return _assumed(line, used, spread, found, others, road)


def _assumed(
    line: UsageLine,
    used: MeterQuantities,
    spread: PossibleUse,
    found: Resolution,
    others: list[tuple[str, Resolution]],
    road: str,
) -> Charge:
    """A charge with both of its ends; priced where what is open makes no difference."""
    reasons = spread.reasons.copy()
    unknown = [other.reason or "" for _, other in others if other.base is None]
    reasons += [reason for reason in unknown if reason.startswith("service_tier")]
    if spread.unbounded or len(reasons) > len(spread.reasons):
        return _unpriced(line.number, line.model, used, "+".join(reasons))
    sizes = _sizes(found, spread)
    sets = sizes
    for why, other in others:
        sets = [*sets, *_sizes(other, spread)] if other.base else sets
        reasons += [why] if other.base and other.base.rates != sizes[0].rates else []
    reasons += ["tier_assumed"] if len(sizes) > 1 else []
    reasons += ["region_assumed"] if found.regional else []
    if not reasons:
        return _priced(line.number, line.model, used, sizes[-1])
    ends = interval(spread, sets)
    if isinstance(ends, str):
        return _unpriced(line.number, line.model, used, f"no_rate_for_{ends}")
    high = regional_high(ends.high, f"{road}{line.model}") if found.regional else ends.high
    if high > LARGEST_AMOUNT:
        return _unpriced(line.number, line.model, used, "amount_too_large")
    return Charge(
        line=line.number,
        model=line.model,
        status=ChargeStatus.ASSUMED,
        reason="+".join(reasons),
        quantities=_as_told(used, ends.quantities),
        amounts=ends.amounts,
        total=ends.low,
        high=high,
        rates=ends.rates,
    )


def _sizes(found: Resolution, spread: PossibleUse) -> list[RateSet]:
    """The rates for every size that the prompt may have had, the smallest first."""
    least = 0 if spread.several else sum(spread.low[:4])
    most = sum(spread.high[:4]) + spread.pool
    return found.between(least, most)


def _as_told(used: MeterQuantities, counted: MeterQuantities) -> MeterQuantities:
    """What nobody reported stays so where nothing is counted for it."""
    one, two, three, four, five, six = (
        None if told is None and not count else count
        for told, count in zip(used, counted, strict=True)
    )
    return one, two, three, four, five, six


def _priced(number: int, model: str | None, used: MeterQuantities, rates: RateSet) -> Charge:
    one, two, three, four, five, six = used
    a, b, c, d, e, f = rates.rates
    if a is None or b is None or c is None or d is None or e is None or f is None:
        missing = without_rate(used, rates.rates)
        if missing is not None:
            return _unpriced(number, model, used, f"no_rate_for_{missing}")
    amounts = (
        one * (a or 0) if one else 0,
        two * (b or 0) if two else 0,
        three * (c or 0) if three else 0,
        four * (d or 0) if four else 0,
        five * (e or 0) if five else 0,
        six * (f or 0) if six else 0,
    )
    total = sum(amounts)
    if total > LARGEST_AMOUNT:
        return _unpriced(number, model, used, "amount_too_large")
    return Charge(
        line=number,
        model=model,
        status=ChargeStatus.PRICED,
        reason=None,
        quantities=used,
        amounts=amounts,
        total=total,
        high=total,
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
        high=0,
        rates=None,
    )


def _unpriced(number: int, model: str | None, used: MeterQuantities, reason: str) -> Charge:
    return Charge(
        line=number,
        model=model,
        status=ChargeStatus.UNPRICED,
        reason=reason,
        quantities=used,
        amounts=NOT_REPORTED,
        total=None,
        high=None,
        rates=None,
    )
