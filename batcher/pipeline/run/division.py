"""How the rows of a run are divided among its processes, and what waits for a batch.

`Alone` does them all, `WithBatches` first those that wait for no batch, then what came back.
The third way is `together.shards.Together`.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Protocol

from batcher.ledger import runs
from batcher.ledger.connect import Connection
from batcher.pipeline.engine.known_rows import BegunRequests
from batcher.pipeline.run.plan import PlannedSource
from batcher.rows.ranges import AllBut, RowRanges, RowsToRead

_AHEAD_ROWS: Final = 512  # rows read and not yet sent
_LOOK_SECONDS: Final = 0.1


class Owner(Protocol):
    """What a division asks of its invocation; in the reader's thread, which waits for it."""

    def is_idle(self, *, at_limit: bool = False) -> bool:
        """Whether every row that was told has ended, or left, and more would be sent.

        `at_limit`: also where no more would be, since as many went as may.
        """

    def taken_over(self, history: BegunRequests, attempts: int) -> None:
        """The rows of a process that died are read next; so many attempts are in doubt."""


class Division(Protocol):
    """Which rows an invocation does, and what it owes to others that do the same run."""

    @property
    def rows_ahead(self) -> int:
        """How many rows may be read and not yet sent."""

    @property
    def reads_on(self) -> bool:
        """Whether further rows are read also when no new ones are wanted."""

    @property
    def all_ended(self) -> bool:
        """Whether every row of the run has ended, but for those told to this invocation."""

    @property
    def finished_rows(self) -> int:
        """How many rows are known to have ended, whoever sent them."""

    # In the reader's thread

    def rows_of(self, source: PlannedSource) -> RowsToRead:
        """The rows of a source that this invocation reads."""

    def at_end(self, rows: int, tell: Callable[[], None]) -> None:
        """A source of so many rows was read: `tell` it when nobody reads it any more."""

    def left_by_the_dead(self, owner: Owner) -> Iterable[PlannedSource]:
        """Rows to read before any others; asked time and again while a source is read."""

    def left_by_others(
        self, owner: Owner, wait: Callable[[float], bool]
    ) -> Iterator[PlannedSource]:
        """Further rows to read when all others were, until every row of the run has ended.

        `wait` returns after so many seconds, or with `True` when the run is stopping.
        """

    # In the writer's thread, as a part of its transaction

    def lock(self, connection: Connection) -> None:
        """Until the transaction ends no other process matches rows with earlier answers."""

    def save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        """Remember which rows are done: JSON of ranges, by source_id."""

    def is_last(self, connection: Connection) -> bool:
        """Whether no other process does the run any more."""

    # In the event loop's thread, when the reader has ended

    def total_rows(self, told: int) -> int | None:
        """How many rows the inputs hold, of which `told` were told or done; `None`: unknown."""


class Alone:
    """See `Division`: the only process of its run."""

    rows_ahead = _AHEAD_ROWS
    all_ended = True
    reads_on = False
    finished_rows = 0  # nobody else finishes any

    def rows_of(self, source: PlannedSource) -> RowsToRead:
        """See `Division.rows_of`."""
        return source.to_read()

    def at_end(self, rows: int, tell: Callable[[], None]) -> None:  # noqa: ARG002 - it counts nothing
        """See `Division.at_end`."""
        tell()

    def left_by_the_dead(self, owner: Owner) -> Iterable[PlannedSource]:  # noqa: ARG002 - as below
        """See `Division.left_by_the_dead`."""
        return ()

    def left_by_others(
        self,
        owner: Owner,  # noqa: ARG002 - there are no others
        wait: Callable[[float], bool],  # noqa: ARG002
    ) -> Iterator[PlannedSource]:
        """See `Division.left_by_others`."""
        return iter(())

    def lock(self, connection: Connection) -> None:
        """See `Division.lock`."""

    def save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        """See `Division.save_done`."""
        runs.save_done_ranges(connection, ranges)

    def is_last(self, connection: Connection) -> bool:  # noqa: ARG002 - it is the only one
        """See `Division.is_last`."""
        return True

    def total_rows(self, told: int) -> int | None:
        """See `Division.total_rows`."""
        return told


