"""A total over many rows from a random sample of them, with an interval. Pure.

The rows to predict are not those of the sample, so their own scatter counts beside the
uncertainty of the mean: for R rows predicted by n like ones the variance is
R^2 s^2 (1/n + 1/R), which is the finite-population correction seen from the other side. The
quantiles are those of the bootstrap-t: Student's come too short on the long tails that the
lengths of answers have.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import isqrt, sqrt
from typing import Final

CONFIDENCE: Final = "0.90"
_TAIL: Final = Fraction(4, 100)  # on either side: 5 would be right for samples of hundreds
_MICRO: Final = 10**6
_DRAWS: Final = 20_000
_FEWEST_RESAMPLES, _MOST_RESAMPLES = 300, 2_000
_FAR: Final = 1_000.0  # standard errors: where a resample had no scatter to measure with


@dataclass(frozen=True, slots=True, kw_only=True)
class Stratum:
    """`rows` to predict by the sampled `values` of like rows, integers of any unit."""

    rows: int
    values: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Expectation:
    """A total and the interval it lies in with a confidence of `CONFIDENCE`."""

    expected: int
    low: int
    high: int


def expect_total(
    strata: Sequence[Stratum],
    chance: Callable[[], float],
    *,
    fixed: int = 0,
    margin: int = 0,
    floor: int = 0,
    ceiling: int | None = None,
) -> Expectation:
    """The sum over all rows to predict, plus `fixed`, which is known up to `margin`.

    `chance` gives numbers in [0, 1): the same ones give the same interval. Nothing lies below
    `floor` or above `ceiling`, where that is not `None`. Raises `ValueError` for a stratum with
    rows to predict and less than two values.
    """
    asked = [stratum for stratum in strata if stratum.rows]
    if any(len(stratum.values) < 2 for stratum in asked):
        raise ValueError("a stratum needs two values at least; merge it with its neighbour")
    centre = fixed + round(sum((_mean(each.values) * each.rows for each in asked), Fraction()))
    error = isqrt(int(sum((_error_squared(each) for each in asked), Fraction())))
    lowest, highest = _quantiles(asked, chance) if error else (0, 0)
    below, above = _scaled(highest, error), _scaled(-lowest, error)
    return Expectation(
        expected=_within(centre, floor, ceiling),
        low=_within(centre - isqrt(below**2 + margin**2), floor, ceiling),
        high=_within(centre + isqrt(above**2 + margin**2), floor, ceiling),
    )


def _mean(values: Sequence[int]) -> Fraction:
    return Fraction(sum(values), len(values))


def _error_squared(stratum: Stratum) -> Fraction:
    """The variance of the stratum's predicted total around the real one."""
    n, rows = len(stratum.values), stratum.rows
    return _variance(stratum.values) * rows * (rows + n) / n


def _variance(values: Sequence[int]) -> Fraction:
    n = len(values)
    return Fraction(n * sum(x * x for x in values) - sum(values) ** 2, n * (n - 1))


def _scaled(standard_errors: int, error: int) -> int:
    """So many millionths of `error`; an interval never loses its own centre."""
    return max(standard_errors, 0) * error // _MICRO


def _within(value: int, floor: int, ceiling: int | None) -> int:
    value = max(value, floor)
    return value if ceiling is None else min(value, ceiling)


def _quantiles(strata: Sequence[Stratum], chance: Callable[[], float]) -> tuple[int, int]:
    """(5 %, 95 %) of the bootstrap-t, in millionths of a standard error.

    They are ratios, so floating point is good enough: no amount passes through here.
    """
    parts = [_standardised(stratum) for stratum in strata]
    size = sum(len(values) for _, values in parts)
    count = min(max(_DRAWS // size, _FEWEST_RESAMPLES), _MOST_RESAMPLES)
    draws = sorted(_resampled_t(parts, chance) for _ in range(count))
    edge = int(count * _TAIL)
    return round(draws[edge] * _MICRO), round(draws[-1 - edge] * _MICRO)


def _standardised(stratum: Stratum) -> tuple[float, list[float]]:
    """How many rows, and the sampled values around their mean, in units that stay small."""
    mean = _mean(stratum.values)
    largest = max(abs(value - mean) for value in stratum.values) or Fraction(1)
    return float(stratum.rows * largest), [
        float((value - mean) / largest) for value in stratum.values
    ]


def _resampled_t(
    parts: Sequence[tuple[float, list[float]]], chance: Callable[[], float]
) -> float:
    off = squared_error = 0.0
    for weight, values in parts:
        n = len(values)
        drawn = [values[int(chance() * n)] for _ in range(n)]
        mean = sum(drawn) / n
        scatter = sum(x * x for x in drawn) - n * mean * mean
        off += weight * mean
        squared_error += weight * weight * max(scatter, 0.0) / (n * (n - 1))
    if squared_error <= 0:
        return 0.0 if abs(off) < 1e-9 else _FAR if off > 0 else -_FAR
    return max(-_FAR, min(_FAR, off / sqrt(squared_error)))
