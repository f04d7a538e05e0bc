"""From amounts to places in a drawing: whole numbers only, the same on every machine.

Drawings are in tenths of a point.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

_STEPS = (1, 2, 5)


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps 0 to `largest` on 0 to `length`; `ticks` are round numbers up to `largest`."""

    largest: int
    length: int
    ticks: tuple[int, ...]

    def place(self, amount: int) -> int:
        """Where `amount` is."""
        return amount * self.length // self.largest


def scale_for(largest: int, length: int, *, ticks: int = 4) -> Scale:
    """A scale whose top is the first round number from `largest` on."""
    step = round_step(max(largest, 1), ticks)
    top = -(-max(largest, 1) // step) * step
    return Scale(top, length, tuple(range(0, top + 1, step)))


def round_step(largest: int, steps: int) -> int:
    """The smallest 1, 2 or 5 times a power of ten of which at most `steps` reach `largest`."""
    return next(step for step in _round_numbers() if step * steps >= largest)


def bins_for(low: int, high: int, *, narrowest: int = 1) -> list[tuple[int, int]]:
    """The bins, from (included) to (excluded), that hold all numbers from `low`, above 0, on.

    Equal ones where the numbers are near each other, none smaller than `narrowest`, a power of
    ten; else growing ones: 1, 2, 5, 10, 20, …
    """
    if high < 20 * low:
        step = max(round_step(max(high - low, 1), 16), narrowest)
        first = low // step * step
        return [(edge, edge + step) for edge in range(first, high + 1, step)]
    edges: list[int] = []
    for edge in _round_numbers():
        edges.append(edge)
        if edge > high:
            break
    return [(start, end) for start, end in pairwise(edges) if end > low]


def _round_numbers() -> Iterator[int]:
    power = 1
    while True:
        for step in _STEPS:
            yield step * power
        power *= 10
