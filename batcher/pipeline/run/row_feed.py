"""What the reader's thread finds, handed over to the event loop's.

No faster than it is sent: the reader may run ahead by so many rows and bytes.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field

from batcher.ledger.write.records import Shared
from batcher.messages.request import BadRow, Request
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.known_rows import BegunRequests, DoneRows
from batcher.pipeline.progress import Observer, Progress
from batcher.pipeline.run.division import Division
from batcher.pipeline.run.engines import Doors
from batcher.pipeline.run.plan import PlannedSource
from batcher.pricing.money import format_usd


class Credit:
    """Keeps the reader from running ahead: it waits while too much is read and not yet sent.

    `enough`: of what is read now no more is wanted; `go_on` reads something else after it.
    """

    def __init__(self, rows: int, body_bytes: int) -> None:
        self._all_rows = self._rows = rows
        self._bytes = body_bytes
        self._lock = threading.Lock()
        self._change = threading.Condition(self._lock)
        self._stopped = self._enough = self._goes_on = False

    @property
    def spent_rows(self) -> int:
        """How many rows were read and not yet sent."""
        return self._all_rows - self._rows

    def spend(self, rows: int, body_bytes: int) -> bool:
        """Wait for room, then take it; `False` when the reader is to read no further."""
        with self._change:
            while (self._rows <= 0 or self._bytes <= 0) and not self._ends:
                self._change.wait()
            self._rows -= rows
            self._bytes -= body_bytes
            return not self._ends

    @property
    def _ends(self) -> bool:
        return self._stopped or self._enough

    def give_back(self, body_bytes: int) -> None:
        """One row with a body of that size was sent, or a bad one was recorded."""
        with self._lock:
            self._rows += 1
            self._bytes += body_bytes
            if self._rows > 0 and self._bytes > 0:
                self._change.notify()

    def wait(self, seconds: float) -> bool:
        """Return after `seconds`, or as soon as the run is stopping: then `True`."""
        with self._change:
            return self._change.wait_for(lambda: self._stopped, seconds)

    def enough(self) -> None:
        """Let the reader end what it reads at first."""
        with self._change:
            self._enough = not self._goes_on
            self._change.notify()

    def go_on(self) -> bool:
        """Whether something else may be read; not so when the run is stopping."""
        with self._change:
            self._goes_on, self._enough = True, False
            return not self._stopped

    def stop(self) -> None:
        """Let the reader end."""
        with self._change:
            self._stopped = True
            self._change.notify()


@dataclass(kw_only=True, eq=False)
class RowFeed:
    """Takes rows from the reader's thread to the engine, and counts how many there are.

    `source_read` is called in the event loop's thread when a source was read to its end, with
    the number of its rows. `input_ended` tells that nothing more comes.
    """

    loop: asyncio.AbstractEventLoop
    engine: Engine | Doors
    done: DoneRows
    history: BegunRequests
    division: Division
    credit: Credit
    progress: Progress
    observer: Observer
    source_read: Callable[[PlannedSource, int], None]
    input_ended: bool = field(default=False, init=False)
    _found: int = field(default=0, init=False)
    _told_at_least: bool = field(default=False, init=False)  # so many rows are shared

    # Called by the reader's thread

    def rows(self, items: Sequence[Request | BadRow]) -> None:
        """Rows to do, in order."""
        self.loop.call_soon_threadsafe(self._receive, items)

    def claimed(self, source_id: int, row_numbers: set[int]) -> None:
        """Rows whose earlier answer or failure moved along."""
        self.loop.call_soon_threadsafe(self._claimed, source_id, row_numbers)

    def shared(self, source_id: int, shared: Shared, *, last: bool) -> None:
        """Rows that got an answer which another row had paid for; `last`: there are no more."""
        self.loop.call_soon_threadsafe(self._shared, source_id, shared, last)

    def repeated(self, source_id: int, shared: Shared) -> None:
        """Rows that got the answer to another row of the run, which asked the same."""
        self.loop.call_soon_threadsafe(self._repeated, source_id, shared)

    def left_as_repeats(self, rows: int) -> None:
        """So many rows wait on: what others of them asked has no answer."""
        self.loop.call_soon_threadsafe(self._leave_repeats, rows)

    def read_to_end(self, source: PlannedSource, rows: int) -> None:
        """The source holds `rows` rows, and all of them were told."""
        self.loop.call_soon_threadsafe(self.source_read, source, rows)

    def blank(self, source_id: int, row_numbers: Sequence[int]) -> None:
        """Lines that hold nothing, and need nothing."""
        self.loop.call_soon_threadsafe(self.done.add_all, source_id, row_numbers)

    def noticed(self, repeated_fields: int, blank_lines: int) -> None:
        """Lines that name a field twice, and lines that hold nothing."""
        self.loop.call_soon_threadsafe(self._noticed, repeated_fields, blank_lines)

    def noted(self, sentence: str) -> None:
        """Something that people should know."""
        self.loop.call_soon_threadsafe(self.observer.noted, sentence)

    def ended(self, error: Exception | None) -> None:
        """Nothing more comes; `error` is why, when it should not have ended."""
        self.loop.call_soon_threadsafe(self._ended, error)

    def is_idle(self, *, at_limit: bool = False) -> bool:
        """See `Owner.is_idle`."""
        told: Future[bool] = Future()
        self.loop.call_soon_threadsafe(lambda: told.set_result(self._look_idle(at_limit)))
        return told.result()

    def taken_over(self, history: BegunRequests, attempts: int) -> None:
        """See `Owner.taken_over`."""
        self.loop.call_soon_threadsafe(self._take_over, history, attempts)

    # In the event loop's thread

    def _receive(self, items: Sequence[Request | BadRow]) -> None:
        self._found += len(items)
        self.engine.receive(items)
        if self.engine.limit_reached:
            self.credit.enough()

    def _claimed(self, source_id: int, row_numbers: set[int]) -> None:
        self._found += len(row_numbers)
        self.progress.claimed += len(row_numbers)
        self.done.add_all(source_id, row_numbers)

    def _noticed(self, repeated_fields: int, blank_lines: int) -> None:
        self.progress.repeated_fields += repeated_fields
        self.progress.blank_lines += blank_lines

    def _shared(self, source_id: int, shared: Shared, last: bool) -> None:  # noqa: FBT001
        self.progress.shared += len(shared.rows)
        self.progress.shared_cost += shared.cost
        self.progress.shared_unpriced += shared.unpriced
        self._claimed(source_id, set(shared.rows))
        if last:
            self._tell_shared()
        elif not self._told_at_least:
            self._tell_shared(at_least=True)

    def _repeated(self, source_id: int, shared: Shared) -> None:
        self.progress.repeated += len(shared.rows)
        self.progress.repeated_cost += shared.cost
        self.progress.repeated_unpriced += shared.unpriced
        self._claimed(source_id, set(shared.rows))

    def _leave_repeats(self, rows: int) -> None:
        self._found += rows
        if rows:
            wait = "row waits" if rows == 1 else "rows wait"
            self.observer.noted(
                f"{rows:,} {wait} for the answer to what another row asks, which is not there:"
                " the same command goes on with them"
            )

    def _tell_repeated(self) -> None:
        progress = self.progress
        if not progress.repeated:
            return
        unknown = f" and {progress.repeated_unpriced:,} unknown amounts"
        have = "row asks" if progress.repeated == 1 else "rows ask"
        self.observer.noted(
            f"{progress.repeated:,} {have} what another row of the run asks, and got its"
            f" answer: sent, they would have cost {format_usd(progress.repeated_cost)} more"
            + unknown
            * bool(progress.repeated_unpriced)
        )

    def _tell_shared(self, *, at_least: bool = False) -> None:
        self._told_at_least = at_least
        progress = self.progress
        unknown = f" and {progress.shared_unpriced:,} unknown amounts"
        have = "row has" if progress.shared == 1 else "rows have"
        self.observer.noted(
            "at least "
            * at_least
            + f"{progress.shared:,} {have} an answer of another run already: nothing is sent or"
            f" paid for them; they would have cost {format_usd(progress.shared_cost)}"
            + unknown * bool(progress.shared_unpriced)
            + "; more are looked for as the input is read" * at_least
        )

    def _ended(self, error: Exception | None) -> None:
        self.input_ended = True
        if self._told_at_least:
            self._tell_shared()
        self._tell_repeated()
        if error is not None:
            self.engine.stop(error)
        elif not (self.engine.limit_reached or self.engine.draining):
            self._count_total()
        self.engine.input_ended()

    def _count_total(self) -> None:
        total = self.division.total_rows(self.progress.done_before + self._found)
        if total is not None:
            self.progress.total_rows = max(total, self.progress.finished_rows)
            self.progress.total_is_exact = True
            self._count_elsewhere()

    def _count_elsewhere(self) -> None:
        progress = self.progress
        ours = progress.finished_rows - progress.elsewhere
        progress.elsewhere = max(self.division.finished_rows - ours, progress.elsewhere)

    def _look_idle(self, at_limit: bool) -> bool:  # noqa: FBT001
        self._count_elsewhere()
        idle = self.engine.is_idle and (at_limit or not self.engine.limit_reached)
        if idle:
            self.engine.tell_spent(everything=True)  # the others may need it
        return idle

    def _take_over(self, history: BegunRequests, attempts: int) -> None:
        self.history.learn(history)
        if attempts:
            self.observer.waiting(
                f"a process of this run ended unseen: {attempts:,} attempts are in doubt, and"
                " may have been billed; their rows are sent again"
            )
