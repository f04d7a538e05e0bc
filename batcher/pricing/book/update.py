"""Prices of another source put into the book: they change what they know, and lose nothing.

Other sources have no history, no geography, and batch or fast prices for some models only. What
they do not say stays as the book has it; what they say otherwise holds from a day on.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import date, timedelta

from batcher.pricing.book.book import PriceBook
from batcher.pricing.book.layer import Layer
from batcher.pricing.money import ExactRates
from batcher.pricing.rate.rates import BATCH, STANDARD, RatePeriod

_ONE_DAY = timedelta(days=1)


def updated(source: Layer, base: PriceBook, price_list: str, day: date) -> Layer:
    """A layer for on top of `base`: models that are new, and those with another price on `day`.

    Those have the book's whole history, and the source's prices from `day` on.
    """
    ours = base.lists.get(price_list)
    models = sorted({period.model for period in source.periods})
    periods: list[RatePeriod] = []
    for model in models:
        told = [p for p in source.periods if p.model == model]
        mine = [p for p in ours.periods if p.model == model] if ours else []
        periods += _model(told, mine, day)
    kept = {period.model for period in periods}
    known = ours is not None
    return replace(
        source,
        extends=True,
        lists={} if known else source.lists,
        periods=tuple(periods),
        context_tokens={m: n for m, n in source.context_tokens.items() if m in kept},
    )


def _model(told: list[RatePeriod], mine: list[RatePeriod], day: date) -> list[RatePeriod]:
    """The periods to write for one model; none where the source says the same."""
    if not mine:
        return told
    ended = {
        (p.terms, p.prompt_tokens_above) for p in mine if p.valid_until and p.valid_until < day
    }
    today = [p for p in told if p.holds_on(day) and not _has_ended(p, ended)]
    changed = list(_changed(today, [p for p in mine if p.holds_on(day)], day))
    replaced = {(p.terms, p.prompt_tokens_above) for p in changed}
    if not changed:
        return []
    kept = list(_until(mine, replaced, day))
    return kept + changed


def _changed(told: list[RatePeriod], mine: list[RatePeriod], day: date) -> Iterator[RatePeriod]:
    by_place = {(p.terms, p.prompt_tokens_above): p for p in mine}
    batches = {p.prompt_tokens_above: p for p in told if p.terms == BATCH}
    for new in told:
        old = by_place.get((new.terms, new.prompt_tokens_above))
        if old is None:
            by_factor = by_place.get((STANDARD, new.prompt_tokens_above))
            if new.terms == BATCH and by_factor and _is_by_factor(new, by_factor, told):
                continue
            yield replace(new, valid_from=day, valid_until=None)
            continue
        rates = _either(new.rates, old.rates)
        batch = batches.get(new.prompt_tokens_above)
        factor = None if batch and not _is_by_factor(batch, old, told) else old.batch_factor
        if rates != old.rates or factor != old.batch_factor:
            yield replace(
                old, rates=rates, batch_factor=factor, valid_from=day, source=new.source,
                rounds=old.rounds or new.rounds,
            )  # fmt: skip


def _has_ended(period: RatePeriod, ended: set[tuple[str, int]]) -> bool:
    """Whether the book knows the last day of such prices, which sources without days do not.

    Batch prices of long prompts end with the others of these.
    """
    above = period.prompt_tokens_above
    terms = {period.terms, STANDARD} if above else {period.terms}
    return any((each, above) in ended for each in terms)


def _either(new: ExactRates, old: ExactRates) -> ExactRates:
    one, two, three, four, five, six = (
        mine if said is None else said for said, mine in zip(new, old, strict=True)
    )
    return one, two, three, four, five, six


def _is_by_factor(batch: RatePeriod, standard: RatePeriod, told: list[RatePeriod]) -> bool:
    """Whether the batch prices told are what the book makes of the standard ones."""
    if standard.batch_factor is None:
        return False
    above = batch.prompt_tokens_above
    beside = next(
        (p for p in told if (p.terms, p.prompt_tokens_above) == (STANDARD, above)), standard
    )
    rates = _either(beside.rates, standard.rates)
    return all(
        said is None or (base is not None and said == base * standard.batch_factor)
        for said, base in zip(batch.rates[:5], rates[:5], strict=True)
    )


def _until(
    mine: list[RatePeriod], replaced: set[tuple[str, int]], day: date
) -> Iterator[RatePeriod]:
    """The book's own, those that are replaced up to the day before."""
    for period in mine:
        if (period.terms, period.prompt_tokens_above) not in replaced or not period.holds_on(
            day
        ):
            yield period
        elif period.valid_from < day:
            yield replace(period, valid_until=day - _ONE_DAY)
