"""An invocation that does a run together with other processes; see `shards`."""

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from batcher.ledger.connect import Connection
from batcher.pipeline.run.intake import Credit, Intake, PlannedSource
from batcher.pipeline.run.run import AHEAD_BYTES, Invocation
from batcher.pipeline.together.shard_intake import ShardIntake
from batcher.pipeline.together.shards import Part, Taken


class JoinedInvocation(Invocation):
    """See `Invocation`; reads no further ahead than it must, so that others find rows too."""

    _intake: ShardIntake

    def __init__(self, *given: Any) -> None:  # noqa: ANN401 - those of Invocation
        super().__init__(*given)
        self._credit = Credit(2 * self._job.limits.concurrency, AHEAD_BYTES)
        self._rows_read = 0

    def _make_intake(self) -> Intake:
        self._part = Part(self._job, self._kit, self._begun, self._writer)
        self._intake = ShardIntake(
            self._begun, self._kit.builder, self, self._credit, self._part
        )
        return self._intake

    def is_idle(self) -> bool:
        """See `PartReceiver.is_idle`."""
        told: Future[bool] = Future()
        self._loop.call_soon_threadsafe(lambda: told.set_result(self._look_idle()))
        return told.result()

    def taken_over(self, taken: Taken) -> None:
        """See `PartReceiver.taken_over`."""
        self._loop.call_soon_threadsafe(self._take_over, taken)

    def _take_over(self, taken: Taken) -> None:
        self._begun.history.replace(taken.history)
        if count := taken.recovery.attempts:
            self._kit.observer.waiting(
                f"a process of this run ended unseen: {count:,} attempts are in doubt, and may"
                " have been billed; their rows are sent again"
            )

    def _look_idle(self) -> bool:
        self._count_others()
        idle = self._engine.is_idle
        if idle and self._money:
            self._money.tell(everything=True)  # the others may need it
        return idle

    def _count_others(self) -> None:
        progress = self._progress
        ours = progress.finished_rows - progress.elsewhere
        progress.elsewhere = max(self._part.finished_rows - ours, progress.elsewhere)

    def _read_to_end(self, source: PlannedSource, rows: int) -> None:
        super()._read_to_end(source, rows)
        self._rows_read += rows

    def _input_ended(self, error: Exception | None) -> None:
        super()._input_ended(error)
        progress = self._progress
        if self._intake.all_ended:
            progress.total_rows = max(self._rows_read, progress.finished_rows)
            progress.elsewhere += progress.total_rows - progress.finished_rows
        else:
            progress.total_is_exact = False

    def _rows_left(self) -> bool:
        return super()._rows_left() or not self._intake.all_ended

    def _save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        self._part.merge(connection, ranges)

    def _is_last(self, connection: Connection) -> bool:
        return self._part.is_last(connection)
