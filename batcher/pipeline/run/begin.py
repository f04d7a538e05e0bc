"""The first transactions of an invocation: recover, recognise what is done, plan the rest."""

import os
import socket
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from batcher import __version__
from batcher.errors import ChangedSettings, ConfigurationError, InputChanged
from batcher.ledger import resume, runs
from batcher.ledger.batches import store
from batcher.ledger.batches.store import StoredBatch
from batcher.ledger.connect import Connection, Engine, user_name, writing
from batcher.ledger.money.budget import (
    UsualAnswers,
    month_scope,
    open_scope,
    run_scope,
    usual_answers,
)
from batcher.ledger.money.estimates import CACHED
from batcher.ledger.owner import sharing
from batcher.ledger.owner.lock import NOTHING_HELD, Ownership
from batcher.ledger.write import records
from batcher.ledger.write.records import Claimable, Scope, SharePolicy, unfinished_rows
from batcher.messages.failure import FailureKind
from batcher.pipeline.batches.collecting import came_back, underway_of
from batcher.pipeline.engine.attempts import Cap
from batcher.pipeline.engine.known_rows import BegunRequests
from batcher.pipeline.engine.policies import TRUNCATED
from batcher.pipeline.job import FallbackServices, Job, Services
from batcher.pipeline.run.plan import (
    PlannedSource,
    begun_requests,
    plan_sources,
    resent_by_change,
    resent_by_round,
)
from batcher.rows.ranges import RowRanges


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchesOut:
    """The batches of the run that are not collected, and the rows that wait, by source."""

    batches: Sequence[StoredBatch]
    rows: Mapping[int, RowRanges]


@dataclass(frozen=True, slots=True, kw_only=True)
class BegunInvocation:
    """An invocation as the ledger knows it.

    `attempt_uids` is what the uids of its attempts begin with.
    `retrying` counts rows that failed for a while, `quarantined` those of the same inputs that
    earlier invocations refused. `claimable` are the run's own answers that may move to other
    rows, `sharing` those of other runs that its rows may have, `repeating` its own that rows
    have which ask the same; `None`: none. `usual` is what a
    guard compares with. `out` is what waits for batches, `written` what those that came back
    wrote to their prompt cache: see `prefixes_written`.
    """

    scope: Scope
    database_uid: str
    attempt_uids: str
    plan: Sequence[PlannedSource]
    history: BegunRequests
    recovery: runs.Recovery
    retrying: int
    caps: Sequence[tuple[Cap, int]]
    claimable: Claimable
    out: BatchesOut
    sharing: SharePolicy | None = None
    repeating: SharePolicy | None = None
    quarantined: int = 0
    usual: UsualAnswers | None = None
    held: Ownership = NOTHING_HELD
    fallbacks: Sequence[int] = ()
    written: Mapping[int, int | None] = field(default_factory=dict)


def begin(
    database: Engine, job: Job, services: Services, held: Ownership = NOTHING_HELD
) -> BegunInvocation:
    """Record the invocation and find out what is to do.

    Raises `ChangedSettings` when answered rows would be paid again and nobody agreed.
    """
    now = services.clock.now_us()
    with writing(database) as connection:
        run_id = runs.open_run(connection, job.key, job.name, now)
        _check_change(connection, run_id, job, services)
    with writing(database) as connection:
        held.fence(connection)
        living = join_others(connection, run_id, job, services) if job.join else frozenset()
        begun = _begin(connection, run_id, job, services, living)
        held.bind(connection, begun.scope.invocation_id)
        return replace(begun, held=held)


def _check_change(connection: Connection, run_id: int, job: Job, services: Services) -> None:
    if job.again and store.has_batches_out(connection, run_id):
        raise ConfigurationError(
            "--again: rows of this run are in batches; collect them by the same command"
            " without --again, or end them with --cancel"
        )
    if job.again and not runs.round_is_under_way(connection, run_id):
        _ask_for_round(connection, run_id, job, services)
        return
    before, parts = runs.last_settings(connection, run_id)
    if before in {None, job.settings.digest()} or job.accept_change:
        return
    resent = resent_by_change(connection, run_id, job, services)
    resent = replace(resent, changes=job.settings.changes(parts))
    if resent.rows and not services.observer.confirm_resend(resent):
        raise ChangedSettings(
            f"the settings of this job changed{resent.changes}, so {resent.rows:,} answered "
            "rows would be sent and paid again; nothing was sent: type the same command with "
            "--accept-change to do that, or restore the settings"
        )


