"""What is known of rows beside those under way: done, begun before, and seen custom_ids."""

from array import array
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from struct import Struct
from typing import Final

from batcher.ledger.resume import EarlierAnswer, Unfinished
from batcher.messages.legs import CALLS_TOOLS, LEG_STOP_REASONS, Leg
from batcher.messages.request import Purpose, Request
from batcher.pipeline.engine.policies import AnswerPolicy, ask_again
from batcher.pipeline.engine.validate import Validity
from batcher.pipeline.engine.work import Replaced, Underway, Work
from batcher.rows.ranges import RowRanges

_EXACT_IDS: Final = 10_000
_DIGITS: Final = "0123456789"
_MOST_DIGITS: Final = 18  # of a number that counts as one
_MOST_PATTERNS: Final = 64
_MOST_RANGES: Final = 1_000
_FIRST_BITS: Final = 2**22
_LAST_BITS: Final = 2**29
_RECENT_IDS: Final = 2**16
_EIGHT: Final = Struct("8I")


def _take_up(work: Work, answers: Sequence[EarlierAnswer], policy: AnswerPolicy) -> None:
    """Give a begun request its legs, and the `max_tokens` that it had reached, back."""
    for answer in answers:
        if answer.stop_reason in LEG_STOP_REASONS:
            leg = _leg(answer)
            work.go_on(leg, Purpose.TOOL if leg.calls_tools else Purpose.CONTINUATION)
        else:
            _replace(work, answer, policy)


def _leg(answer: EarlierAnswer) -> Leg:
    return Leg(
        answer.content,
        answer.text,
        answer.container_id,
        calls_tools=answer.stop_reason == CALLS_TOOLS,
        results=answer.tool_results,
    )


def _replace(work: Work, answer: EarlierAnswer, policy: AnswerPolicy) -> None:
    """Answers that `max_tokens` cut off are replaced by longer ones, others by valid ones."""
    tokens = answer.output_tokens
    output = len(answer.content) if tokens is None else tokens
    cut_off = answer.stop_reason == "max_tokens"
    purpose = Purpose.TRUNCATION if cut_off else Purpose.INVALID
    validity = Validity(valid=False, reason=answer.invalid_reason)
    ask_again(work, _leg(answer), Replaced(purpose, output), validity)
    factor, limit = policy.choices.raise_factor, work.request.max_tokens
    if cut_off and factor is not None and limit is not None:
        higher = policy.limited(work.request, int(limit * factor))
        work.raise_max_tokens(max(higher, limit))


@dataclass(frozen=True, slots=True)
class _Begun:
    entry: Unfinished
    answers: Sequence[EarlierAnswer]
    underway: Underway | None = None


# By its place, or as what has moved since: source_id and row_number, or custom_id and hash.
_Key = tuple[int, int] | tuple[str | None, bytes]


class BegunRequests:
    """What is known of rows that were sent before.

    Rows of `live_sources` are found by their place; those of older snapshots may have moved,
    and are found by their identity.
    """

    def __init__(self, live_sources: Collection[int]) -> None:
        self._live_sources = live_sources
        self._begun: dict[_Key, deque[_Begun]] = {}
        self._back: set[int] = set()  # batches that have ended
        self._aside: dict[int, dict[int, RowRanges]] = {}

    def add(
        self,
        entry: Unfinished,
        answers: Sequence[EarlierAnswer],
        underway: Underway | None = None,
    ) -> None:
        """An unfinished request with its answers in order; its legs are not sent again.

        `underway`: its last attempt left in a batch, and is not to be made again.
        """
        place = (entry.source_id, entry.row_number)
        moved = (entry.custom_id, entry.params_hash)
        key: _Key = place if entry.source_id in self._live_sources else moved
        self._keep(key, _Begun(entry, answers, underway))

    def _keep(self, key: _Key, begun: _Begun) -> None:
        self._begun.setdefault(key, deque()).append(begun)

    def learn(self, other: "BegunRequests") -> None:
        """Of rows that are found by their place, what `other` knows is newer."""
        newer = other._begun.items()  # noqa: SLF001 - another of us
        self._begun |= {key: begun for key, begun in newer if isinstance(key[1], int)}

    def came_back(self, batch: int) -> dict[int, RowRanges]:
        """The batch has ended; rows that were read before and wait for it, by source."""
        self._back.add(batch)
        return self._aside.pop(batch, {})

    def nobody_took(self, batch: int) -> set[int]:
        """The attempts that came back and belong to no row that was read; forgotten here."""
        found = set[int]()
        for key in list(self._begun):
            waiting = self._begun[key]
            for begun in [b for b in waiting if b.underway and b.underway.batch == batch]:
                waiting.remove(begun)
                found.add(begun.entry.attempt_id)
            if not waiting:
                del self._begun[key]
        return found

    def work_for(self, request: Request, first: Purpose, policy: AnswerPolicy) -> Work | None:
        """The continuation of a request that was begun, or a fresh one with purpose `first`.

        `None`: its attempt is still under way; the row is read again when that is back.
        """
        if not self._begun:
            return Work(request=request, purpose=first)
        place = (request.source_id, request.row_number)
        found = self._take(place) or self._take((request.custom_id, request.params_hash))
        if found is None:
            return Work(request=request, purpose=first)
        if found.underway is not None and found.underway.batch not in self._back:
            self._keep(place, found)
            aside = self._aside.setdefault(found.underway.batch, {})
            aside.setdefault(request.source_id, RowRanges()).add(request.row_number)
            return None
        return _continued(found, request, policy)

    def _take(self, key: _Key) -> _Begun | None:
        waiting = self._begun.get(key)
        if waiting is None:
            return None
        found = waiting.popleft()
        if not waiting:
            del self._begun[key]
        return found


