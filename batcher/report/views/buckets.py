"""How numbers are spread: exactly, or as counts that the database makes of very many."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, case
from sqlalchemy.sql.elements import literal_column


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


_DIGITS: Final = 4
_LONGEST: Final = 19  # digits of 64 bits


@dataclass(slots=True)
class CountBucket:
    """How many numbers, their exact sum, and the largest of them."""

    count: int = 0
    total: int = 0
    largest: int = 0

    def add(self, count: int, total: int, largest: int) -> None:
        """Take up more of them."""
        self.count += count
        self.total += total
        self.largest = max(self.largest, largest)


@dataclass(slots=True)
class Buckets:
    """Numbers from 0 on, by `cut_off`: at most 9,000 buckets for each power of ten."""

    each: dict[int, CountBucket] = field(default_factory=dict)

    def add(self, edge: int, count: int, total: int, largest: int) -> None:
        """Take up numbers that `cut_off` to `edge`."""
        self.each.setdefault(edge, CountBucket()).add(count, total, largest)

    def join(self, other: "Buckets") -> None:
        """Take up all of another."""
        for edge, bucket in other.each.items():
            self.add(edge, bucket.count, bucket.total, bucket.largest)

    def spread(self) -> Spread | None:
        """The spread; `None` for none.

        Count, mean and largest are exact. A percentile is a number that occurs, with the same
        four digits as that of nearest rank: above it by less than a thousandth, if at all.
        """
        count = sum(bucket.count for bucket in self.each.values())
        if not count:
            return None
        return Spread(
            count=count,
            mean=Fraction(sum(bucket.total for bucket in self.each.values()), count),
            p50=self._percentile(count, 50),
            p95=self._percentile(count, 95),
            largest=max(bucket.largest for bucket in self.each.values()),
        )

    def _percentile(self, count: int, percent: int) -> int:
        rank = max(-(-count * percent // 100), 1)
        for _, bucket in sorted(self.each.items()):
            rank -= bucket.count
            if rank <= 0:
                return bucket.largest
        raise ValueError("a percentile of nothing")


def cut_off(number: ColumnElement[Any]) -> ColumnElement[int]:
    """`number`, from 0 on, with all digits after the first four made zero.

    In whole numbers only, and written out, so that both databases make the same of it and know
    it again where it is grouped by.
    """
    short = (number < _whole(10**_DIGITS), number)
    longer = [
        (
            number < _whole(10 ** (length + 1)),
            number // _whole(10 ** (length + 1 - _DIGITS))
            * _whole(10 ** (length + 1 - _DIGITS)),
        )
        for length in range(_DIGITS, _LONGEST - 1)
    ]  # fmt: skip
    rest = _whole(10 ** (_LONGEST - _DIGITS))
    return case(short, *longer, else_=number // rest * rest)


def width_at(number: int) -> int:
    """How many whole numbers share a bucket with `number`."""
    width: int = 10 ** max(len(str(number)) - _DIGITS, 0)
    return width


def _whole(value: int) -> ColumnElement[int]:
    return literal_column(str(value), BigInteger)
