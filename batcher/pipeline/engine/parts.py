"""What an engine is put together from."""

from collections.abc import Callable
from dataclasses import dataclass

from batcher.clock import Clock
from batcher.ledger.write.writer import Writer
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.decide import Policy
from batcher.pipeline.engine.known_rows import DoneRows, History
from batcher.pipeline.engine.policies import answer_policy
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.engine.reservations import Budget
from batcher.pipeline.job import Job, Kit, Limits
from batcher.pipeline.progress import Progress
from batcher.transport.lane import Lane


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What an engine is put together from.

    `may_send` says whether the run is ours for sure: nothing leaves while it is not.
    """

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
    may_send: Callable[[], bool] = lambda: True


def policy_of(job: Job, kit: Kit) -> Policy:
    """The choices that the job's outcomes are judged by."""
    return Policy(
        retry=job.limits.retry,
        on_unknown=job.on_unknown,
        max_legs=job.limits.max_legs,
        endpoint=job.endpoint.name,
        errors_may_be_billed=job.endpoint.errors_may_be_billed,
        answers=answer_policy(job.answers, kit.largest_output),
    )
