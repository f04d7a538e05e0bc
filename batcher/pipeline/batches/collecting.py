"""The batches of a run in the ledger, and their collection, one batch after the other.

The rows of a batch are read again, and settled as ever.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TypeVar

from batcher.clock import Clock
from batcher.errors import BatcherError
from batcher.ledger import runs
from batcher.ledger.batches import store
from batcher.ledger.batches.store import AttemptOut, StoredBatch
from batcher.ledger.connect import Connection
from batcher.ledger.resume import EarlierAnswer, Unfinished, earlier_answers
from batcher.ledger.write.records import Scope
from batcher.ledger.write.writer import Writer
from batcher.messages.prefix import Placement
from batcher.messages.request import (
    Attempt,
    BatchState,
    Outcome,
    Purpose,
    Request,
    SeenBatch,
    invocation_of,
)
from batcher.pipeline.batches.asking import Results
from batcher.pipeline.engine.known_rows import BegunRequests, DoneRows
from batcher.pipeline.engine.work import Underway
from batcher.pipeline.progress import Progress
from batcher.pipeline.run.division import WithBatches
from batcher.rows.ranges import RowRanges

T = TypeVar("T")
CloseBatch = Callable[[Connection, int, int], object]  # with its number, and when


class BatchJournal:
    """See `transport.endpoint.Journal`; `out` are the batches that are not collected.

    `writer` gives the writer once it is there. `look_up` finds out what became of a create
    whose answer is lost.
    """

    def __init__(
        self,
        writer: Callable[[], Writer],
        scope: Scope,
        clock: Clock,
        out: Iterable[StoredBatch],
        look_up: Callable[[int], Awaitable[None]],
    ) -> None:
        self._writer = writer
        self._scope = scope
        self._clock = clock
        self._look_up = look_up
        self.out = {batch.number: batch for batch in out}

    async def write(self, change: Callable[[Connection], T]) -> T:
        """Make a change durable."""
        return await asyncio.wrap_future(self._writer().call(change))

    async def intended(self, attempts: Sequence[Attempt]) -> int:
        """See `Journal.intended`."""
        scope, now = self._scope, self._clock.now_us()
        model = attempts[0].request.model
        ids = [attempt.attempt_id for attempt in attempts]
        number = await self.write(
            lambda connection: store.intend(
                connection,
                run_id=scope.run_id,
                invocation_id=scope.invocation_id,
                model=model,
                attempt_ids=ids,
                now_us=now,
            )
        )
        self.out[number] = StoredBatch(
            number=number,
            run_id=scope.run_id,
            state=BatchState.CREATING,
            batch_id=None,
            model=model,
            requests=len(attempts),
            intended_at=now,
            created_at=None,
            expires_at=None,
            ended_at=None,
        )
        return number

    async def made(self, number: int, seen: SeenBatch) -> None:
        """See `Journal.made`."""
        await self.seen(number, seen)

    async def seen(self, number: int, seen: SeenBatch) -> None:
        """What the server said of a batch; durable when it differs from what is known."""
        before = self.out[number]
        now = store.as_seen(before, seen)
        if now != before:
            await self.write(lambda connection: store.look(connection, number, seen))
            self.out[number] = now

    async def not_made(self, number: int) -> None:
        """See `Journal.not_made`."""
        now = self._clock.now_us()
        await self.write(lambda connection: store.not_made(connection, number, now))
        self.out.pop(number, None)

    async def lost(self, number: int) -> None:
        """See `Journal.lost`."""
        await self._look_up(number)

    @property
    def rows_out(self) -> int:
        """How many requests the batches hold that are out."""
        return sum(batch.requests for batch in self.out.values())


@dataclass(frozen=True, slots=True, kw_only=True)
class KeeperTies:
    """What is needed of an invocation once it works.

    `settle_alone` settles an attempt whose row nobody read; `save` makes a checkpoint with a
    further change; `say` tells people; `end` sends nothing more; `progress` is
    what displays read.
    """

    settle_alone: Callable[[Attempt, Outcome], None]
    save: Callable[[Callable[[Connection], None]], "Future[None]"]
    say: Callable[[str], None]
    end: Callable[[], None]
    progress: Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectedRun:
    """Whose batches are collected; `sources` are the snapshots that are read today."""

    run_id: int
    invocation_id: int
    sources: frozenset[int]
    history: BegunRequests
    done: DoneRows


class Collector:
    """Belongs to the event loop's thread. Memory is one small entry a request of one batch."""

    def __init__(
        self, journal: BatchJournal, division: WithBatches, run: CollectedRun, clock: Clock
    ) -> None:
        self._journal = journal
        self._division = division
        self._run = run
        self._clock = clock
        self._results: Results | None = None
        self._batch: StoredBatch | None = None
        self._outstanding: set[int] = set()
        self._home = asyncio.Event()

    @property
    def is_busy(self) -> bool:
        """Whether a batch is being collected."""
        return self._results is not None

    def outcome(self, attempt: Attempt, batch_number: int) -> Outcome:
        """What came of an attempt of the batch that is being collected."""
        batch = self._batch
        if self._results is None or batch is None or batch.number != batch_number:
            raise BatcherError(f"attempt {attempt.uid} is not back from batch {batch_number}")
        left_at = batch.began_at
        return self._results.outcome(attempt, left_at, self._clock.now_us())

    def settled(self, attempt_id: int) -> None:
        """What came of that attempt is durable."""
        if self._outstanding:
            self._outstanding.discard(attempt_id)
            if not self._outstanding:
                self._home.set()

    async def collect(
        self, batch: StoredBatch, results: Results, ties: KeeperTies, *, gives_up: bool = False
    ) -> None:
        """Settle every attempt of the batch; it is collected, or given up, when this returns.

        Whoever has the results closes them.
        """
        self._results, self._batch = results, batch
        close = store.forget if gives_up else store.collected
        try:
            await self._settle_all(batch, results, ties, close)
        finally:
            self._results = self._batch = None

    async def _settle_all(
        self, batch: StoredBatch, results: Results, ties: KeeperTies, close: CloseBatch
    ) -> None:
        number, run = batch.number, self._run
        left = await self._journal.write(lambda c: came_back(c, run.run_id, number))
        self._outstanding = {out.attempt_id for out, _, _ in left}
        self._home = asyncio.Event()
        if not left:
            self._home.set()
        rows = run.history.came_back(number)
        for out, entry, answers in left:
            if out.source_id in run.sources:
                run.history.add(entry, answers, underway_of(out, run.invocation_id))
                rows.setdefault(out.source_id, RowRanges()).add(out.row_number)
        await self._read(rows)
        untaken = run.history.nobody_took(number)
        alone = [out for out, _, _ in left if out.attempt_id in untaken]
        for out in alone:  # the inputs hold the row no more, or are not read today
            attempt = _without_row(out)
            ties.settle_alone(attempt, self.outcome(attempt, number))
        await self._home.wait()
        await self._close(batch, alone, ties, close)
        _say_findings(batch, results, len(alone), ties.say)

    async def _read(self, rows: Mapping[int, RowRanges]) -> None:
        """Let the reader read these rows; returns when the engine has got all of them."""
        loop = asyncio.get_running_loop()
        read = asyncio.Event()
        self._division.ready(rows, lambda: loop.call_soon_threadsafe(read.set))
        await read.wait()

    async def _close(
        self,
        batch: StoredBatch,
        alone: Sequence[AttemptOut],
        ties: KeeperTies,
        close: CloseBatch,
    ) -> None:
        number, now = batch.number, self._clock.now_us()
        elsewhere = [out for out in alone if out.source_id not in self._run.sources]

        def save(connection: Connection) -> None:
            _save_elsewhere(connection, elsewhere)
            close(connection, number, now)

        self._run.done.back(number)
        await asyncio.wrap_future(ties.save(save))
        self._journal.out.pop(number, None)


