"""Rows that ask what another row of the run asks: sent once, the answer is each one's."""

from array import array
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from batcher.clock import Clock
from batcher.ledger import resume
from batcher.ledger.batches.store import RequestOut, requests_out
from batcher.ledger.connect import Connection
from batcher.ledger.write.records import AnswerKeys, Shared, SharePolicy
from batcher.ledger.write.writer import Writer
from batcher.messages.request import BadRow, Request
from batcher.pipeline.run.begin import BegunInvocation
from batcher.pipeline.run.plan import PlannedSource
from batcher.rows.ranges import RowRanges

_FIRST_SLOTS: Final = 1_024
_KEY_BYTES: Final = 8


class SeenRequests:
    """Which requests came before, by a part of their hash: some 12 to 24 bytes for each.

    Two that share the part pass for one; whoever asks looks at the whole hash later.
    """

    def __init__(self) -> None:
        self._slots = _free(_FIRST_SLOTS)
        self._count = 0

    def add(self, params_hash: bytes) -> bool:
        """Whether it is new."""
        if self._count * 3 >= len(self._slots) * 2:
            self._grow()
        is_new = _put(self._slots, int.from_bytes(params_hash[:_KEY_BYTES], "big") or 1)
        self._count += is_new
        return is_new

    def _grow(self) -> None:
        slots = _free(len(self._slots) * 2)
        for key in self._slots:
            if key:
                _put(slots, key)
        self._slots = slots


def _free(slots: int) -> "array[int]":
    return array("Q", bytes(slots * _KEY_BYTES))


def _put(slots: "array[int]", key: int) -> bool:
    last = len(slots) - 1
    place = key & last
    while there := slots[place]:
        if there == key:
            return False
        place = (place + 1) & last
    slots[place] = key
    return True


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """What is known while all rows, or those that were put off, are read once."""

    keys: AnswerKeys
    seen: SeenRequests
    sends: bool


class Repeats:
    """Puts rows off that ask what an earlier one asked; belongs to the reader's thread.

    A row that was put off is read again when those that were sent have ended. It gets the
    answer if there is one by then; else it is the next to be sent. `shared` is told which rows
    got one.
    """

    def __init__(
        self,
        writer: Writer,
        policy: SharePolicy,
        sources: Sequence[PlannedSource],
        clock: Clock,
        shared: Callable[[int, Shared], None],
    ) -> None:
        self._writer = writer
        self._policy = policy
        self._sources = {source.source_id: source for source in sources}
        self._clock = clock
        self._shared = shared
        self._put_off: dict[int, RowRanges] = {}
        self._moving = Counter[tuple[str | None, bytes]]()

    @property
    def looks_up(self) -> bool:
        """Whether rows may have an answer already: many at once are looked for then."""
        return len(self._now.keys) > 0

    @property
    def rows_put_off(self) -> int:
        """How many rows wait to be read again."""
        return sum(map(len, self._put_off.values()))

    def begin(self) -> None:
        """Look up what the run has, before any row is read."""
        out = self._look(sends=True)
        # Rows that moved since their attempts went into a batch are recognised by the engine.
        elsewhere = (each for each in out if each.source_id not in self._sources)
        self._moving.update((each.custom_id, each.params_hash) for each in elsewhere)

    def read_again(self, *, sends: bool) -> Iterator[PlannedSource]:
        """The rows that were put off so far; with `sends` those without an answer are sent."""
        self._look(sends=sends)
        self._moving.clear()
        put_off, self._put_off = self._put_off, {}
        for source_id, only in put_off.items():
            source, done = self._sources[source_id], RowRanges()
            yield replace(source, only=only, done=done, matching=False, sharing=False)

    def to_send(self, items: Sequence[Request | BadRow]) -> list[Request | BadRow]:
        """Those of a source's rows that go on; the others got an answer, or were put off."""
        requests = [item for item in items if isinstance(item, Request)]
        answered = self._answered(requests)
        return [
            item
            for item in items
            if not isinstance(item, Request)
            or (item.row_number not in answered and self._goes(item))
        ]

    def _goes(self, request: Request) -> bool:
        identity = request.custom_id, request.params_hash
        if self._moving[identity]:
            self._moving[identity] -= 1
            return True
        if self._now.sends and self._now.seen.add(request.params_hash):
            return True
        self._put_off.setdefault(request.source_id, RowRanges()).add(request.row_number)
        return False

    def _answered(self, requests: Sequence[Request]) -> frozenset[int]:
        if not (self.looks_up and requests):
            return frozenset()
        keys, now_us = self._now.keys, self._clock.now_us()
        given = self._writer.call(
            lambda connection: resume.share(connection, self._policy, requests, now_us, keys)
        ).result()
        if given.rows:
            self._shared(requests[0].source_id, given)
        return given.rows

    def _look(self, *, sends: bool) -> list[RequestOut]:
        keys, out = self._writer.call(self._read).result()
        seen = SeenRequests()
        for request in out:
            seen.add(request.params_hash)
        self._now = _Pass(keys=keys, seen=seen, sends=sends)
        return out

    def _read(self, connection: Connection) -> tuple[AnswerKeys, list[RequestOut]]:
        keys = resume.read_answer_keys(connection, self._policy)
        return keys, list(requests_out(connection, self._policy.run_id))


def repeats_of(
    begun: BegunInvocation, writer: Writer, clock: Clock, shared: Callable[[int, Shared], None]
) -> Repeats | None:
    """What puts the invocation's rows off; `None` where each row is sent."""
    if begun.repeating is None:
        return None
    return Repeats(writer, begun.repeating, begun.plan, clock, shared)
