"""Several processes do one run: each claims shards of the rows, and takes over from the dead.

A process that finds nothing more to claim waits for the others. One that dies is noticed when
its lease ends, on the same machine at once: its open attempts become doubts, as after any
crash, and its shards go to whoever looks first, ahead of rows that nobody has begun.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from batcher.ledger import resume, runs
from batcher.ledger.connect import Connection
from batcher.ledger.money import budget
from batcher.ledger.owner import sharing
from batcher.ledger.write.writer import Writer
from batcher.pipeline.engine.known_rows import BegunRequests
from batcher.pipeline.job import Job, Services
from batcher.pipeline.run.begin import BegunInvocation
from batcher.pipeline.run.division import Owner
from batcher.pipeline.run.plan import PlannedSource, begun_requests
from batcher.rows.ranges import RowRanges, RowsToRead
from batcher.rows.read.check import estimated_rows

_MOST_ROWS: Final = 500  # of a shard
_LEAST_ROWS: Final = 8
_UNKNOWN_ROWS: Final = 100  # where nobody knows how many rows there are
_SHARDS: Final = 64  # that a small input is cut into
_SHARD_SECONDS: Final = 5.0  # that a shard takes: nobody waits longer for the last one
_PACE_SECONDS: Final = 60.0  # that a pace is measured by
_TAKEN_AT_ONCE: Final = 8  # shards of a dead process: the others may have some too
_LOOK_SECONDS: Final = 0.25  # while others work on the last rows
_LOOK_FIRST_SECONDS: Final = 1.0  # while there are rows of our own: who has died?


@dataclass(frozen=True, slots=True)
class _TakenOver:
    """The rows of dead processes, as sources, and how far their requests were."""

    plan: Sequence[PlannedSource]
    history: BegunRequests
    recovery: runs.Recovery


class ClaimedRows:
    """See `RowsToRead`: claims shard after shard as the rows of a source are come to.

    Rows in `done` are passed, and so are those that others claim. `claim` gets the first row
    that nobody is known to have claimed, and returns the ends of the shard that is ours.
    """

    def __init__(self, done: RowRanges, claim: Callable[[int], tuple[int, int]]) -> None:
        self._done = done.copy()
        self._claim = claim
        self._from, self._to = 0, 0  # the shard that was claimed last

    def none_in(self, first: int, last: int) -> bool:
        """See `RowsToRead.none_in`; claims nothing."""
        return self._from > last or self._done.covers(first, last)

    def take(self, first: int, last: int) -> Iterator[tuple[int, int]]:
        """See `RowsToRead.take`; claims a shard in the database when it comes to its rows."""
        for start, stop in self._done.gaps(first, last):
            row = start
            while row <= stop:
                if row > self._to:
                    self._from, self._to = self._claim(row)
                if self._from > stop:
                    break
                row = max(row, self._from)
                end = min(stop, self._to)
                yield row, end
                row = end + 1

    def take_one(self, number: int) -> bool:
        """See `RowsToRead.take_one`; may claim a shard."""
        return next(self.take(number, number), None) is not None


class ShardSize:
    """How many rows a process claims at a time: about what it sends in a few seconds.

    At first as many as it has in flight; then by the pace at which it came for more, at most
    twice as many as before and never more than `most`. Moments are monotonic seconds.
    """

    def __init__(self, most: int, concurrency: int) -> None:
        self._most = most
        self._rows = min(most, max(concurrency, _LEAST_ROWS)) // 2
        self._claimed = 0.0
        self._since: float | None = None

    def next(self, now: float) -> int:
        """The rows of the shard that is claimed now."""
        since = self._since = now if self._since is None else self._since
        elapsed = now - since
        rows = min(2 * self._rows, self._most)
        if elapsed > 0:
            rows = min(rows, int(self._claimed / elapsed * _SHARD_SECONDS))
        self._rows = max(rows, min(_LEAST_ROWS, self._most))
        if elapsed > _PACE_SECONDS:  # half of what was claimed is as old as the rest
            self._since, self._claimed = since + elapsed / 2, self._claimed / 2
        self._claimed += self._rows
        return self._rows


class Together:
    """See `Division`: shards are claimed while inputs are read, those of the dead as they die.

    The reader does not run further ahead than it must, so that others find rows too.
    """

    def __init__(
        self, job: Job, services: Services, begun: BegunInvocation, writer: Writer
    ) -> None:
        self._job = job
        self._services = services
        self._begun = begun
        self._writer = writer
        self._me = begun.scope.invocation_id
        self._run_id = begun.scope.run_id
        most = shard_rows([estimated_rows(file) for file in services.files])
        self._shard_size = ShardSize(most, job.limits.concurrency)
        self._ends: list[Callable[[], None]] = []
        self._look_at = 0.0  # when to look for the dead again
        self._rows_read = 0
        self.reads_on = False
        self.rows_ahead = 2 * job.limits.concurrency
        self.all_ended = False
        self._finished = 0  # of the whole run, as of the last checkpoint

    @property
    def finished_rows(self) -> int:
        """See `Division.finished_rows`."""
        return self._rows_read if self.all_ended else self._finished

    # In the reader's thread

    def rows_of(self, source: PlannedSource) -> RowsToRead:
        """See `Division.rows_of`; what was taken over is claimed already."""
        if source.only is not None:
            return source.to_read()
        return ClaimedRows(source.done, lambda row: self._claim(source.source_id, row))

    def at_end(self, rows: int, tell: Callable[[], None]) -> None:
        """See `Division.at_end`: the others have not matched their rows yet."""
        self._rows_read += rows
        self._ends.append(tell)

    def left_by_the_dead(self, owner: Owner) -> Iterable[PlannedSource]:
        """See `Division.left_by_the_dead`: nobody's rows wait until all others have ended."""
        now = self._services.clock.monotonic()
        if now < self._look_at or self._job.limits.takes_no_rows:
            return ()
        self._look_at = now + _LOOK_FIRST_SECONDS
        return self._taken_over(owner)

    def left_by_others(
        self, owner: Owner, wait: Callable[[float], bool]
    ) -> Iterator[PlannedSource]:
        """See `Division.left_by_others`."""
        if self._job.limits.takes_no_rows:
            return
        while True:
            if owner.is_idle():
                self._finish()
                if taken := self._taken_over(owner):
                    yield from taken
                    continue
                if not self._others_work():
                    break
            if wait(_LOOK_SECONDS):
                return
        for tell in self._ends:
            tell()
        self.all_ended = True

    def _taken_over(self, owner: Owner) -> Sequence[PlannedSource]:
        taken = self._writer.call(self._take_over).result()
        if taken is None:
            return ()
        owner.taken_over(taken.history, taken.recovery.attempts)
        return taken.plan

    def _finish(self) -> None:
        """All rows of all shards of this process have ended."""
        self._writer.call(
            lambda connection: sharing.finish_shards(connection, self._me)
        ).result()

    def _others_work(self) -> bool:
        """Whether rows are left that are not ours."""
        return bool(
            self._writer.call(
                lambda connection: sharing.unfinished_shards(connection, self._run_id)
            ).result()
        )

    def _claim(self, source_id: int, row: int) -> tuple[int, int]:
        rows = self._shard_size.next(self._services.clock.monotonic())
        claimed = self._writer.call(
            lambda connection: sharing.claim_shard(
                connection,
                source_id,
                least=row,
                rows=rows,
                invocation_id=self._me,
            )
        ).result()
        return claimed.first_row, claimed.last_row

    # In the writer's thread

    def lock(self, connection: Connection) -> None:
        """See `Division.lock`; nobody else plans or takes over rows either."""
        sharing.lock_run(connection, self._run_id)

    def save_done(self, connection: Connection, ranges: Mapping[int, str]) -> None:
        """See `Division.save_done`: they are added to what all have done."""
        self.lock(connection)
        merged = {}
        finished = 0
        for source in self._begun.plan:
            done = RowRanges.from_json(runs.done_ranges(connection, source.source_id))
            if source.source_id in ranges:
                done.update(RowRanges.from_json(ranges[source.source_id]))
                merged[source.source_id] = done.to_json()
            finished += len(done)
        runs.save_done_ranges(connection, merged)
        self._finished = finished

    def is_last(self, connection: Connection) -> bool:
        """See `Division.is_last`."""
        self.lock(connection)
        return not sharing.living_invocations(connection, self._job.key) - {self._me}

    def _take_over(self, connection: Connection) -> _TakenOver | None:
        if not self._orphans(connection, sharing.living_invocations(connection, self._job.key)):
            return None
        self.lock(connection)
        living = sharing.living_invocations(connection, self._job.key) | {self._me}
        orphans = self._orphans(connection, living)
        if not orphans:
            return None
        recovery, history = self._recover(connection, living)
        done = {
            source.source_id: RowRanges.from_json(
                runs.done_ranges(connection, source.source_id)
            )
            for source in self._begun.plan
        }
        over = [s for s in orphans if done[s.source_id].covers(s.first_row, s.last_row)]
        left = [shard for shard in orphans if shard not in over][:_TAKEN_AT_ONCE]
        sharing.take_shards(connection, over, invocation_id=self._me, done=True)
        sharing.take_shards(connection, left, invocation_id=self._me, done=False)
        return _TakenOver(_plan(self._begun.plan, left, done), history, recovery)

    def _orphans(self, connection: Connection, living: set[int]) -> list[sharing.Shard]:
        mine = {source.source_id for source in self._begun.plan}
        return [
            shard
            for shard in sharing.unfinished_shards(connection, self._run_id)
            if shard.invocation_id not in living | {self._me} and shard.source_id in mine
        ]

    def _recover(
        self, connection: Connection, living: set[int]
    ) -> tuple[runs.Recovery, BegunRequests]:
        """What `begin` does after a crash, for those who died since."""
        now = self._services.clock.now_us()
        recovery = runs.recover(
            connection,
            invocation_id=self._me,
            run_id=self._run_id,
            now_us=now,
            living=living,
        )
        plan = [replace(source, done=RowRanges()) for source in self._begun.plan]
        by_id = {source.source_id: source.done for source in plan}
        settled = resume.settled_since_checkpoint(connection, self._run_id, living)
        for source_id, row_number in settled:
            if source_id in by_id:
                by_id[source_id].add(row_number)
        history = begun_requests(connection, self._begun.scope, plan, self._job, now, living)
        self.save_done(connection, {key: done.to_json() for key, done in by_id.items()})
        runs.supersede_checkpoints(connection, self._run_id, self._me, living)
        for cap, _ in self._begun.caps:
            budget.count_anew(
                connection, cap.scope, cap=cap.cap, invocation_id=self._me, living=living
            )
        return recovery, history

    # In the event loop's thread

    def total_rows(self, told: int) -> int | None:  # noqa: ARG002 - the others were told of some
        """See `Division.total_rows`."""
        return self._rows_read if self.all_ended else None


def shard_rows(estimates: Sequence[int | None]) -> int:
    """How many rows a shard has at most; `estimates` are of the inputs, `None`: unknown."""
    known = sum(rows for rows in estimates if rows is not None)
    if None in estimates:
        return min(max(known // _SHARDS, _UNKNOWN_ROWS), _MOST_ROWS)
    return min(max(known // _SHARDS, _LEAST_ROWS), _MOST_ROWS)


def _plan(
    plan: Sequence[PlannedSource],
    taken: Sequence[sharing.Shard],
    done: Mapping[int, RowRanges],
) -> list[PlannedSource]:
    """The sources that hold taken rows, with nothing else to read of them."""
    sources = []
    for source in plan:
        only = RowRanges()
        for shard in taken:
            if shard.source_id == source.source_id:
                only.add_range(shard.first_row, shard.last_row)
        if only:
            sources.append(replace(source, done=done[source.source_id], only=only))
    return sources