@dataclass(frozen=True, slots=True)
class _ReadyBatch:
    rows: Mapping[int, RowRanges]
    told: Callable[[], object]


class WithBatches:
    """See `Division`: the only process of its run, some of whose rows are in batches.

    `away` are the rows of each source that wait for a batch. `wait_for_all`: until the last
    batch has ended; else what has not ended by now is left to another invocation.
    """

    reads_on = True
    rows_ahead = _AHEAD_ROWS
    finished_rows = 0  # nobody else finishes any

    def __init__(
        self,
        plan: Sequence[PlannedSource],
        away: Mapping[int, RowRanges],
        *,
        wait_for_all: bool,
    ) -> None:
        self._plan = plan
        self._away = away
        self.waits_for_all = wait_for_all
        self._lock = threading.Lock()
        self._ready: deque[_ReadyBatch] = deque()
        self._out = 0
        self._is_looking = True
        self._leaves_some = False

    # In the event loop's thread

    def stands(self, *, out: int, is_looking: bool) -> None:
        """So many batches are out; `is_looking`: more of them may be ready at once."""
        with self._lock:
            self._out, self._is_looking = out, is_looking

    def leaves_some(self) -> None:
        """Rows that waited for a batch are left to another invocation."""
        with self._lock:
            self._leaves_some = True

    def ready(self, rows: Mapping[int, RowRanges], told: Callable[[], object]) -> None:
        """Rows that came back, by source; `told`, in the reader's thread: all were read."""
        with self._lock:
            self._ready.append(_ReadyBatch(rows, told))

    # In the reader's thread

    @property
    def all_ended(self) -> bool:
        """See `Division.all_ended`."""
        with self._lock:
            return not (self._out or self._ready or self._leaves_some)

    def rows_of(self, source: PlannedSource) -> RowsToRead:
        """See `Division.rows_of`."""
        if source.only is not None:
            return source.to_read()
        return AllBut(source.done.union(self._away.get(source.source_id, RowRanges())))

    def at_end(self, rows: int, tell: Callable[[], None]) -> None:  # noqa: ARG002 - it counts nothing
        """See `Division.at_end`."""
        tell()

    def left_by_the_dead(self, owner: Owner) -> Iterable[PlannedSource]:  # noqa: ARG002 - none
        """See `Division.left_by_the_dead`."""
        return ()

    def left_by_others(
        self, owner: Owner, wait: Callable[[float], bool]
    ) -> Iterator[PlannedSource]:
        """See `Division.left_by_others`: the others are batches here."""
        while True:
            batch = self._next()
            if batch is not None:
                for source in self._plan:
                    if only := batch.rows.get(source.source_id):
                        yield replace(source, only=only, done=RowRanges(), sharing=False)
                batch.told()
            elif self._has_ended(owner) or wait(_LOOK_SECONDS):
                return

    def _next(self) -> _ReadyBatch | None:
        with self._lock:
            return self._ready.popleft() if self._ready else None

    def _has_ended(self, owner: Owner) -> bool:
        return owner.is_idle(at_limit=True) and self._nothing_comes()

    def _nothing_comes(self) -> bool:
        with self._lock:
            if self._ready or self._is_looking:
                return False
            return not (self._out and self.waits_for_all)

    # In the writer's thread

    def lock(self, connection: Connection) -> None:
        """See `Division.lock`: nobody else matches rows."""

    def save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        """See `Division.save_done`."""
        runs.save_done_ranges(connection, ranges)

    def is_last(self, connection: Connection) -> bool:  # noqa: ARG002 - it is the only one
        """See `Division.is_last`."""
        return True

    # In the event loop's thread, when the reader has ended

    def total_rows(self, told: int) -> int | None:  # noqa: ARG002 - see below
        """See `Division.total_rows`: some were told twice."""
        return None
