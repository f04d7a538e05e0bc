"""How numbers are spread: mean, percentiles, largest; exact."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of at least one number: `p50` and `p95` are numbers that occur (nearest rank)."""

    count: int
    mean: Fraction
    p50: int
    p95: int
    largest: int


def spread_of(numbers: Sequence[int]) -> Spread | None:
    """The spread of `numbers` in any order; `None` for none."""
    if not numbers:
        return None
    ordered = sorted(numbers)
    return Spread(
        count=len(ordered),
        mean=Fraction(sum(ordered), len(ordered)),
        p50=percentile(ordered, 50),
        p95=percentile(ordered, 95),
        largest=ordered[-1],
    )


def percentile(ordered: Sequence[int], percent: int) -> int:
    """The smallest of the sorted `ordered` that at least `percent` of them do not exceed."""
    return ordered[max(-(-len(ordered) * percent // 100), 1) - 1]
