"""What an engine is put together from."""

from dataclasses import dataclass

from batcher.clock import Clock
from batcher.ledger.writer import Writer
from batcher.pacing.pacer import Pacer
from batcher.pipeline.budget import Budget
from batcher.pipeline.decide import Policy
from batcher.pipeline.done import DoneRows
from batcher.pipeline.history import History
from batcher.pipeline.job import Limits
from batcher.pipeline.progress import Progress
from batcher.pipeline.rater import Rater
from batcher.transport.lane import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine is put together from."""

    invocation_id: int
    database_uid: str
    limits: Limits
    policy: Policy
    lane: Lane
    writer: Writer
    rater: Rater
    done: DoneRows
    history: History
    clock: Clock
    progress: Progress
    budget: Budget | None = None
    pacer: Pacer | None = None
