"""The ledger of a run: becoming its owner, staying it, and saving what it did not take.

The database may come and go meanwhile; what it could not be told is kept in a lifeboat.
"""

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Final

from batcher.clock import Clock
from batcher.errors import BatcherError, Busy, Fenced, LostTransactions, StorageError
from batcher.ledger import runs
from batcher.ledger.connect import Engine, reading
from batcher.ledger.lifeboat.lifeboat import Lifeboat, LifeboatPlaces, places_for
from batcher.ledger.maintenance import check_after_crash, check_at_end, check_space
from batcher.ledger.owner.lock import Ownership, hold_database, may_end_soon
from batcher.ledger.write.writer import Writer
from batcher.pipeline.choices import IfRunning
from batcher.pipeline.job import Job
from batcher.pipeline.progress import Observer
from batcher.pipeline.run.begin import BegunInvocation

_LOOK_SECONDS: Final = 0.5
WATCH_SECONDS: Final = 5.0  # between two looks at the free space


class Skipped(Busy):
    """Another run is on, and that is fine: nothing was done."""

    exit_code = 0


@contextmanager
def hold(job: Job, observer: Observer, clock: Clock) -> Iterator[Ownership]:
    """Be the job's only run while the body lasts; what `if_running` says when there is one.

    Raises:
        Skipped: another run is on, and the job says to leave it at that.
        Busy: another run is on, or still was when `max_runtime` was over.
    """
    began = clock.monotonic()
    with ExitStack() as stack:
        check_space(job.database, job.min_free_space)  # before a file is made
        held = _try(stack, job, waited_seconds=0.0)
        if held is None:
            observer.waiting("another run is on: this one begins when it has ended")
        while held is None:
            threading.Event().wait(_LOOK_SECONDS)
            held = _try(stack, job, waited_seconds=clock.monotonic() - began)
        yield replace(held, waited_seconds=clock.monotonic() - began)


def _try(stack: ExitStack, job: Job, *, waited_seconds: float) -> Ownership | None:
    """What is held; `None` while it is to be waited for, which has an end."""
    try:
        return stack.enter_context(
            hold_database(
                job.database,
                job.key,
                command=job.command,
                lease_seconds=job.lease_seconds,
                together=job.join,
                pod=job.pod,
            )
        )
    except Busy as busy:
        if job.if_running is IfRunning.SKIP:
            raise Skipped(f"nothing was done: {busy}") from busy
        if waited_seconds >= _patience_seconds(job, busy):
            raise
        return None


def _patience_seconds(job: Job, busy: Busy) -> float:
    """Without being told to wait, one lease at most, of a container that ran before us."""
    most = job.limits.max_runtime_seconds
    if job.if_running is IfRunning.WAIT:
        return math.inf if most is None else most
    return job.lease_seconds + _LOOK_SECONDS if may_end_soon(busy, job.pod) else 0.0


def connection_lost(job: Job, told: Callable[[str], None]) -> Callable[[str], None]:
    """Takes a driver's words when the connection is lost; `told` gets a sentence, then ""."""
    return lambda words: told(_lost_words(words, job.database_wait_seconds))


def _lost_words(words: str, seconds: float) -> str:
    if not words:
        return ""
    return f"the database is away ({words}): waiting for it, for {seconds:g} s at most"


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckedLedger:
    """A ledger that may be worked with. `notes` are sentences about what was found."""

    places: LifeboatPlaces
    imported: int
    notes: Sequence[str]


def check_ledger(database: Engine, job: Job, clock: Clock) -> CheckedLedger:
    """Look at a ledger that was not closed, and take in what lifeboats saved.

    Raises:
        StorageError: it is damaged, or fails.
        SchemaVersionError: a lifeboat is of another version of the program.
    """
    checked = check_after_crash(database, clock)
    with reading(database) as connection:
        uid = runs.database_uid(connection)
    places = places_for(job.database, uid, job.lifeboat_folder, job.spare_folders)
    imported = places.import_into(database, clock)
    notes = [*([checked] if checked else []), *imported.notes]
    if not places.usable:
        notes.append(f"warning: {places.nowhere_words}")
    return CheckedLedger(places=places, imported=imported.outcomes, notes=notes)


