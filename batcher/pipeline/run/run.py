"""One invocation of a run, from the open ledger to the exit code."""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import ExitStack
from typing import Final

from batcher.errors import BatcherError
from batcher.ledger import runs
from batcher.ledger.connect import Connection, open_engine, place
from batcher.ledger.connect import Engine as Database
from batcher.ledger.migrate import prepare
from batcher.ledger.money.estimates import grade_estimates
from batcher.ledger.owner.lease import Fenced
from batcher.ledger.owner.lock import Ownership
from batcher.ledger.runs import has_failure, has_unpriced, unfinished_rows
from batcher.ledger.space import check_space
from batcher.ledger.write.transaction import Batch
from batcher.ledger.write.writer import Writer
from batcher.messages.request import BadRow, Request
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.limiting import SAMPLE_SECONDS, Gauge
from batcher.pipeline.engine.parts import Parts, policy_of
from batcher.pipeline.engine.waits import end_all
from batcher.pipeline.events import Ended
from batcher.pipeline.job import Job
from batcher.pipeline.kit import Kit
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.bad_rows import BadGate
from batcher.pipeline.run.begin import Begun, begin
from batcher.pipeline.run.done import DoneRows
from batcher.pipeline.run.ending import exit_code
from batcher.pipeline.run.holding import hold, open_session
from batcher.pipeline.run.intake import Credit, Intake, PlannedSource
from batcher.pipeline.run.opening import open_budget, started
from batcher.pipeline.run.rescue import Ready, Rescue, make_ready, rescue_for
from batcher.pipeline.run.signals import Signals
from batcher.pipeline.together.sharing import share_quotas
from batcher.rows.read.row_count import estimated_rows
from batcher.rows.reasons import Reason
from batcher.transport.lane import Lane

_CHECKPOINT_SECONDS: Final = 5.0
_AHEAD_ROWS: Final = 512  # rows read and not yet sent
AHEAD_BYTES: Final = 64 * 2**20

LoopFactory = Callable[[], asyncio.AbstractEventLoop]


def run_job(
    job: Job,
    kit: Kit,
    loop_factory: LoopFactory | None = None,
    before: Callable[[Kit], None] | None = None,
    held: Ownership | None = None,
) -> Ended:
    """Do everything of `job` that is still to do, and say how it ended.

    `before` is called when the ledger is there and held, and may raise to send nothing. `held`
    is what the caller holds already; `None`: nothing.

    Raises `BatcherError` for what is wrong before anything is sent; later trouble is in the
    result. Everything that was sent is in the ledger in either case.
    """
    with ExitStack() as stack:
        held = held or stack.enter_context(hold(job, kit.observer, kit.clock))
        check_space(job.database, job.min_free_space)
        database = open_engine(job.database)
        stack.callback(database.dispose)
        created = prepare(database).created or held.created
        ready = make_ready(database, job, kit.clock)
        if before is not None:
            before(kit)
        begun = begin(database, job, kit, held)
        runner = stack.enter_context(asyncio.Runner(loop_factory=loop_factory))
        rescue = rescue_for(database, job, begun.scope, ready.harbour, kit.clock)
        stack.callback(rescue.lifeboat.close)
        kind = _kind(job)
        invocation = kind(job, kit, database, begun, rescue)
        return runner.run(invocation.run(ready, created=created))


def _kind(job: Job) -> "type[Invocation]":
    if not job.join:
        return Invocation
    from batcher.pipeline.together.joined import JoinedInvocation  # noqa: PLC0415 - it extends ours

    return JoinedInvocation