def _continued(found: _Begun, request: Request, policy: AnswerPolicy) -> Work:
    entry = found.entry
    work = Work(
        request=request,
        request_id=entry.request_id,
        last_attempt_id=entry.attempt_id,
        attempts=entry.attempts,
        doubts=entry.doubts,
        doubted=entry.doubts > 0,
        purpose=Purpose.RETRY,
    )
    _take_up(work, found.answers, policy)
    if found.underway is not None:
        work.underway = found.underway
        if (noted := found.underway.cached) is not None:
            work.cached = noted.in_body(work.body(), request.betas)
        work.used_up = entry.attempts - 1  # a batch is patient; its rows are not, for ever
    return work


class DoneRows:
    """Finished rows of all sources of an invocation, and the attempts not yet settled.

    Everything here is durable: rows and settlements are added when the ledger has them.
    """

    def __init__(self, sources: Mapping[int, RowRanges]) -> None:
        self._sources = dict(sources)
        self._changed: set[int] = set(self._sources)
        self._open: dict[int, None] = {}  # in ascending order, as attempts are opened
        self._away: dict[int, int] = {}  # the first attempt of each batch that is out
        self._next_id = 0

    def opened(self, attempt_id: int) -> None:
        """An attempt begins; ids ascend."""
        self._open[attempt_id] = None
        self._next_id = attempt_id + 1

    def settled(self, attempt_id: int) -> None:
        """What became of the attempt is durable."""
        self._open.pop(attempt_id, None)

    def away(self, attempt_id: int, batch: int) -> None:
        """The attempt is open for a long time, with all others of its batch."""
        self._open.pop(attempt_id, None)
        self._away[batch] = min(self._away.get(batch, attempt_id), attempt_id)

    def back(self, batch: int) -> None:
        """Every attempt of the batch is settled."""
        self._away.pop(batch, None)

    def add(self, source_id: int, row_number: int) -> None:
        """A row needs nothing more."""
        if source_id in self._sources:  # else of an input that is not read today
            self._sources[source_id].add(row_number)
            self._changed.add(source_id)

    def add_all(self, source_id: int, row_numbers: Iterable[int]) -> None:
        """Rows need nothing more; a range of them costs no more than one."""
        if isinstance(row_numbers, range) and row_numbers:
            self._sources[source_id].add_range(row_numbers[0], row_numbers[-1])
            self._changed.add(source_id)
            return
        for row_number in row_numbers:
            self.add(source_id, row_number)

    def checkpoint(self) -> tuple[int, dict[int, str]]:
        """(every attempt with a smaller id is settled and counted, changed ranges as JSON)."""
        first_open = next(iter(self._open), self._next_id)
        settled_below = min([first_open, *self._away.values()])
        changed, self._changed = self._changed, set()
        return settled_below, {key: self._sources[key].to_json() for key in changed}


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
        numbers = self._numbers.get((prefix, width)) or self._new_numbers(prefix, width)
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

    def _new_numbers(self, prefix: str, width: int) -> RowRanges | None:
        """For the numbers after `prefix`; `None` when there are too many such patterns."""
        if not 0 < width <= _MOST_DIGITS or len(self._numbers) >= _MOST_PATTERNS:
            return None
        numbers = self._numbers[prefix, width] = RowRanges()
        return numbers

    def _count_up(self, numbers: RowRanges, number: int) -> bool:
        """Add `number` if that takes no memory, or if there is some left."""
        if not (self._ranges_left or number - 1 in numbers or number + 1 in numbers):
            return False
        self._ranges_left -= numbers.add(number)
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


class RecentIds:
    """Tells ids that are among the latest few; of the others it knows nothing.

    A table of digests, in which a newer one takes the place of an older.
    """

    def __init__(self) -> None:
        self._digests = array("q", bytes(_RECENT_IDS * 8))

    def seen_before(self, message_id: str) -> bool:
        """Whether it came lately; it did from now on."""
        digest = hash(message_id)
        place = digest & _RECENT_IDS - 1
        if self._digests[place] == digest:
            return True
        self._digests[place] = digest
        return False