def rescue_for(
    database: Engine, job: Job, begun: BegunInvocation, places: LifeboatPlaces, clock: Clock
) -> "Rescue":
    """Reserve the room that a lifeboat of this invocation would need."""
    lifeboat = Lifeboat(
        places, begun.scope, clock, in_flight=job.limits.concurrency, store=job.store
    )
    return Rescue(
        database=database,
        job=job,
        clock=clock,
        began=clock.monotonic(),
        lifeboat=lifeboat,
        check_file=begun.held.check_file,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rescue:
    """What is needed when the ledger failed: the last try, then the words for it.

    `began` is when the run did, by the clock's `monotonic`.
    """

    database: Engine
    job: Job
    clock: Clock
    began: float
    lifeboat: Lifeboat
    check_file: Callable[[], None] = lambda: None

    async def watch_space(
        self, observer: Observer, stop: Callable[[BaseException], None]
    ) -> None:
        """Stop the run before SQLite fails on a full disk."""
        while True:
            await self.clock.sleep(WATCH_SECONDS)
            try:
                check_space(self.job.database, self.job.min_free_space)
            except StorageError as error:
                observer.draining("the disk is nearly full")
                stop(error)
                return

    def end(self, writer: Writer, error: BaseException | None) -> BaseException | None:
        """Close the writer and save what it could not write; the error to end with. Blocks."""
        writer.close()
        if writer.failure is None:
            self.lifeboat.close()
            return error or self._not_to_be_trusted()
        return self._saved(writer, writer.failure)

    def _not_to_be_trusted(self) -> StorageError | None:
        try:
            self.check_file()
            check_at_end(self.database, self.clock, self.clock.monotonic() - self.began)
        except StorageError as error:
            return error
        return None

    def _saved(self, writer: Writer, error: BaseException) -> BaseException:
        words = self._words(writer)
        self.lifeboat.close()
        if not isinstance(error, BatcherError):
            error.add_note(words)
            return error
        kind = (
            type(error) if type(error) is not Busy and isinstance(error, Busy) else StorageError
        )
        return kind(f"{error}{f'; {words}' if words else ''}")

    def _words(self, writer: Writer) -> str:
        count = len(writer.unsaved)
        if self._record(writer):
            self.lifeboat.discard()
            if isinstance(writer.failure, LostTransactions):
                return self._remembered(writer)
            if not count or isinstance(writer.failure, Fenced):
                return ""  # its own sentence says so
            return f"all {count:,} outcomes that it had not taken are in it after all"
        parts = []
        if self.lifeboat.saved:
            where = " and ".join(map(str, self.lifeboat.paths))
            parts.append(
                f"{self.lifeboat.saved:,} outcomes that it did not take wait in the lifeboat"
                f" {where} and are recorded first when the same command is typed again"
            )
        if self.lifeboat.lost:
            parts.append(
                f"{self.lifeboat.lost:,} outcomes could be kept nowhere and are in doubt"
            )
        return "; ".join(parts)

    def _remembered(self, writer: Writer) -> str:
        kept = f"the last {len(writer.unsaved):,} outcomes, still in memory, are recorded again"
        if writer.remembers_all:
            return kept
        return (
            f"{kept}, what older ones said is lost with that server: compare with the"
            " provider's bill"
        )

    def _record(self, writer: Writer) -> bool:
        """Whether the database takes everything on a new connection."""
        if writer.let_go:
            return False  # only the lifeboat has them all
        try:
            self.check_file()  # another file is not ours, and may be somebody's
            self.database.dispose()
            code = getattr(writer.failure, "exit_code", BatcherError.exit_code)
            self.lifeboat.record_late(self.database, writer.unsaved, exit_code=code)
        except Exception:  # noqa: BLE001 - the lifeboat has it, and the first error is told
            return False
        return True