def _ask_for_round(connection: Connection, run_id: int, job: Job, services: Services) -> None:
    sharing = job.sharing(run_id, 0, runs.current_round(connection, run_id))
    resent = resent_by_round(connection, run_id, job, services, sharing)
    if resent.rows and not services.observer.confirm_resend(resent):
        raise ConfigurationError(
            f"--again would send and pay {resent.rows:,} answered rows again; nothing was sent:"
            " type the same command with --yes to do that"
        )


def _begin(
    connection: Connection, run_id: int, job: Job, services: Services, living: frozenset[int]
) -> BegunInvocation:
    now = services.clock.now_us()
    digest = job.settings.digest()
    uid = runs.database_uid(connection)
    start = replace(
        _start(job, services, digest, now), key_fingerprint=_fingerprint(services, uid)
    )
    invocation_id = runs.start_invocation(connection, run_id, start)
    recovery = runs.recover(
        connection,
        invocation_id=invocation_id,
        # A SQLite file has one owner, so everybody else in it is dead.
        run_id=None if connection.dialect.name == "sqlite" else run_id,
        now_us=now,
        living=living,
    )
    if job.again and not runs.round_is_under_way(connection, run_id):
        runs.begin_round(connection, run_id, invocation_id)
    retrying = 0 if living else records.forget_transient_failures(connection, run_id)
    since = runs.current_round(connection, run_id)
    sharing = job.sharing(run_id, invocation_id, since)
    shared = sharing is not None and resume.others_answered(connection, sharing)
    plan = plan_sources(connection, run_id, services.files, digest, living, sharing=shared)
    if job.cancel:
        plan = [replace(source, only=RowRanges()) for source in plan]
    elif services.chosen is not None:
        plan = [replace(s, only=services.chosen.get(s.file.name, RowRanges())) for s in plan]
    book_id, rating_id = records.open_rating(connection, services.rater.book, now)
    scope = Scope(
        run_id=run_id,
        invocation_id=invocation_id,
        lane=job.lane.value,
        in_batches=job.lane.packs,
        rating_id=rating_id,
        price_book_id=book_id,
    )
    history = begun_requests(connection, scope, plan, job, now, living)
    out = _batches_out(connection, scope, plan, job, history)
    runs.supersede_checkpoints(connection, run_id, invocation_id, living)
    runs.save_done_ranges(connection, {s.source_id: s.done.to_json() for s in plan})
    fallbacks = _begin_fallbacks(connection, scope, start, services)
    return BegunInvocation(
        scope=scope,
        database_uid=uid,
        attempt_uids=runs.attempt_uids(connection, invocation_id) or "",
        plan=plan,
        history=history,
        recovery=recovery,
        retrying=retrying,
        caps=[
            _open_cap(connection, cap, invocation_id, living) for cap in _caps(job, run_id, now)
        ],
        claimable=Claimable(
            run_id=run_id, live_sources=_live(connection, run_id, job, plan), since=since
        ),
        out=out,
        sharing=sharing,
        repeating=job.repeating(run_id, invocation_id, since),
        quarantined=_quarantined(connection, plan),
        fallbacks=fallbacks,
        usual=_usual(connection, run_id, job, {invocation_id, *living}),
        written=records.prefixes_written(connection, run_id, now)
        if job.limits.cached and job.lane.packs
        else {},
    )


def _usual(
    connection: Connection, run_id: int, job: Job, besides: Collection[int]
) -> UsualAnswers | None:
    """What a guard compares with; looked up for a guard only."""
    if job.guard is None:
        return None
    return usual_answers(
        connection,
        run_id,
        settings_digest=job.settings.digest(),
        besides=besides,
        least=job.guard.rows,
        truncated=TRUNCATED,
    )


def _live(
    connection: Connection, run_id: int, job: Job, plan: Sequence[PlannedSource]
) -> list[int]:
    """The sources whose answers stay theirs: of this invocation, and of other days."""
    names = {source.name for source in plan}
    others = records.sources_besides(connection, run_id, names) if job.dated else ()
    return [*(source.source_id for source in plan), *others]


def _begin_fallbacks(
    connection: Connection, scope: Scope, start: runs.InvocationStart, services: Services
) -> list[int]:
    """A line for each endpoint that the run may fall back to, with its name and prices."""
    found = []
    for each in services.fallbacks:
        endpoint = each.fallback.endpoint
        line = replace(
            start,
            endpoint=endpoint.name,
            base_url=endpoint.shown_url,
            simulated=endpoint.simulated,
            price_list=each.rater.price_list,
            fallback_of=scope.invocation_id,
            key_fingerprint=_fingerprint(each, runs.database_uid(connection)),
        )
        found.append(runs.start_invocation(connection, scope.run_id, line))
    return found


