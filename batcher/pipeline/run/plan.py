"""Before anything is sent: what earlier invocations left, and what is therefore to do."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain

from batcher.errors import StorageError
from batcher.ledger import resume, runs
from batcher.ledger.batches.store import rows_settled
from batcher.ledger.connect import Connection
from batcher.ledger.resume import MATCH_BYTES, MATCH_ROWS, count_unclaimed_but_answered
from batcher.ledger.write.records import Claimable, RowFailure, Scope, SharePolicy, has_failure
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import Request
from batcher.pipeline.choices import OnUnknown
from batcher.pipeline.engine.decide import ABORTED, given_up_in_doubt
from batcher.pipeline.engine.known_rows import BegunRequests
from batcher.pipeline.job import Job, Services
from batcher.pipeline.progress import Resent
from batcher.pipeline.run.row_checks import may_take_legs
from batcher.rows.batch import Reason, body_bytes
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.ranges import AllBut, RowRanges
from batcher.rows.read.reader import read_rows
from batcher.rows.read.source import SourceFile


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedSource:
    """One input with what is known of it: `done` rows are skipped unread.

    `name` is what the run has called it since it first came. `matching`: rows may claim answers
    of older snapshots, so each is looked up by identity; `sharing`: those of other runs too.
    `only` are the rows that a pilot sends; `None`: all of them. `fingerprint` is that of the
    file when the run began; empty: nobody looks whether it changes.
    """

    file: SourceFile
    name: str
    source_id: int
    matching: bool
    sharing: bool = False
    done: RowRanges = field(default_factory=RowRanges)
    only: RowRanges | None = None
    fingerprint: str = ""

    @property
    def is_looked_up(self) -> bool:
        """Whether its rows may have an answer already."""
        return self.matching or self.sharing

    def to_read(self) -> AllBut:
        """The rows that are still to do, for their only reader."""
        others = None if self.only is None else self.only.complement()
        return AllBut(self.done if others is None else self.done.union(others))

    def has_changed(self) -> bool:
        """Whether the file is another one by now, or gone."""
        try:
            return self.fingerprint not in {"", self.file.fingerprint()}
        except StorageError:
            return True


def plan_sources(
    connection: Connection,
    run_id: int,
    files: Sequence[SourceFile],
    settings_digest: str,
    living: Collection[int] = (),
    *,
    sharing: bool = False,
) -> list[PlannedSource]:
    """Each input with what is done of it; new snapshots are recorded.

    An unchanged input is skipped by its done ranges. A new or changed one is matched by
    identity whenever the run has results that its rows could claim. With `sharing` there are
    results of other runs too.
    """
    known = runs.latest_sources(connection, run_id)
    planned = [
        replace(_plan(connection, run_id, file, known, settings_digest), sharing=sharing)
        for file in files
    ]
    by_id = {source.source_id: source.done for source in planned}
    names = {source.name for source in planned}
    elsewhere = {  # inputs that are not part of this invocation
        stored.source_id: stored.done_ranges
        for name, stored in known.items()
        if name not in names
    }
    away: dict[int, RowRanges] = {}  # those of them that a dead process left unsaved
    settled = chain(
        resume.settled_since_checkpoint(connection, run_id, living),
        rows_settled(connection, run_id),
    )
    for source_id, row_number in settled:
        if source_id in elsewhere and source_id not in away:
            away[source_id] = RowRanges.from_json(elsewhere[source_id])
        done = by_id.get(source_id, away.get(source_id))
        if done is not None:  # else of an older snapshot, whose rows are looked for anew
            done.add(row_number)
    runs.save_done_ranges(connection, {key: done.to_json() for key, done in away.items()})
    return planned


def _plan(
    connection: Connection,
    run_id: int,
    file: SourceFile,
    known: Mapping[str, runs.StoredSource],
    settings_digest: str,
) -> PlannedSource:
    seen = file.fingerprint()
    name = known_name(known, file)
    stored, fresh = known.get(name), not known
    if stored and stored.fingerprint == seen and stored.settings_digest == settings_digest:
        done = RowRanges.from_json(stored.done_ranges)
        if not stored.matched:  # killed while matching: what moved here already is done
            for row_number in resume.finished_rows_of(connection, stored.source_id):
                done.add(row_number)
        return PlannedSource(
            file=file,
            name=name,
            source_id=stored.source_id,
            matching=not stored.matched,
            done=done,
            fingerprint=seen,
        )
    new = runs.NewSource(
        name=name,
        location=file.location,
        fingerprint=seen,
        settings_digest=settings_digest,
        matched=fresh,
    )
    if stored is not None:
        runs.set_aside(connection, run_id, name)
    source_id = runs.add_source(connection, run_id, new)
    return PlannedSource(
        file=file, name=name, source_id=source_id, matching=not fresh, fingerprint=seen
    )


def known_name(known: Mapping[str, runs.StoredSource], file: SourceFile) -> str:
    """What the run calls this file, by its place: it may be typed in other ways."""
    return runs.name_of(known, file.name, file.location)


def begun_requests(
    connection: Connection,
    scope: Scope,
    plan: Sequence[PlannedSource],
    job: Job,
    now_us: int,
    living: Collection[int] = (),
) -> BegunRequests:
    """Requests of the run that were sent and not finished, with their answered legs.

    Those in doubt that the job, or too many doubts, keep from being sent again are
    recorded as failures; their rows are done. Those of the `living` are not looked at.
    """
    done = {source.source_id: source.done for source in plan}
    earlier = resume.earlier_answers(connection, scope.run_id)
    history = BegunRequests(done.keys())
    for entry in resume.unfinished(connection, scope.run_id, living):
        failure = _given_up(entry, job.on_unknown)
        if failure is None:
            history.add(entry, earlier.get(entry.request_id, ()))
            continue
        invocation = (scope.run_id, scope.invocation_id)
        resume.give_up(
            connection, entry, failure, invocation=invocation, store=job.store, now_us=now_us
        )
        if entry.source_id in done:
            done[entry.source_id].add(entry.row_number)
    return history


def _given_up(entry: resume.Unfinished, on_unknown: OnUnknown) -> RowFailure | None:
    if entry.doubt is None:
        return None
    error_type, message = entry.doubt
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type=error_type, message=message)
    # An invocation that saw how its last attempt ended has judged the row: doubts of an outage
    # park none. What died under way, nobody has judged.
    doubts = entry.doubts if error_type in {runs.DIED, ABORTED} else 0
    return given_up_in_doubt(doubts, failure, on_unknown)


# Of these requests, from a source (`None`: a new one), those that are answered.
_Answered = Callable[[int | None, list[Request]], list[Request]]


def resent_by_change(
    connection: Connection, run_id: int, job: Job, services: Services
) -> Resent:
    """How many answered rows the present settings would send again, and at most for how much.

    That is with all attempts and legs of a row. Reads every input once and sends nothing.
    """
    since = runs.current_round(connection, run_id)
    among = Claimable(run_id=run_id, live_sources=(), since=since)
    keys = resume.read_answer_keys(connection)

    def answered(source_id: int | None, requests: list[Request]) -> list[Request]:
        return count_unclaimed_but_answered(connection, among, source_id, requests, keys)

    known = runs.latest_sources(connection, run_id)
    return _resent(known, job, services, answered, again=False)


def resent_by_round(
    connection: Connection,
    run_id: int,
    job: Job,
    services: Services,
    sharing: SharePolicy | None,
) -> Resent:
    """What a new round would send of that which has an answer, like `resent_by_change`."""
    since = runs.current_round(connection, run_id)
    among = Claimable(run_id=run_id, live_sources=(), since=since)
    used, shared = set[tuple[str, int]](), set[int]()
    keys = resume.read_answer_keys(connection)

    def answered(source_id: int | None, requests: list[Request]) -> list[Request]:
        changed = count_unclaimed_but_answered(connection, among, source_id, requests, keys)
        rows = {request.row_number for request in changed}
        rows |= resume.claimable(connection, among, requests, used, keys)
        if sharing is not None:
            rows |= resume.rows_to_share(connection, sharing, requests, shared, keys)
        return [request for request in requests if request.row_number in rows]

    known = runs.latest_sources(connection, run_id)
    return _resent(known, job, services, answered, again=True)


def _resent(
    known: Mapping[str, runs.StoredSource],
    job: Job,
    services: Services,
    answered: _Answered,
    *,
    again: bool,
) -> Resent:
    rows = ceiling = in_legs = 0
    now_us = services.clock.now_us()
    unbounded = False
    for file in services.files:
        stored = known.get(known_name(known, file))
        for requests in _requests(file, services.builder):
            found = answered(stored.source_id if stored else None, requests)
            rows += len(found)
            for request in found:
                bound = services.rater.ceiling(request, now_us)
                unbounded |= bound is None
                ceiling += bound or 0
                in_legs += (bound or 0) if may_take_legs(request.body) else 0
    most = None if unbounded else job.most(ceiling, in_legs)
    return Resent(rows=rows, cost_high=most, again=again)


def _requests(file: SourceFile, builder: RequestBuilder) -> Iterator[list[Request]]:
    """All requests of a file, in chunks of about `MATCH_ROWS`."""
    chunk: list[Request] = []
    size = 0
    for batch in read_rows(file, source_id=0, builder=builder, rows=AllBut(RowRanges())):
        chunk += [item for item in batch.items if isinstance(item, Request)]
        size += body_bytes(batch.items)
        if len(chunk) >= MATCH_ROWS or size >= MATCH_BYTES:
            yield chunk
            chunk, size = [], 0
    yield chunk


def note_read(connection: Connection, run_id: int, source: PlannedSource, rows: int) -> None:
    """A source of so many rows was read to its end; one that was cut short is not noted."""
    if has_failure(connection, source.source_id, Reason.TRUNCATED_FILE):
        return  # its rows say nothing against those of an older, whole file
    runs.source_read(
        connection, run_id=run_id, source_id=source.source_id, name=source.name, rows=rows
    )
