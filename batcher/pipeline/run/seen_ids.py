"""Repeated custom_ids, told in little memory: for a warning, since rows may share one."""

from hashlib import blake2b
from struct import Struct
from typing import Final

from batcher.rows.ranges import RowRanges

_EXACT_IDS: Final = 10_000
_DIGITS: Final = "0123456789"
_MOST_DIGITS: Final = 18  # of a number that counts as one
_MOST_PATTERNS: Final = 64
_MOST_RANGES: Final = 1_000
_FIRST_BITS: Final = 2**22
_LAST_BITS: Final = 2**29
_EIGHT: Final = Struct("8I")


class SeenIds:
    """Tells repeated ids: exactly those that count up, the others with Bloom filters.

    Ids such as `row-0001`, `row-0002` are kept as ranges of their numbers, which costs nothing
    however many they are. Of all others the first 10,000 are kept as they are, then come the
    filters, each four times the size of the last. With 40 bits and 8 hashes an id, one in a
    million is taken for a repetition that is none: good enough for a warning that says "about".
    Beyond thirteen million of them it gets worse.
    """

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, int], RowRanges] = {}  # by what they follow, and width
        self._ranges_left = _MOST_RANGES
        self._others: set[str] = set()
        self._filters: list[_Filter] = []

    def seen_before(self, custom_id: str) -> bool:
        """Whether `custom_id` was asked for before; it was from now on."""
        prefix = custom_id.rstrip(_DIGITS)
        width = len(custom_id) - len(prefix)
        numbers = self._numbers_of(prefix, width) if 0 < width <= _MOST_DIGITS else None
        number = int(custom_id[-width:]) if numbers is not None else 0
        if (numbers is not None and number in numbers) or custom_id in self._others:
            return True
        hashes = b""
        if self._filters:
            hashes = _hashes(custom_id)
            if any(known.holds(hashes) for known in self._filters):
                return True
        if numbers is None or not self._count_up(numbers, number):
            self._keep(custom_id, hashes)
        return False

    def _numbers_of(self, prefix: str, width: int) -> RowRanges | None:
        """The numbers seen after `prefix`; `None` when there are too many such patterns."""
        numbers = self._numbers.get((prefix, width))
        if numbers is None and len(self._numbers) < _MOST_PATTERNS:
            numbers = self._numbers[prefix, width] = RowRanges()
        return numbers

    def _count_up(self, numbers: RowRanges, number: int) -> bool:
        """Add `number` if that takes no memory, or if there is some left."""
        touches = number - 1 in numbers or number + 1 in numbers
        if not touches and not self._ranges_left:
            return False
        before = numbers.range_count
        numbers.add(number)
        self._ranges_left += before - numbers.range_count
        return True

    def _keep(self, custom_id: str, hashes: bytes) -> None:
        if len(self._others) < _EXACT_IDS:
            self._others.add(custom_id)
            return
        if not self._filters:
            self._filters.append(_Filter(_FIRST_BITS))
        newest = self._filters[-1]
        if newest.is_full and newest.bits < _LAST_BITS:
            newest = _Filter(newest.bits * 4)
            self._filters.append(newest)
        newest.add(hashes or _hashes(custom_id))


class _Filter:
    """A Bloom filter of a power of two bits, at most 2^32."""

    def __init__(self, bits: int) -> None:
        self.bits = bits
        self._cells = bytearray(bits // 8)
        self._room = bits // 40

    @property
    def is_full(self) -> bool:
        return self._room <= 0

    def holds(self, hashes: bytes) -> bool:
        cells, mask = self._cells, self.bits - 1
        for number in _EIGHT.unpack(hashes):
            bit = number & mask
            if not cells[bit >> 3] & 1 << (bit & 7):
                return False
        return True

    def add(self, hashes: bytes) -> None:
        self._room -= 1
        for number in _EIGHT.unpack(hashes):
            bit = number & self.bits - 1
            self._cells[bit >> 3] |= 1 << (bit & 7)


def _hashes(custom_id: str) -> bytes:
    return blake2b(custom_id.encode(), digest_size=32).digest()