def _batches_out(
    connection: Connection,
    scope: Scope,
    plan: Sequence[PlannedSource],
    job: Job,
    history: BegunRequests,
) -> BatchesOut:
    """What waits for batches; rows that may have moved since are found by their identity."""
    batches = store.batches_out(connection, scope.run_id)
    rows: dict[int, RowRanges] = {}
    for batch in batches:
        _check_endpoint(connection, batch, job)
    for source_id, row_number in store.rows_out(connection, scope.run_id):
        rows.setdefault(source_id, RowRanges()).add(row_number)
    here = {source.source_id for source in plan}
    for batch in batches if rows.keys() - here else ():
        for out, entry, answers in came_back(connection, scope.run_id, batch.number):
            if out.source_id not in here:
                history.add(entry, answers, underway_of(out, scope.invocation_id))
    return BatchesOut(batches=batches, rows=rows)


def _check_endpoint(connection: Connection, batch: StoredBatch, job: Job) -> None:
    name, base_url = store.endpoint_of(connection, batch.number)
    if name == job.endpoint.name and base_url in job.endpoint.spellings:
        return
    raise ConfigurationError(
        f"rows of this run are in batches at endpoint {name} ({base_url}): collect them there"
        " first, or end them with --cancel"
    )


def _fingerprint(endpoint: Services | FallbackServices, database_uid: str) -> str | None:
    return None if endpoint.fingerprint is None else endpoint.fingerprint(database_uid)


def _quarantined(connection: Connection, plan: Sequence[PlannedSource]) -> int:
    counts = unfinished_rows(connection, {source.source_id for source in plan})
    return counts.get(FailureKind.QUARANTINED, 0)


def _caps(job: Job, run_id: int, now: int) -> Iterator[Cap]:
    """The caps that bind this invocation: of the run, and of the month at its start."""
    if job.limits.max_cost is not None:
        yield Cap(scope=run_scope(run_id), cap=job.limits.max_cost, words="--max-cost")
    if job.limits.max_cost_month is not None:
        words = "the month's max_cost_month"
        yield Cap(scope=month_scope(now), cap=job.limits.max_cost_month, words=words)


def _open_cap(
    connection: Connection, cap: Cap, invocation_id: int, living: frozenset[int]
) -> tuple[Cap, int]:
    state = open_scope(
        connection, cap.scope, cap=cap.cap, invocation_id=invocation_id, living=living
    )
    return cap, state.settled


def _start(job: Job, services: Services, digest: str, now: int) -> runs.InvocationStart:
    limits = job.limits
    pilot = None if services.chosen is None else sum(map(len, services.chosen.values()))
    return runs.InvocationStart(
        started_at=now,
        host=socket.gethostname(),
        pid=os.getpid(),
        os_user=user_name(),
        version=__version__,
        command=job.command,
        endpoint=job.endpoint.name,
        base_url=job.endpoint.shown_url,
        lane=job.lane.value,
        simulated=job.endpoint.simulated,
        price_list=services.rater.price_list,
        settings_digest=digest,
        token=services.clock.token(),
        options={
            "concurrency": limits.concurrency,
            "limit": limits.row_limit,
            "pilot": pilot,
            "max_runtime_seconds": limits.max_runtime_seconds,
            "on_unknown": job.on_unknown.value,
            "store": job.store.value,
            "inputs": list(job.inputs),
            "settings": job.settings.parts(),
            **({"again": True} if job.again else {}),
            **({CACHED: True} if limits.cached else {}),
            **({runs.COMMAND_UID: job.command_uid} if job.command_uid else {}),
            **({"deadline_us": job.deadline.at_us} if job.deadline else {}),
        },
        tags=dict(job.tags),
    )


def join_others(
    connection: Connection, run_id: int, job: Job, services: Services
) -> frozenset[int]:
    """The invocations that do the run at present; nobody else joins until the commit.

    Where there is none, what earlier ones had shared out is forgotten.

    Raises:
        ChangedSettings: they work with other settings.
        InputChanged: they read other inputs.
    """
    sharing.lock_run(connection, run_id)
    living = frozenset(sharing.living_invocations(connection, job.key))
    if not living:
        sharing.forget_shards(connection, run_id)
        sharing.forget_members(connection, job.key)
        return living
    theirs, parts = runs.last_settings(connection, run_id)
    if theirs != job.settings.digest():
        raise ChangedSettings(
            "other processes do this run with other settings"
            f"{job.settings.changes(parts)}; use theirs, or wait until they have ended"
        )
    known = runs.latest_sources(connection, run_id)
    for file in services.files:
        stored = known.get(runs.name_of(known, file.name, file.location))
        if stored is None or stored.fingerprint != file.fingerprint():
            raise InputChanged(
                f"{file.name}: is not the file that the other processes of this run read (size,"
                " time of change or content differ); wait until they have ended, or copy theirs"
                " with its time of change"
            )
    return living
