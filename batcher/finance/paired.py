"""Two runs over the same rows: how their answers differ, row by row, with intervals."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import sqrt
from statistics import NormalDist
from typing import Any, Final

from sqlalchemy import Engine

from batcher.pricing.money import format_usd
from batcher.report.export.answers import paired_answers
from batcher.report.words import count_of

_CONFIDENCE: Final = 0.95
_FEWEST: Final = 5  # pairs; fewer say nothing about the rest
_MEASURES: Final = ("cost_pico_usd", "output_tokens", "latency_ms")


@dataclass(slots=True)
class PairedDifferences:
    """Sums over pairs of numbers: what the second of each has more than the first."""

    pairs: int = 0
    total: int = 0
    squares: int = 0

    def add(self, before: int, after: int) -> None:
        """Take up one pair."""
        self.pairs += 1
        self.total += after - before
        self.squares += (after - before) ** 2

    @property
    def mean(self) -> float:
        """The mean difference."""
        return self.total / self.pairs

    def margin(self) -> float:
        """Half the interval around the mean that holds the true one with 95 % confidence.

        Student's for paired differences: t s / sqrt(n), with n - 1 degrees of freedom, as in
        any textbook (W. S. Gosset, "The probable error of a mean", Biometrika 6, 1908).
        """
        n = self.pairs
        scatter = Fraction(self.squares * n - self.total**2, n * (n - 1))
        return student_quantile(0.5 + _CONFIDENCE / 2, n - 1) * sqrt(scatter / n)


def student_quantile(probability: float, freedom: int) -> float:
    """Student's quantile, to a thousandth from four degrees of freedom on.

    The expansion about the normal one is 26.7.5 of Abramowitz and Stegun, "Handbook of
    Mathematical Functions", 1964.
    """
    x = NormalDist().inv_cdf(probability)
    terms = (
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return x + sum(term / float(freedom) ** power for power, term in enumerate(terms, 1))


def paired_sentences(
    engine: Engine, words: tuple[str, str], runs: tuple[int, int]
) -> list[str]:
    """What the answers of the second run have more than those of the first, a row."""
    pairs = paired_answers(engine, runs, _MEASURES)
    found, rows = _added_up(pairs)
    if not rows:
        return [f"No row has an answer in both {words[0]} and {words[1]}."]
    said = [_said(name, found[name]) for name in _MEASURES if found[name].pairs >= _FEWEST]
    head = f"{count_of(rows, 'row')} with an answer in both; {words[1]} less {words[0]}, a row"
    return [f"{head}: {'; '.join(said) or f'fewer than {_FEWEST} pairs tell nothing'}."]


def _added_up(
    pairs: Iterable[tuple[Sequence[Any], Sequence[Any]]],
) -> tuple[dict[str, PairedDifferences], int]:
    found, rows = {name: PairedDifferences() for name in _MEASURES}, 0
    for before, after in pairs:
        rows += 1
        for name, one, other in zip(_MEASURES, before, after, strict=True):
            if one is not None and other is not None:
                found[name].add(one, other)
    return found, rows


def _said(name: str, found: PairedDifferences) -> str:
    margin = found.margin()
    mean, low, high = (
        _words(name, value) for value in (found.mean, found.mean - margin, found.mean + margin)
    )
    title = {
        "cost_pico_usd": "cost",
        "output_tokens": "output tokens",
        "latency_ms": "latency",
    }[name]
    return f"{title} {mean} (95 % interval {low} to {high})"


def _words(name: str, value: float) -> str:
    sign = "+" if value > 0 else "-" if value < 0 else ""
    if name == "cost_pico_usd":
        return f"{sign}{format_usd(abs(round(value)))}"
    return f"{sign}{abs(value):,.1f}{' ms' if name == 'latency_ms' else ''}"
