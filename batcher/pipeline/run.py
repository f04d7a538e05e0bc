"""One invocation of a run, from the open ledger to the exit code."""

import asyncio
import signal
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Final

from batcher.errors import BatcherError, Busy
from batcher.ledger import runs
from batcher.ledger.batch import Batch
from batcher.ledger.connect import open_engine, place
from batcher.ledger.estimates import grade_estimates
from batcher.ledger.failures import has_failure, has_unpriced, unfinished_rows
from batcher.ledger.handles import Connection
from batcher.ledger.handles import Engine as Database
from batcher.ledger.lock import hold_database
from batcher.ledger.migrate import prepare
from batcher.ledger.writer import Writer
from batcher.messages.request import BadRow, Request
from batcher.pacing.pacer import Pacer
from batcher.pipeline.begin import Begun, begin
from batcher.pipeline.binding import SAMPLE_SECONDS, Gauge
from batcher.pipeline.budget import Budget, Wallet
from batcher.pipeline.decide import Policy
from batcher.pipeline.done import DoneRows
from batcher.pipeline.engine import Engine
from batcher.pipeline.events import Ended, Started
from batcher.pipeline.intake import Credit, Intake, PlannedSource
from batcher.pipeline.job import Job
from batcher.pipeline.kit import Kit
from batcher.pipeline.parts import Parts
from batcher.pipeline.policies import answer_policy
from batcher.pipeline.progress import Progress
from batcher.pipeline.signals import Signals
from batcher.rows.estimate import estimated_rows
from batcher.rows.reasons import Reason
from batcher.transport.lane import Lane

_CHECKPOINT_SECONDS: Final = 5.0
_AHEAD_ROWS: Final = 2_048  # rows read and not yet sent, besides one for each in flight
_AHEAD_BYTES: Final = 64 * 2**20

_ROWS_WITHOUT_ANSWER: Final = 65
_ABORTED: Final = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 143}

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_job(
    job: Job,
    kit: Kit,
    loop_factory: LoopFactory | None = None,
    before: Callable[[Kit], None] | None = None,
) -> Ended:
    """Do everything of `job` that is still to do, and say how it ended.

    `before` is called when the ledger is there and held, and may raise to send nothing.

    Raises `BatcherError` for what is wrong before anything is sent; later trouble is in the
    result. Everything that was sent is in the ledger in either case.
    """
    with ExitStack() as stack:
        stack.enter_context(hold_database(job.database, job.key, command=job.command))
        database = open_engine(job.database)
        stack.callback(database.dispose)
        created = prepare(database).created
        if before is not None:
            before(kit)
        begun = begin(database, job, kit)
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
        return runner.run(_Invocation(job, kit, database, begun).run(created=created))


