"""Everything about batches that one invocation has, put together."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import TYPE_CHECKING

from batcher.errors import Busy, ConfigurationError
from batcher.ledger.connect import Connection
from batcher.ledger.write.writer import Writer
from batcher.pipeline.batches.asking import NoRecall, Recall, RecallAll, RecallInTime
from batcher.pipeline.batches.collecting import (
    BatchJournal,
    CollectedRun,
    Collector,
    KeeperTies,
)
from batcher.pipeline.batches.keeper import BatchKeeper
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.run.division import WithBatches
from batcher.pipeline.run.engines import Doors
from batcher.transport.endpoint import no_batches

if TYPE_CHECKING:
    from batcher.pipeline.job import Job, Services
    from batcher.pipeline.run.begin import BegunInvocation

Save = Callable[[Callable[[Connection], None]], Future[None]]


def batch_side(
    job: "Job",
    services: "Services",
    begun: "BegunInvocation",
    writer: Callable[[], Writer],
    done: DoneRows,
) -> "BatchSide | None":
    """What a run with batches has besides; `None` for one without."""
    if not (begun.out.batches or job.lane.packs):
        return None
    return BatchSide(job, services, begun, writer, done)


def _recall_of(job: "Job") -> Recall:
    if job.cancel:
        return RecallAll()
    if job.plan is None or job.lane.packs:
        return NoRecall()
    return RecallInTime(job.plan, pays=job.deadline_pays)


class BatchSide:
    """The division of the rows, the journal of the batches, and who looks after them.

    Made and used inside the event loop. `writer` gives the writer once it is there. Raises
    `ConfigurationError` where the endpoint has no batches.
    """

    def __init__(
        self,
        job: "Job",
        services: "Services",
        begun: "BegunInvocation",
        writer: Callable[[], Writer],
        done: DoneRows,
    ) -> None:
        if services.make_batches is None:
            raise ConfigurationError(no_batches(job.endpoint))
        self._services = services
        if services.fallbacks:
            raise ConfigurationError(
                "rows of this run are in batches: collect them without --fallback"
            )
        scope, clock = begun.scope, services.clock
        self._batches = services.make_batches(begun.held.may_send)
        self.division = WithBatches(begun.plan, begun.out.rows, wait_for_all=job.wait)
        self.journal = BatchJournal(writer, scope, clock, begun.out.batches, self._look_up)
        packing = services.make_packing if job.lane.packs else None
        self.lane = packing(begun.held.may_send, self.journal) if packing else None
        run = CollectedRun(
            run_id=scope.run_id,
            invocation_id=scope.invocation_id,
            sources=frozenset(source.source_id for source in begun.plan),
            history=begun.history,
            done=done,
        )
        self.keeper = BatchKeeper(
            batches=self._batches,
            journal=self.journal,
            collector=Collector(self.journal, self.division, run, clock),
            division=self.division,
            clock=clock,
            folder=services.spool,
            pace=services.look_pace,
            recall=_recall_of(job),
        )

    def tasks(self, engine: Engine | Doors, save: Save) -> Iterator[asyncio.Task[None]]:
        """What goes on beside an engine; `save` makes a checkpoint with a further change."""
        if isinstance(engine, Doors):
            raise TypeError("batches are of one endpoint")
        ties = KeeperTies(
            settle_alone=engine.settle_alone,
            save=save,
            say=self._services.observer.waiting,
            end=engine.drain,
            progress=engine.progress,
        )
        yield asyncio.create_task(self._keep(ties, engine.stop))

    async def _keep(self, ties: KeeperTies, failed: Callable[[BaseException], None]) -> None:
        try:
            await self.keeper.run(ties)
        except Exception as exc:  # noqa: BLE001 - the task's edge: the engine ends the run
            failed(exc)

    async def _look_up(self, number: int) -> None:
        await self.keeper.look_up(number)

    @property
    def left(self) -> Busy | None:
        """What to say at the end of rows that are still in batches, if any are."""
        out = self.journal.out
        if not out:
            rows = self.keeper.rows_to_do
            words = f"rows of lost batches are to do: {rows:,}; the same command sends them"
            return Busy(words) if rows else None
        rows, batches = self.journal.rows_out, len(out)
        are = "1 row is" if rows == 1 else f"{rows:,} rows are"
        these = "1 batch" if batches == 1 else f"{batches:,} batches"
        return Busy(f"{are} in {these}; the same command collects them")

    async def close(self) -> None:
        """Let go of all connections."""
        await self._batches.close()
