"""What a run asks a server about its batches: how often it looks, and when it ends them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Final, Protocol

from batcher.ledger.batches.store import StoredBatch
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import Attempt, BatchState, Exchange, Outcome, SeenBatch, Unknown
from batcher.pacing.limits import DeadlinePlan


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPace:
    """How often a batch is looked at: at first so soon, later ever more seldom."""

    first_seconds: float = 5.0
    longest_seconds: float = 300.0

    def next_seconds(self, age_seconds: float) -> float:
        """A tenth of its age."""
        return min(max(age_seconds / 10, self.first_seconds), self.longest_seconds)


class Results(Protocol):
    """What came of one batch; see `transport.batch.message_batches`."""

    repeated: int
    unreadable: int

    @property
    def left(self) -> int:
        """Lines that nobody asked for."""

    def holds(self, uid: str) -> bool:
        """Whether one of them bears this name."""

    def outcome(self, attempt: Attempt, created_at: int, now_us: int) -> Outcome:
        """What became of an attempt."""

    def close(self) -> None:
        """Forget them."""


class Batches(Protocol):
    """What the server is asked; see `transport.batch.message_batches`."""

    async def look(self, batch_id: str) -> SeenBatch | None:
        """How one stands."""

    async def cancel(self, batch_id: str) -> SeenBatch | None:
        """End it."""

    async def made_since(self, since_us: int) -> Sequence[SeenBatch] | None:
        """Those made since then."""

    async def results(self, batch_id: str, folder: Path) -> Results | None:
        """What came of it."""

    async def first_custom_id(self, batch_id: str) -> str | None:
        """Whose result comes first."""

    async def close(self) -> None:
        """Let go of all connections."""


class Recall(Protocol):
    """Decides about the batches that are out. `ends_run`: it is over when none is out.

    `pays`: rows of a batch that is too late are sent again, though it may be paid, too.
    """

    @property
    def ends_run(self) -> bool:
        """See the class."""

    @property
    def pays(self) -> bool:
        """See the class."""

    def due(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:
        """Those whose end is to be asked for."""

    def too_late(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:
        """Those whose rows should go live by now, and that have not ended."""


@dataclass(frozen=True, slots=True)
class NoRecall:
    """See `Recall`: every batch has its time."""

    ends_run = False
    pays = False

    def due(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:  # noqa: ARG002
        """See `Recall.due`."""
        return ()

    def too_late(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:  # noqa: ARG002
        """See `Recall.too_late`."""
        return ()


@dataclass(frozen=True, slots=True)
class RecallAll:
    """See `Recall`: all are to end now, and nothing else is done."""

    ends_run = True
    pays = False

    def due(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:  # noqa: ARG002
        """See `Recall.due`."""
        return out

    def too_late(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:  # noqa: ARG002
        """See `Recall.too_late`."""
        return ()


@dataclass(frozen=True, slots=True)
class RecallInTime:
    """See `Recall`: one after the other, as late as the live lane can still redo them.

    The newest first, since they will be back last. None before it is expected back, unless
    its own rows alone would be too late then.
    """

    plan: DeadlinePlan
    pays: bool
    ends_run = False

    def due(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:
        """See `Recall.due`."""
        return [batch for batch, recall_us, _ in self._moments(out) if now_us >= recall_us]

    def too_late(self, out: Sequence[StoredBatch], now_us: int) -> Sequence[StoredBatch]:
        """See `Recall.too_late`."""
        return [
            batch
            for batch, _, last_start_us in self._moments(out)
            if now_us >= last_start_us and batch.state is not BatchState.ENDED
        ]

    def _moments(self, out: Sequence[StoredBatch]) -> Iterator[tuple[StoredBatch, int, int]]:
        oldest_first = sorted(out, key=lambda batch: (batch.began_at, batch.number))
        together = accumulate(batch.requests for batch in oldest_first)
        for batch, rows in zip(oldest_first, together, strict=True):
            alone = self.plan.recall_us(batch.requests)
            expected = self.plan.expected_us(batch.began_at)
            recall_us = min(alone, max(self.plan.recall_us(rows), expected))
            patience_us = self.plan.last_start_us(0) - self.plan.recall_us(0)
            yield batch, recall_us, recall_us + patience_us


_WHY: Final = Failure(
    verdict=Verdict.RETRY_ROW,
    error_type="batch_forgotten",
    message="its batch had not ended in time, and was given up: it may have been billed",
)


class GivenUp:
    """See `Results`: nobody knows what became of any request of the batch."""

    repeated = unreadable = left = 0

    def holds(self, uid: str) -> bool:  # noqa: ARG002 - nothing says whose they are
        """See `Results.holds`."""
        return True

    def outcome(self, attempt: Attempt, created_at: int, now_us: int) -> Outcome:  # noqa: ARG002
        """See `Results.outcome`."""
        return Unknown(Exchange(sent_at=created_at, settled_at=now_us), _WHY)

    def close(self) -> None:
        """See `Results.close`."""
