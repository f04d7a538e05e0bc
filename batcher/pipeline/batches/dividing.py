"""Which rows a run with batches reads: first those that wait for none, then what came back."""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from batcher.ledger import runs
from batcher.ledger.connect import Connection
from batcher.pipeline.run.division import Owner
from batcher.pipeline.run.plan import PlannedSource
from batcher.rows.ranges import AllBut, RowRanges, RowsToRead

_AHEAD_ROWS: Final = 512  # rows read and not yet sent
_LOOK_SECONDS: Final = 0.1


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
