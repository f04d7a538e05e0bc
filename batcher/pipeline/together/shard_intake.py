"""The reader of a process that does a run together with others."""

from collections.abc import Sequence
from typing import Final, Protocol

from batcher.ledger.connect import Connection
from batcher.messages.request import Request
from batcher.pipeline.run.begin import Begun
from batcher.pipeline.run.intake import Credit, Intake, PlannedSource, Receiver
from batcher.pipeline.together.shards import Part, Taken
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import RowRanges

_LOOK_SECONDS: Final = 0.25  # while others work on the last rows


class PartReceiver(Receiver, Protocol):
    """See `Receiver`; and what a process that waits for others asks in the reader's thread."""

    def is_idle(self) -> bool:
        """Whether every row that was told has ended, and more would be sent."""

    def taken_over(self, taken: Taken) -> None:
        """The rows of a process that died are told next."""


class ShardIntake(Intake):
    """Reads the shards that this process claims, then those of others that died.

    It ends when every row of the run has ended, whoever sent it; `all_ended` says that.
    """

    def __init__(
        self, begun: Begun, builder: RequestBuilder, receiver: PartReceiver, credit: Credit,
        part: Part,
    ) -> None:  # fmt: skip
        run_id = begun.scope.run_id
        super().__init__(begun.plan, builder, part.writer, run_id, receiver, credit)
        self._told = receiver
        self._part = part
        self._ends: dict[int, tuple[PlannedSource, int]] = {}
        self.all_ended = False

    def _read_all(self) -> bool:
        if not (super()._read_all() and self._stay()):
            return False
        for source, rows in self._ends.values():
            self._receiver.read_to_end(source, rows)
        self.all_ended = True
        return True

    def _stay(self) -> bool:
        """Wait until nobody's rows are left; `False` when the run is stopping."""
        while True:
            if self._told.is_idle():
                self._part.finish()
                taken = self._part.take_over()
                if taken is not None:
                    self._told.taken_over(taken)
                    if not all(map(self._read, taken.plan)):
                        return False
                    continue
                if not self._part.others_work():
                    return True
            if self._credit.wait(_LOOK_SECONDS):
                return False

    def _skip(self, source: PlannedSource) -> RowRanges:
        return self._part.skip(source) if source.only is None else source.skip

    def _at_end(self, source: PlannedSource, rows: int) -> None:
        self._ends[source.source_id] = (source, rows)  # the others have not matched theirs yet

    def _claim(self, connection: Connection, requests: Sequence[Request]) -> set[int]:
        self._part.lock(connection)  # two equal rows must not claim the same answer
        return super()._claim(connection, requests)