class _Invocation:
    """The part of a run that lives in the event loop; also what the reader's thread calls."""

    def __init__(self, job: Job, kit: Kit, database: Database, begun: Begun) -> None:
        self._job = job
        self._kit = kit
        self._database = database
        self._begun = begun
        self._clock = kit.clock
        self._done = DoneRows({source.source_id: source.done for source in begun.plan})
        self._credit = Credit(_AHEAD_ROWS + job.limits.concurrency, _AHEAD_BYTES)
        self._progress = Progress(
            done_before=sum(len(source.done) for source in begun.plan),
            total_rows=sum(estimated_rows(file) or 0 for file in kit.files),
        )
        limits = job.limits
        self._pacer = kit.pacer or Pacer(
            limits.quota, limits.concurrency, kit.clock.monotonic()
        )
        self._gauge = Gauge(self._progress, self._pacer, limits.quota)
        self._found = 0
        self._input_over = False
        self._out_of_time = False
        self._ledger_failed = False

    async def run(self, *, created: bool) -> Ended:
        """Send, settle and record until the run is over."""
        began = self._clock.monotonic()
        self._loop = asyncio.get_running_loop()
        lane = self._kit.make_lane()
        batch = Batch(self._database.dialect, self._begun.scope, self._clock)
        self._writer = Writer(self._database, batch, self._loop, self._storage_failed)
        self._money = self._make_budget()
        self._engine = Engine(self._parts(lane), self._credit.give_back)
        self._kit.observer.started(self._started(created=created))
        try:
            signals = await self._send_all()
            left = self._engine.error is not None or not self._engine.nothing_left
            ended = await self._finish(signals, self._clock.monotonic() - began, left=left)
        finally:
            await lane.close()
        self._kit.observer.ended(ended)
        return ended

    async def _send_all(self) -> Signals:
        limits, begun = self._job.limits, self._begun
        intake = Intake(
            begun.plan, self._kit.builder, self._writer, begun.scope.run_id, self, self._credit
        )
        housekeeping = [
            asyncio.create_task(self._checkpoint_regularly()),
            asyncio.create_task(self._watch_runtime()),
            asyncio.create_task(self._watch_limits()),
        ]
        with Signals(
            self._engine, self._kit.observer, self._clock, limits.drain_timeout_seconds
        ) as signals:
            intake.start()
            await self._engine.run()
        for task in housekeeping:
            task.cancel()
        self._gauge.end(self._clock.monotonic())
        await asyncio.to_thread(intake.stop)
        return signals

    def _parts(self, lane: Lane) -> Parts:
        job, begun = self._job, self._begun
        policy = Policy(
            retry=job.limits.retry,
            on_unknown=job.on_unknown,
            max_legs=job.limits.max_legs,
            endpoint=job.endpoint.name,
            errors_may_be_billed=job.endpoint.errors_may_be_billed,
            answers=answer_policy(job.answers, self._kit.largest_output),
        )
        begun.history.policy = policy.answers
        return Parts(
            invocation_id=begun.scope.invocation_id,
            database_uid=begun.database_uid,
            limits=job.limits,
            policy=policy,
            lane=lane,
            writer=self._writer,
            rater=self._kit.rater,
            done=self._done,
            history=begun.history,
            clock=self._clock,
            progress=self._progress,
            budget=self._money,
            pacer=self._pacer,
        )

    def _make_budget(self) -> Budget | None:
        """The caps of this invocation with what was settled before; `None` without any."""
        wallets = [Wallet(cap, settled) for cap, settled in self._begun.caps]
        if not wallets:
            return None
        invocation_id = self._begun.scope.invocation_id
        return Budget(wallets, invocation_id, self._writer, self._loop.call_soon_threadsafe)

    def _started(self, *, created: bool) -> Started:
        return Started(
            run_id=self._begun.scope.run_id,
            invocation_id=self._begun.scope.invocation_id,
            database=place(self._database).shown,
            database_created=created,
            recovery=self._begun.recovery,
            retrying=self._begun.retrying,
            price_note=self._kit.price_note,
            progress=self._progress,
        )

    # Called by the reader's thread

    def rows(self, items: Sequence[Request | BadRow]) -> None:
        """See `Receiver.rows`."""
        self._loop.call_soon_threadsafe(self._receive, items)

    def claimed(self, source_id: int, row_numbers: set[int]) -> None:
        """See `Receiver.claimed`."""
        self._loop.call_soon_threadsafe(self._claimed, source_id, row_numbers)

    def read_to_end(self, source: PlannedSource, rows: int) -> None:
        """See `Receiver.read_to_end`."""
        self._loop.call_soon_threadsafe(self._read_to_end, source, rows)

    def blank(self, source_id: int, row_numbers: Sequence[int]) -> None:
        """See `Receiver.blank`."""
        self._loop.call_soon_threadsafe(self._mark_done, source_id, row_numbers)

    def ended(self, error: Exception | None) -> None:
        """See `Receiver.ended`."""
        self._loop.call_soon_threadsafe(self._input_ended, error)

    def _receive(self, items: Sequence[Request | BadRow]) -> None:
        self._found += len(items)
        self._engine.receive(items)
        if self._engine.limit_reached:
            self._credit.stop()

    def _claimed(self, source_id: int, row_numbers: set[int]) -> None:
        self._found += len(row_numbers)
        self._progress.claimed += len(row_numbers)
        self._mark_done(source_id, row_numbers)

    def _mark_done(self, source_id: int, row_numbers: Iterable[int]) -> None:
        for row_number in row_numbers:
            self._done.add(source_id, row_number)

    def _read_to_end(self, source: PlannedSource, rows: int) -> None:
        """In one transaction with a checkpoint: what rows claimed is looked for until then."""

        def save(connection: Connection) -> None:
            if has_failure(connection, source.source_id, Reason.TRUNCATED_FILE):
                return  # its rows say nothing against those of an older, whole file
            runs.source_read(
                connection,
                run_id=self._begun.scope.run_id,
                source_id=source.source_id,
                name=source.file.name,
                rows=rows,
            )

        self._checkpoint(clean=False, also=save)

    def _input_ended(self, error: Exception | None) -> None:
        self._input_over = True
        if error is not None:
            self._engine.stop(error)
        elif not (self._engine.limit_reached or self._engine.draining):
            self._progress.total_rows = self._progress.done_before + self._found
            self._progress.total_is_exact = True
        self._engine.input_ended()

    # Housekeeping

    def _storage_failed(self, error: BaseException) -> None:
        self._ledger_failed = True
        self._engine.stop(error)
        self._engine.abort()

    async def _checkpoint_regularly(self) -> None:
        while True:
            await self._clock.sleep(_CHECKPOINT_SECONDS)
            if self._money:
                self._money.tell()
            await asyncio.wrap_future(self._checkpoint(clean=False))

    def _checkpoint(
        self, *, clean: bool, also: Callable[[Connection], None] | None = None
    ) -> Future[None]:
        settled_below, ranges = self._done.checkpoint()
        invocation_id = self._begun.scope.invocation_id

        def save(connection: Connection) -> None:
            runs.checkpoint(connection, invocation_id, settled_below=settled_below, clean=clean)
            runs.save_done_ranges(connection, ranges)
            if also is not None:
                also(connection)

        return self._writer.call(save)

    async def _watch_runtime(self) -> None:
        seconds = self._job.limits.max_runtime_seconds
        if seconds is not None:
            await self._clock.sleep(seconds)
            self._out_of_time = True
            self._kit.observer.draining(f"--max-runtime of {seconds:g} s is over")
            self._engine.drain()

    async def _watch_limits(self) -> None:
        while True:
            await self._clock.sleep(SAMPLE_SECONDS)
            self._gauge.sample(
                self._clock.monotonic(),
                unsent_rows=self._credit.spent_rows,
                input_ended=self._input_over,
            )

    # The end

    async def _finish(self, signals: Signals, seconds: float, *, left: bool) -> Ended:
        """Make the last outcomes durable, then judge how the run went."""
        error = self._engine.error
        counts: dict[str, int] = {}
        if not self._ledger_failed:
            try:
                counts = await self._record_end(signals, left=left)
            except BatcherError as exc:
                error = exc
        await asyncio.to_thread(self._writer.close)
        if error is not None and not isinstance(error, BatcherError):
            raise error
        return Ended(
            exit_code=self._exit_code(error, signals, counts, left=left),
            error=str(error or ""),
            rows_left=left,
            seconds=seconds,
            progress=self._progress,
            unfinished_rows=counts,
        )

    async def _record_end(self, signals: Signals, *, left: bool) -> dict[str, int]:
        """The last checkpoint and the invocation's end; failed rows of the run by kind."""
        await asyncio.wrap_future(self._writer.call(lambda _: None))  # acknowledges everything
        if self._money:
            self._money.tell(everything=True)
        await asyncio.wrap_future(self._checkpoint(clean=True))
        scope = self._begun.scope

        def save(connection: Connection) -> dict[str, int]:
            counts = unfinished_rows(connection, {s.source_id for s in self._begun.plan})
            if self._job.strict and has_unpriced(connection, scope.run_id):
                counts["unpriced"] = self._progress.unpriced or 1
            if not left and self._kit.chosen is None:
                digest, now = self._job.settings.digest(), self._clock.now_us()
                read = [source.source_id for source in self._begun.plan]
                grade_estimates(connection, scope.run_id, digest, now, read)
            code = self._exit_code(self._engine.error, signals, counts, left=left)
            runs.end_invocation(
                connection,
                scope.invocation_id,
                ended_at=self._clock.now_us(),
                exit_code=code,
            )
            return counts

        return await asyncio.wrap_future(self._writer.call(save))

    def _exit_code(
        self,
        error: BaseException | None,
        signals: Signals,
        counts: dict[str, int],
        *,
        left: bool,
    ) -> int:
        if isinstance(error, BatcherError):
            return error.exit_code
        if signals.aborted_by is not None:
            return _ABORTED[signals.aborted_by]
        if error is not None:
            return BatcherError.exit_code
        if left and (signals.received is not None or self._out_of_time):
            return Busy.exit_code
        return _ROWS_WITHOUT_ANSWER if counts else 0
