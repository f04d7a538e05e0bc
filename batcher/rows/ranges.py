"""Sets of row numbers, kept as ranges: what is done of a source fits in a few bytes."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import Final, Protocol

import msgspec

from batcher.errors import StorageError
from batcher.messages.codec import CODEC_ERRORS

_LAST_ROW: Final = 2**62  # no source has more rows


class RowRanges:
    """A mutable set of row numbers, kept as sorted inclusive ranges that never touch.

    Made for numbers that arrive nearly ascending: `add` at the end of a range costs next to
    nothing, anywhere else one bisection. Not thread-safe: hand a `copy()` to another thread.
    """

    __slots__ = ("_count", "_first", "_last")

    def __init__(self) -> None:
        self._first: list[int] = []
        self._last: list[int] = []
        self._count = 0

    @classmethod
    def from_json(cls, text: str) -> "RowRanges":
        """The set that `to_json` wrote; raises `StorageError` for anything else."""
        ranges = cls()
        try:
            for first, last in msgspec.json.decode(text, type=list[tuple[int, int]]):
                ranges.add_range(first, last)
        except CODEC_ERRORS as exc:
            raise StorageError(
                f"stored row ranges {text[:60]!r} are no list of [first, last] pairs: {exc}"
            ) from exc
        return ranges

    def to_json(self) -> str:
        """The ranges as JSON text, ascending, without blanks: `[[1,1000],[1005,2000]]`."""
        return msgspec.json.encode(list(self)).decode()

    def add(self, number: int) -> int:
        """Make `number` a member; gives how many ranges more that takes, from -1 to 1."""
        last = self._last
        if last and last[-1] + 1 == number:  # the usual case
            last[-1] = number
            self._count += 1
            return 0
        before = len(last)
        self.add_range(number, number)
        return len(last) - before

    def add_range(self, first: int, last: int) -> None:
        """Make all of `first` to `last`, both included, members; `ValueError` if reversed."""
        if last < first:
            raise ValueError(f"a range cannot end at {last} when it starts at {first}")
        # every range that overlaps or touches the new one becomes part of it
        low = bisect_left(self._last, first - 1)
        high = bisect_right(self._first, last + 1)
        merged_first, merged_last = first, last
        if low < high:
            merged_first = min(first, self._first[low])
            merged_last = max(last, self._last[high - 1])
        self._replace(low, high, [(merged_first, merged_last)])

    def discard(self, number: int) -> None:
        """Make `number` no member, whether or not it was one."""
        index = self._index(number)
        if index is None:
            return
        first, last = self._first[index], self._last[index]
        parts = [(first, number - 1), (number + 1, last)]
        self._replace(index, index + 1, [part for part in parts if part[0] <= part[1]])

    def update(self, other: "RowRanges") -> None:
        """Make every member of `other` a member."""
        for first, last in other:
            self.add_range(first, last)

    def union(self, other: "RowRanges") -> "RowRanges":
        """A new set with the members of both."""
        both = self.copy()
        both.update(other)
        return both

    def complement(self) -> "RowRanges":
        """A new set with every row number there can be that is no member."""
        others = RowRanges()
        for first, last in self.gaps(1, _LAST_ROW):
            others.add_range(first, last)
        return others

    def copy(self) -> "RowRanges":
        """A new set with the same members."""
        twin = RowRanges()
        twin._first, twin._last = self._first.copy(), self._last.copy()
        twin._count = self._count
        return twin

    def covers(self, first: int, last: int) -> bool:
        """Whether all of `first` to `last` are members; so it is when the range is empty."""
        if last < first:
            return True
        index = self._index(first)
        return index is not None and last <= self._last[index]

    def gaps(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The inclusive ranges within `first` to `last` that are not members, ascending."""
        for index in range(bisect_left(self._last, first), len(self._first)):
            if self._first[index] > last:
                break
            if first < self._first[index]:
                yield first, self._first[index] - 1
            first = self._last[index] + 1
        if first <= last:
            yield first, last

    def __contains__(self, number: int) -> bool:
        index = bisect_right(self._first, number) - 1
        return index >= 0 and number <= self._last[index]

    def __len__(self) -> int:
        """How many rows, not ranges."""
        return self._count

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """The ranges (first, last), ascending."""
        return zip(self._first, self._last, strict=True)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowRanges):
            return NotImplemented
        return self._first == other._first and self._last == other._last

    __hash__ = None  # type: ignore[assignment]  # mutable

    def __repr__(self) -> str:
        return f"RowRanges({self.to_json()[:200]})"

    def _index(self, number: int) -> int | None:
        index = bisect_right(self._first, number) - 1
        return index if index >= 0 and number <= self._last[index] else None

    def _replace(self, low: int, high: int, parts: list[tuple[int, int]]) -> None:
        for first, last in zip(self._first[low:high], self._last[low:high], strict=True):
            self._count -= last - first + 1
        self._first[low:high] = [first for first, _ in parts]
        self._last[low:high] = [last for _, last in parts]
        self._count += sum(last - first + 1 for first, last in parts)


class RowsToRead(Protocol):
    """Which rows of a source its reader reads; asked in ascending order."""

    def none_in(self, first: int, last: int) -> bool:
        """Whether nothing of `first` to `last` is to be read; takes nothing."""

    def take(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """The inclusive ranges within `first` to `last` that the caller reads, ascending.

        What was taken is the caller's: where several processes read one source, no other one
        reads it.
        """

    def take_one(self, number: int) -> bool:
        """Whether the caller reads this row; see `take`."""


class AllBut:
    """See `RowsToRead`: a source's only reader takes all but the rows that were done before.

    `done` is copied: it may change while the source is read.
    """

    def __init__(self, done: RowRanges) -> None:
        self._done = done.copy()

    def none_in(self, first: int, last: int) -> bool:
        """See `RowsToRead.none_in`."""
        return self._done.covers(first, last)

    def take(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """See `RowsToRead.take`."""
        return self._done.gaps(first, last)

    def take_one(self, number: int) -> bool:
        """See `RowsToRead.take_one`."""
        return number not in self._done