class Invocation:
    """The part of a run that lives in the event loop; also what the reader's thread calls."""

    def __init__(
        self, job: Job, kit: Kit, database: Database, begun: Begun, rescue: Rescue
    ) -> None:
        self._rescue = rescue
        self._job = job
        self._kit = kit
        self._database = database
        self._begun = begun
        self._clock = kit.clock
        self._done = DoneRows({source.source_id: source.done for source in begun.plan})
        self._credit = Credit(_AHEAD_ROWS, AHEAD_BYTES)
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
        self._last = not job.join  # whether nobody else does the run any more

    async def run(self, ready: Ready, *, created: bool) -> Ended:
        """Send, settle and record until the run is over."""
        began = self._clock.monotonic()
        self._loop = asyncio.get_running_loop()
        lane = self._kit.make_lane(self._begun.held.may_send)
        batch = Batch(self._database.dialect, self._begun.scope, self._clock, self._job.store)
        self._session = open_session(
            self._database, self._job, self._begun.held, self._database_away
        )
        self._writer = Writer(
            self._database,
            batch,
            self._loop,
            self._storage_failed,
            self._rescue.lifeboat,
            self._session,
        )
        self._money = open_budget(self._begun, self._writer, self._loop.call_soon_threadsafe)
        self._engine = Engine(self._parts(lane), self._credit.give_back)
        place_shown = place(self._database).shown
        self._kit.observer.started(
            started(self._begun, ready, self._kit, self._progress, place_shown, created=created)
        )
        self._begun.held.watch(lambda: self._loop.call_soon_threadsafe(self._lease_changed))
        try:
            signals = await self._send_all()
            left = self._rows_left()
            ended = await self._finish(signals, self._clock.monotonic() - began, left=left)
        finally:
            self._begun.held.watch(lambda: None)
            await lane.close()
        self._kit.observer.ended(ended)
        return ended

    async def _send_all(self) -> Signals:
        limits, begun = self._job.limits, self._begun
        intake = self._intake = self._make_intake()
        if limits.max_bad:
            read = self._progress.done_before
            intake.gate = BadGate(limits.max_bad, bad=begun.quarantined, rows=read)
        housekeeping = [
            asyncio.create_task(self._checkpoint_regularly()),
            asyncio.create_task(self._watch_runtime()),
            asyncio.create_task(self._watch_limits()),
            asyncio.create_task(
                self._rescue.watch_space(self._kit.observer, self._engine.stop)
            ),
            *share_quotas(self._kit, self._pacer, self._writer, self._begun, self._database),
        ]
        kit, drain = self._kit, limits.drain_timeout_seconds
        with Signals(self._engine, kit.observer, self._clock, drain, kit.pass_on) as signals:
            intake.start()
            await self._engine.run()
        await end_all(housekeeping)
        self._gauge.end(self._clock.monotonic())
        await asyncio.to_thread(intake.stop)
        return signals

    def _make_intake(self) -> Intake:
        plan, run_id = self._begun.plan, self._begun.scope.run_id
        return Intake(plan, self._kit.builder, self._writer, run_id, self, self._credit)

    def _parts(self, lane: Lane) -> Parts:
        job, begun = self._job, self._begun
        policy = policy_of(job, self._kit)
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
            may_send=self._begun.held.may_send,
        )

    def _rows_left(self) -> bool:
        finished = self._engine.nothing_left and self._intake.read_everything
        return self._engine.error is not None or not finished

    def _save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        runs.save_done_ranges(connection, ranges)

    def _is_last(self, connection: Connection) -> bool:  # noqa: ARG002 - see `JoinedInvocation`
        return True

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
        self._done.add_all(source_id, row_numbers)

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
        """Send nothing more; what is in flight is paid, so it is awaited, but not for ever."""
        self._ledger_failed = True
        self._end_early(error, "the database failed")

    def _end_early(self, error: BaseException, reason: str) -> None:
        followed = isinstance(error, Fenced)
        self._kit.observer.draining("another process has taken over" if followed else reason)
        self._engine.stop(error)
        self._loop.call_later(self._job.limits.drain_timeout_seconds, self._engine.abort)

    def _lease_changed(self) -> None:
        """It was renewed after a pause, or it is lost."""
        lost = self._begun.held.lost
        if lost is None:
            self._engine.look_again()
        elif self._engine.error is None:
            self._end_early(lost, str(lost))

    def _database_away(self, words: str) -> None:
        """Called by the writer's thread; nothing is sent, since no intent becomes durable."""
        self._progress.note = words
        if words:
            self._loop.call_soon_threadsafe(self._kit.observer.waiting, words)

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
            self._save_done(connection, ranges)
            if also is not None:
                also(connection)

        return self._writer.call(save)

    async def _watch_runtime(self) -> None:
        seconds = self._job.limits.max_runtime_seconds
        if seconds is not None:
            await self._clock.sleep(seconds - self._begun.held.waited_seconds)
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
        if signals.aborted_by is not None:
            self._session.hurry()
        if not self._ledger_failed:
            try:
                counts = await self._record_end(signals, left=left)
            except Exception as exc:  # noqa: BLE001 - raised below, when the ledger is closed
                error = exc
        error = await asyncio.to_thread(self._rescue.end, self._writer, error)
        if error is not None and not isinstance(error, BatcherError):
            raise error
        return Ended(
            exit_code=exit_code(
                error, signals, counts, left=left, out_of_time=self._out_of_time
            ),
            error=str(error or ""),
            rows_left=left,
            seconds=seconds,
            progress=self._progress,
            unfinished_rows=counts,
            last=self._last,
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
            self._last = self._is_last(connection)
            if not left and self._last and self._kit.chosen is None:
                digest, now = self._job.settings.digest(), self._clock.now_us()
                read = [source.source_id for source in self._begun.plan]
                grade_estimates(connection, scope.run_id, digest, now, read)
            late, error = self._out_of_time, self._engine.error
            code = exit_code(error, signals, counts, left=left, out_of_time=late)
            runs.end_invocation(
                connection,
                scope.invocation_id,
                ended_at=self._clock.now_us(),
                exit_code=code,
            )
            return counts

        return await asyncio.wrap_future(self._writer.call(save))
