"""The part of a run that lives in the event loop, from the open ledger to the end."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final

from batcher.errors import BatcherError, Fenced, GuardStopped
from batcher.ledger import runs
from batcher.ledger.connect import Connection, place
from batcher.ledger.connect import Engine as Database
from batcher.ledger.money.budget import set_aside_as_unusual
from batcher.ledger.money.estimates import grade_estimates
from batcher.ledger.write.writer import Recording, Writer, open_writer
from batcher.messages.request import counted_in
from batcher.pacing.pacer import Pacer
from batcher.pipeline.batches.side import batch_side
from batcher.pipeline.engine.engine import Engine
from batcher.pipeline.engine.known_rows import DoneRows
from batcher.pipeline.engine.tally import SAMPLE_SECONDS, LimitGauge
from batcher.pipeline.engine.work import NoReturns
from batcher.pipeline.job import Job, Services
from batcher.pipeline.progress import Ended, Progress, Started
from batcher.pipeline.repeats import repeats_of
from batcher.pipeline.run.begin import BegunInvocation
from batcher.pipeline.run.division import Division
from batcher.pipeline.run.engines import Doors, EngineParts, make_engine
from batcher.pipeline.run.holding import CheckedLedger, Rescue, connection_lost
from batcher.pipeline.run.intake import Intake
from batcher.pipeline.run.plan import PlannedSource, note_read
from batcher.pipeline.run.row_checks import BadGate
from batcher.pipeline.run.row_feed import Credit, RowFeed
from batcher.pipeline.run.stopping import (
    SignalActions,
    Signals,
    exit_code,
    guard_note,
    minded,
    why_stopped,
)
from batcher.pipeline.together.sharing import share_quotas
from batcher.rows.read.check import estimated_rows
from batcher.transport.endpoint import Lane
from batcher.transport.room import AnswerRoom

_CHECKPOINT_SECONDS: Final = 5.0
_AHEAD_BYTES: Final = 64 * 2**20


class Invocation:
    """One process doing a job once: sends, settles and records until the run is over."""

    def __init__(
        self,
        job: Job,
        services: Services,
        database: Database,
        begun: BegunInvocation,
        rescue: Rescue,
        divide: Callable[[Writer], Division],
    ) -> None:
        self._divide = divide
        self._rescue = rescue
        self._job = job
        self._services = services
        self._database = database
        self._begun = begun
        self._clock = services.clock
        self._done = DoneRows({source.source_id: source.done for source in begun.plan})
        self._progress = Progress(
            done_before=sum(len(source.done) for source in begun.plan),
            total_rows=sum(estimated_rows(file) or 0 for file in services.files),
        )
        limits = job.limits
        now = services.clock.monotonic()
        self._pacers = [
            each.pacer or Pacer(limits.quota, limits.concurrency, now)
            for each in services.endpoints
        ]
        self._gauge = LimitGauge(self._progress, self._pacers[0], limits.quota)
        self._room = AnswerRoom()
        self._out_of_time = False
        self._ledger_failed = False
        self._last = not job.join  # whether nobody else does the run any more

    async def run(self, checked: CheckedLedger, *, created: bool) -> Ended:
        """Send, settle and record until the run is over."""
        began = self._clock.monotonic()
        self._loop = asyncio.get_running_loop()
        side = self._side = batch_side(
            self._job, self._services, self._begun, lambda: self._writer, self._done
        )
        self._writer = open_writer(
            self._database,
            Recording(
                scope=self._begun.scope,
                clock=self._clock,
                store=self._job.store,
                lease=self._begun.held.lease,
                patience_seconds=self._job.database_wait_seconds,
                connection_lost=connection_lost(self._job, self._database_away),
                file=self._begun.held.file,
                log_grows=lambda words: self._loop.call_soon_threadsafe(
                    self._services.observer.noted, words
                ),
            ),
            self._loop,
            self._storage_failed,
            self._rescue.lifeboat,
            self._kept_elsewhere,
        )
        self._division = side.division if side else self._divide(self._writer)
        self._credit = Credit(self._job.limits.ahead(self._division.rows_ahead), _AHEAD_BYTES)
        lanes = [side.lane] if side and side.lane else self._live_lanes()
        try:
            self._engine = self._make_engine(lanes)
            self._feed = self._make_feed()
            self._services.observer.started(self._started(checked, created=created))
            self._begun.held.watch(lambda: self._loop.call_soon_threadsafe(self._lease_changed))
            with self._heeding_signals() as signals:
                await self._send_all()
                left = self._rows_left()
                ended = await self._finish(signals, self._clock.monotonic() - began, left=left)
        finally:
            self._begun.held.watch(lambda: None)
            for lane in lanes:
                await lane.close()
            if side:
                await side.close()
        self._services.observer.ended(ended)
        return ended

    def _started(self, checked: CheckedLedger, *, created: bool) -> Started:
        begun = self._begun
        return Started(
            run_id=begun.scope.run_id,
            invocation_id=begun.scope.invocation_id,
            database=place(self._database).shown,
            database_created=created,
            recovery=begun.recovery,
            retrying=begun.retrying,
            price_note=self._services.price_note,
            progress=self._progress,
            source_ids=[source.source_id for source in begun.plan],
            imported=checked.imported,
            notes=(
                *checked.notes,
                *self._services.notes,
                *guard_note(self._job.guard, begun.usual),
            ),
        )

    def _live_lanes(self) -> list[Lane]:
        may_send, room = self._begun.held.may_send, self._room
        return [each.make_lane(may_send, room) for each in self._services.endpoints]

    def _heeding_signals(self) -> Signals:
        services, seconds = self._services, self._job.limits.drain_timeout_seconds
        actions = SignalActions(drain=self._engine.drain, abort=self._abort)
        return Signals(actions, services.observer, self._clock, seconds, services.signals)

    def _abort(self) -> None:
        self._engine.abort()
        self._writer.hurry()  # a database that is away is waited for no longer

    async def _send_all(self) -> None:
        intake = self._intake = self._make_intake()
        housekeeping = [
            asyncio.create_task(self._checkpoint_regularly()),
            asyncio.create_task(self._watch_runtime()),
            asyncio.create_task(self._watch_limits()),
            asyncio.create_task(
                self._rescue.watch_space(self._services.observer, self._engine.stop)
            ),
            *(self._side.tasks(self._engine, self._save) if self._side else ()),
            *share_quotas(
                self._services, self._pacers, self._writer, self._begun, self._database
            ),
        ]
        intake.start()
        await self._engine.run()
        await _end_all(housekeeping)
        self._gauge.end(self._clock.monotonic())
        await asyncio.to_thread(intake.stop)

    def _make_feed(self) -> RowFeed:
        return RowFeed(
            loop=self._loop,
            engine=self._engine,
            done=self._done,
            history=self._begun.history,
            division=self._division,
            credit=self._credit,
            progress=self._progress,
            observer=self._services.observer,
            source_read=self._source_read,
        )

    def _make_intake(self) -> Intake:
        begun, most_bad = self._begun, self._job.limits.max_bad
        read = self._progress.done_before
        return Intake(
            plan=() if self._job.limits.takes_no_rows else begun.plan,
            builder=self._services.builder,
            writer=self._writer,
            claimable=begun.claimable,
            sharing=begun.sharing,
            clock=self._clock,
            feed=self._feed,
            credit=self._credit,
            division=self._division,
            repeats=repeats_of(begun, self._writer, self._clock, self._feed.repeated),
            carries=self._services.carries,
            gate=BadGate(most_bad, bad=begun.quarantined, rows=read) if most_bad else None,
        )

    def _make_engine(self, lanes: Sequence[Lane]) -> Engine | Doors:
        begun = self._begun
        parts = EngineParts(
            job=self._job,
            services=self._services,
            begun=begun,
            writer=self._writer,
            pacers=self._pacers,
            progress=self._progress,
            done=self._done,
            consumed=self._credit.give_back,
            room=self._room,
            returns=self._side.keeper if self._side else NoReturns(),
        )
        return make_engine(parts, lanes)

    def _rows_left(self) -> bool:
        finished = self._engine.nothing_left and self._intake.read_everything
        return self._engine.error is not None or not finished

    def _source_read(self, source: PlannedSource, rows: int) -> None:
        """In one transaction with a checkpoint: what rows claimed is looked for until then."""
        run_id = self._begun.scope.run_id
        self._save(lambda connection: note_read(connection, run_id, source, rows))

    # Housekeeping

    def _storage_failed(self, error: BaseException) -> None:
        """Send nothing more; what is in flight is paid, so it is awaited, but not for ever."""
        self._ledger_failed = True
        self._end_early(error, "the database failed")

    def _kept_elsewhere(self, attempt_ids: Sequence[int]) -> None:
        for attempt_id in attempt_ids:
            self._room.recorded(attempt_id)

    def _end_early(self, error: BaseException, reason: str) -> None:
        followed = isinstance(error, Fenced)
        self._services.observer.draining(
            "another process has taken over" if followed else reason
        )
        self._engine.stop(error)
        self._loop.call_later(self._job.limits.drain_timeout_seconds, self._engine.abort)

    def _lease_changed(self) -> None:
        """Go on after a lease was renewed late; end the run when it is lost."""
        lost = self._begun.held.lost
        if lost is None:
            self._engine.look_again()
        elif self._engine.error is None:
            self._end_early(lost, str(lost))

    def _database_away(self, words: str) -> None:
        """Called by the writer's thread; nothing is sent, since no intent becomes durable."""
        self._progress.database_wait = words
        if words:
            self._loop.call_soon_threadsafe(self._services.observer.waiting, words)

    async def _checkpoint_regularly(self) -> None:
        while True:
            await self._clock.sleep(_CHECKPOINT_SECONDS)
            self._engine.tell_spent()
            await asyncio.wrap_future(self._checkpoint(clean=False))

    def _save(self, also: Callable[[Connection], None]) -> Future[None]:
        return self._checkpoint(clean=False, also=also)

    def _checkpoint(
        self, *, clean: bool, also: Callable[[Connection], None] | None = None
    ) -> Future[None]:
        settled_below, ranges = self._done.checkpoint()
        invocation_id = self._begun.scope.invocation_id
        settled_below = counted_in(invocation_id, settled_below)

        def save(connection: Connection) -> None:
            runs.checkpoint(connection, invocation_id, settled_below=settled_below, clean=clean)
            self._division.save_done(connection, ranges)
            if also is not None:
                also(connection)

        return self._writer.call(save)

    async def _watch_runtime(self) -> None:
        seconds = self._job.limits.max_runtime_seconds
        if seconds is not None:
            await self._clock.sleep(seconds - self._begun.held.waited_seconds)
            self._out_of_time = True
            self._services.observer.draining(self._job.limits.runtime_over)
            self._engine.drain()

    async def _watch_limits(self) -> None:
        while not self._job.lane.packs:  # no option makes the provider's queue faster
            await self._clock.sleep(SAMPLE_SECONDS)
            self._gauge.sample(
                self._clock.monotonic(),
                unsent_rows=self._credit.spent_rows,
                input_ended=self._feed.input_ended,
                draining=self._engine.draining,
            )

    # The end

    async def _finish(self, signals: Signals, seconds: float, *, left: bool) -> Ended:
        """Make the last outcomes durable, then judge how the run went."""
        error = self._error(signals)
        counts: dict[str, int] = {}
        if not self._ledger_failed:
            try:
                counts = await self._record_end(signals, left=left)
            except Exception as exc:  # noqa: BLE001 - raised below, when the ledger is closed
                error = exc
        error = await asyncio.to_thread(self._rescue.end, self._writer, error)
        if self._side:
            self._side.keeper.count(self._progress)
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
            rows_released=self._side.keeper.rows_to_do if self._side else 0,
            stopped=why_stopped(
                signals,
                out_of_time=self._out_of_time,
                seconds=self._job.limits.max_runtime_seconds,
            ),
        )

    def _error(self, signals: Signals) -> BaseException | None:
        """Why it ends early, rows in batches among it, unless it was aborted."""
        left = self._side.left if self._side and signals.aborted_by is None else None
        return self._engine.error or left

    async def _record_end(self, signals: Signals, *, left: bool) -> dict[str, int]:
        """The last checkpoint and the invocation's end; failed rows of the run by kind."""
        await asyncio.wrap_future(self._writer.call(lambda _: None))  # acknowledges everything
        self._engine.tell_spent(everything=True)
        await asyncio.wrap_future(self._checkpoint(clean=True))
        scope = self._begun.scope

        def save(connection: Connection) -> dict[str, int]:
            counts = minded(connection, self._job, scope.run_id, self._begun.plan)
            self._last = self._division.is_last(connection)
            if not left and self._last and self._services.chosen is None:
                digest, now = self._job.settings.digest(), self._clock.now_us()
                read = [source.source_id for source in self._begun.plan]
                grade_estimates(connection, scope.run_id, digest, now, read)
            late, error = self._out_of_time, self._error(signals)
            if isinstance(error, GuardStopped):
                for each in (scope.invocation_id, *self._begun.fallbacks):
                    set_aside_as_unusual(connection, each)
            code = exit_code(error, signals, counts, left=left, out_of_time=late)
            runs.end_invocation(
                connection,
                scope.invocation_id,
                ended_at=self._clock.now_us(),
                exit_code=code,
            )
            return counts

        return await asyncio.wrap_future(self._writer.call(save))


async def _end_all(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel `tasks` and wait for their end; what they failed with was told elsewhere."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