def _save_elsewhere(connection: Connection, alone: Sequence[AttemptOut]) -> None:
    """Rows of inputs that are not read today are done, too."""
    answered = store.answered_rows(connection, [out.attempt_id for out in alone])
    for source_id in {source_id for source_id, _ in answered}:
        done = RowRanges.from_json(runs.done_ranges(connection, source_id))
        for each, row_number in answered:
            if each == source_id:
                done.add(row_number)
        runs.save_done_ranges(connection, {source_id: done.to_json()})


def _say_findings(
    batch: StoredBatch, results: Results, alone: int, say: Callable[[str], None]
) -> None:
    found = [
        (results.left, "results that belong to none of our attempts"),
        (results.repeated, "results that came twice"),
        (results.unreadable, "results that cannot be read"),
        (alone, "results whose rows the inputs do not hold any more"),
    ]
    words = ", ".join(f"{count:,} {what}" for count, what in found if count)
    if words:
        say(f"batch {batch.batch_id} has {words}")


def underway_of(out: AttemptOut, invocation_id: int) -> Underway:
    """The attempt as the engine of that invocation takes it up."""
    return Underway(
        attempt_id=out.attempt_id,
        uid=out.uid,
        opened_at=out.opened_at,
        cost_high=out.cost_high,
        batch=out.batch,
        is_ours=invocation_of(out.attempt_id) == invocation_id,
        cached=_noted(out),
    )


def _noted(out: AttemptOut) -> Placement | None:
    if out.cache_prefix is None or out.cache_note is None:
        return None
    return Placement(prefix=out.cache_prefix, note=out.cache_note)


def came_back(
    connection: Connection, run_id: int, number: int
) -> list[tuple[AttemptOut, Unfinished, Sequence[EarlierAnswer]]]:
    """The open attempts of a batch, each with where its request stands, and its answers."""
    out = list(store.attempts_out(connection, number))
    again = [each.request_id for each in out if each.number > 1]
    doubts = store.doubts_of(connection, again) if again else {}
    earlier = earlier_answers(connection, run_id, number) if again else {}
    return [
        (each, entry_of(each, doubts.get(each.request_id, 0)), earlier.get(each.request_id, ()))
        for each in out
    ]


def entry_of(out: AttemptOut, doubts: int) -> Unfinished:
    """Where the request of an attempt that is out stands."""
    return Unfinished(
        request_id=out.request_id,
        attempt_id=out.attempt_id,
        source_id=out.source_id,
        row_number=out.row_number,
        custom_id=out.custom_id,
        params_hash=out.params_hash,
        attempts=out.number,
        doubts=doubts,
        doubt=None,
    )


def _without_row(out: AttemptOut) -> Attempt:
    request = Request(
        source_id=out.source_id,
        row_number=out.row_number,
        byte_offset=out.byte_offset,
        custom_id=out.custom_id,
        params_hash=out.params_hash,
        model=out.model,
        max_tokens=None,
        body=b"{}",
    )
    return Attempt(
        attempt_id=out.attempt_id,
        uid=out.uid,
        request_id=out.request_id,
        request=request,
        number=out.number,
        leg=out.leg,
        purpose=Purpose(out.purpose),
        body=b"{}",
        opened_at=out.opened_at,
        cost_high=out.cost_high,
    )
