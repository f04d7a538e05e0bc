"""From what may have been used, at rates that may have held, to both ends of the cost."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from batcher.pricing.money import METERS, MeterAmounts, MeterQuantities, MeterRates
from batcher.pricing.rate.rates import RateSet
from batcher.pricing.rate.spread import PossibleUse

# What the endpoints of one region cost more than the global ones, in tenths.
_REGION_TENTHS: Final = 11
_GOVERNMENT_TENTHS: Final = 12


@dataclass(frozen=True, slots=True)
class Ends:
    """The lower end with its quantities, amounts and rates, and the upper one; pico-units."""

    quantities: MeterQuantities
    amounts: MeterAmounts
    low: int
    rates: RateSet
    high: int


def interval(spread: PossibleUse, sets: Iterable[RateSet]) -> Ends | str:
    """Both ends over every set of rates that may have held; a meter's name: it has no rate."""
    lowest: tuple[int, list[int], list[int], RateSet] | None = None
    high = 0
    for rates in sets:
        counted = _cheapest(spread, rates.rates)
        missing = without_rate([*map(max, counted, spread.high)], rates.rates)
        if missing is not None:
            return missing
        amounts = [n * (rate or 0) for n, rate in zip(counted, rates.rates, strict=True)]
        high = max(high, _dearest(spread, rates.rates))
        if lowest is None or sum(amounts) < lowest[0]:
            lowest = (sum(amounts), counted, amounts, rates)
    assert lowest is not None  # noqa: S101 - there is a set for the prompt's size
    low, counted, amounts, rates = lowest
    return Ends(_six(counted), _six(amounts), low, rates, high + spread.fees)


def regional_high(high: int, model: str) -> int:
    """The upper end where the id names a region, whose premium is not in the book."""
    tenths = _GOVERNMENT_TENTHS if "-gov" in model else _REGION_TENTHS
    return -(-high * tenths // 10)


def _cheapest(spread: PossibleUse, rates: MeterRates) -> list[int]:
    if spread.free:
        return [0] * len(METERS)
    counted = spread.low.copy()
    for meter, tokens, others in spread.moves:
        moved = min(tokens, counted[meter])
        priced = [(rates[m] or 0, m) for m in (meter, *others) if rates[m] is not None]
        to = min(priced)[1] if priced else meter
        counted[meter] -= moved
        counted[to] += moved
    return counted


def _dearest(spread: PossibleUse, rates: MeterRates) -> int:
    high = sum(n * (rate or 0) for n, rate in zip(spread.high, rates, strict=True))
    for meter, tokens, others in spread.moves:
        own = rates[meter] or 0
        high += tokens * max(0, *((rates[other] or 0) - own for other in others))
    if spread.pool:
        high += spread.pool * max(rates[meter] or 0 for meter in spread.pool_meters)
    return high


def without_rate(counted: Sequence[int | None], rates: MeterRates) -> str | None:
    """The first meter of which something was used that has no rate."""
    for meter, count in enumerate(counted):
        if count and rates[meter] is None:
            return METERS[meter]
    return None


def _six(values: list[int]) -> MeterAmounts:
    one, two, three, four, five, six = values
    return one, two, three, four, five, six
