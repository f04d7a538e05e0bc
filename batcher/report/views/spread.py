"""How numbers are spread: percentiles in bounded memory, however many numbers there are."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Final

DIGITS: Final = 4  # of a number, that its bucket is known by; SQL cuts off the others, too
_MOST_EXACT: Final = 100_000  # these take as much memory as the buckets of many


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Of at least one number: `p50` and `p95` are numbers that occur (nearest rank)."""

    count: int
    mean: Fraction
    p50: int
    p95: int
    largest: int


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
    """Numbers from 0 on, by their first four digits: at most 9,000 buckets a power of ten."""

    each: dict[int, CountBucket] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """How many numbers."""
        return sum(bucket.count for bucket in self.each.values())

    @property
    def total(self) -> int:
        """Their exact sum."""
        return sum(bucket.total for bucket in self.each.values())

    def add(self, edge: int, count: int, total: int, largest: int) -> None:
        """Take up numbers whose first four digits are those of `edge`."""
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
        count = self.count
        if not count:
            return None
        return Spread(
            count=count,
            mean=Fraction(self.total, count),
            p50=self.percentile(50),
            p95=self.percentile(95),
            largest=max(bucket.largest for bucket in self.each.values()),
        )

    def percentile(self, percent: int) -> int:
        """The smallest number that at least `percent` of them do not exceed; see `spread`."""
        return self.ranked(max(-(-self.count * percent // 100), 1))

    def ranked(self, rank: int) -> int:
        """The number at `rank`, from 1 on, in order; see `spread`."""
        for _, bucket in sorted(self.each.items()):
            rank -= bucket.count
            if rank <= 0:
                return bucket.largest
        raise ValueError("there are not so many numbers")


@dataclass(slots=True)
class Numbers:
    """Numbers from 0 on that are taken up one by one: up to 100,000 as they are, then buckets.

    So a percentile of up to 100,000 is that of nearest rank; for more see `Buckets.spread`.
    """

    few: list[int] = field(default_factory=list)
    many: Buckets = field(default_factory=Buckets)

    @property
    def count(self) -> int:
        """How many numbers."""
        return len(self.few) + self.many.count

    @property
    def total(self) -> int:
        """Their exact sum."""
        return sum(self.few) + self.many.total

    def take(self, number: int) -> None:
        """Take up one."""
        self.few.append(number)
        if len(self.few) > _MOST_EXACT:
            self._fold()

    def join(self, other: "Numbers") -> None:
        """Take up all of another."""
        self.few += other.few
        self.many.join(other.many)
        if len(self.few) > _MOST_EXACT:
            self._fold()

    def spread(self) -> Spread | None:
        """The spread; `None` for none."""
        if self.many.each:
            self._fold()
            return self.many.spread()
        if not self.few:
            return None
        ordered, count = sorted(self.few), len(self.few)
        return Spread(
            count=count,
            mean=Fraction(sum(ordered), count),
            p50=ordered[-(-count * 50 // 100) - 1],
            p95=ordered[-(-count * 95 // 100) - 1],
            largest=ordered[-1],
        )

    def ranked(self, rank: int) -> int:
        """The number at `rank`, from 1 on, in order."""
        if self.many.each:
            self._fold()
            return self.many.ranked(rank)
        return sorted(self.few)[rank - 1]

    def _fold(self) -> None:
        for number in self.few:
            self.many.add(number - number % width_at(number), 1, number, number)
        self.few = []


def width_at(number: int) -> int:
    """How many whole numbers share a bucket with `number`."""
    width: int = 10 ** max(len(str(number)) - DIGITS, 0)
    return width
