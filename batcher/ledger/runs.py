"""Runs, their invocations, the snapshots of their inputs, and rows that got no answer."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
from sqlalchemy import Connection, and_, delete, func, literal_column, select, update

from batcher.ledger.batches.store import recover_unpacked
from batcher.ledger.schema import attempts, failures, invocations, process_id, runs, sources
from batcher.ledger.schema_internal import ledger_info
from batcher.ledger.write.statements import insert_into
from batcher.messages.request import attempt_id_of
from batcher.outputs import is_url

_DRAWN, COMMAND_UID = "token", "command_uid"  # options; the second is all of one command's
_BY_A_ROUND: Final = 0  # what supersedes the sources of earlier rounds
DIED: Final = "process_died"  # the error type of attempts whose process ended under way


@dataclass(frozen=True, slots=True, kw_only=True)
class InvocationStart:
    """What is known of a process of a run when it starts; never a key.

    `token` is drawn by chance, so that no attempt's uid comes again when a backup of the ledger
    is put back, or a copy of it is worked with. `key_fingerprint` is a salted hash.
    """

    started_at: int
    host: str
    pid: int
    os_user: str
    version: str
    command: str
    endpoint: str
    base_url: str
    lane: str
    simulated: bool
    price_list: str | None = None
    settings_digest: str
    token: str
    options: dict[str, object]
    tags: dict[str, str]
    fallback_of: int | None = None
    key_fingerprint: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSource:
    """One snapshot of an input, as the ledger has it. `done_ranges` is JSON."""

    source_id: int
    name: str
    location: str
    fingerprint: str
    settings_digest: str
    matched: bool
    rows: int | None
    done_ranges: str


def database_uid(connection: Connection) -> str:
    """The random name of this database, first part of every attempt uid."""
    query = select(ledger_info.c.value).where(ledger_info.c.name == "database_uid")
    return str(connection.execute(query).scalar_one())


def open_run(connection: Connection, key: str, job: str | None, now_us: int) -> int:
    """The run of this key, made when new; its run_id."""
    query = select(runs.c.run_id).where(runs.c.key == key)
    found = connection.execute(query).scalar()
    if found is not None:
        return int(found)
    values = {"key": key, "job": job, "created_at": now_us}
    new = insert_into(runs, connection.dialect).values(values)
    connection.execute(new.on_conflict_do_nothing())
    return int(connection.execute(query).scalar_one())


def current_round(connection: Connection, run_id: int) -> int:
    """The invocation that began the run's present round, 0 for the first."""
    query = select(runs.c.round).where(runs.c.run_id == run_id)
    return int(connection.execute(query).scalar_one())


def begin_round(connection: Connection, run_id: int, invocation_id: int) -> None:
    """From now on every row of the run is to do again; what earlier rounds got stays theirs."""
    mine = sources.c.run_id == run_id
    older = select(sources.c.source_id).where(mine)
    connection.execute(update(runs).where(runs.c.run_id == run_id).values(round=invocation_id))
    connection.execute(delete(failures).where(failures.c.source_id.in_(older)))
    connection.execute(
        update(attempts)
        .where(attempts.c.pending == literal_column("1"), attempts.c.source_id.in_(older))
        .values(pending=0)
    )
    connection.execute(
        update(sources)
        .where(mine, sources.c.superseded_by.is_(None))
        .values(superseded_by=_BY_A_ROUND, done_ranges="[]")
    )


def round_is_under_way(connection: Connection, run_id: int) -> bool:
    """Whether rows are left of a round that is not the first."""
    inputs = latest_sources(connection, run_id).values()
    ranges = ((each.rows, msgspec.json.decode(each.done_ranges)) for each in inputs)
    left = any(
        rows is None or sum(last - first + 1 for first, last in done) < rows
        for rows, done in ranges
    )
    return left and current_round(connection, run_id) > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRun:
    """A run and the command that continues it, as last typed."""

    run_id: int
    key: str
    command: str


def find_run(connection: Connection, run_id: int | None) -> StoredRun | None:
    """The run of that number, or the only one; `None` when there is no such one."""
    latest = (
        select(invocations.c.command)
        .where(invocations.c.run_id == runs.c.run_id)
        .order_by(invocations.c.invocation_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = select(runs.c.run_id, runs.c.key, latest)
    if run_id is not None:
        query = query.where(runs.c.run_id == run_id)
    found = connection.execute(query.limit(2)).all()
    if len(found) != 1:
        return None
    number, key, command = found[0]
    return StoredRun(run_id=number, key=key, command=command or "")


def start_invocation(connection: Connection, run_id: int, start: InvocationStart) -> int:
    """Record that a process of the run begins; its invocation_id."""
    values = {
        name: getattr(start, name)
        for name in (
            "started_at", "host", "pid", "os_user", "version", "command", "endpoint", "lane",
            "base_url", "price_list", "settings_digest", "fallback_of", "key_fingerprint",
        )
    }  # fmt: skip
    values |= {
        "run_id": run_id,
        "simulated": int(start.simulated),
        "options": msgspec.json.encode(start.options | {_DRAWN: start.token}).decode(),
        "tags": msgspec.json.encode(start.tags).decode(),
    }
    statement = invocations.insert().values(values).returning(invocations.c.invocation_id)
    return int(connection.execute(statement).scalar_one())


def attempt_uids(connection: Connection, invocation_id: int) -> str | None:
    """What the uids of the invocation's attempts begin with; `None`: it is not known here."""
    mine = invocations.c.invocation_id == invocation_id
    options = connection.execute(select(invocations.c.options).where(mine)).scalar()
    if options is None:
        return None
    token = msgspec.json.decode(options).get(_DRAWN, "")
    return f"{database_uid(connection)}-{invocation_id:x}-{token}-"


def end_invocation(
    connection: Connection, invocation_id: int, *, ended_at: int, exit_code: int
) -> None:
    """Record how the process ended."""
    connection.execute(
        update(invocations)
        .where(process_id == invocation_id)
        .values(ended_at=ended_at, exit_code=exit_code)
    )


def last_settings(connection: Connection, run_id: int) -> tuple[str | None, dict[str, str]]:
    """Digest and parts of the job settings of the run's latest invocation; none: no such."""
    query = select(invocations.c.settings_digest, invocations.c.options)
    newest = query.where(invocations.c.run_id == run_id).order_by(
        invocations.c.invocation_id.desc()
    )
    row = connection.execute(newest.limit(1)).first()
    if row is None:
        return None, {}
    return row.settings_digest, msgspec.json.decode(row.options).get("settings", {})


def latest_sources(connection: Connection, run_id: int) -> dict[str, StoredSource]:
    """The newest snapshot of every input of the run's present round, by name."""
    newest = (
        select(func.max(sources.c.source_id))
        .where(sources.c.run_id == run_id, sources.c.superseded_by.is_(None))
        .group_by(sources.c.name)
    )
    query = select(sources).where(sources.c.source_id.in_(newest))
    return {
        row.name: StoredSource(
            source_id=row.source_id,
            name=row.name,
            location=row.location,
            fingerprint=row.fingerprint,
            settings_digest=row.settings_digest,
            matched=bool(row.matched),
            rows=row.rows,
            done_ranges=row.done_ranges,
        )
        for row in connection.execute(query)
    }


def input_files(connection: Connection) -> tuple[Path, ...]:
    """The files that any run has read, as they were called then."""
    return tuple(Path(each) for each in _locations(connection) if not is_url(each))


def stored_inputs(connection: Connection) -> tuple[str, ...]:
    """The addresses of the objects in stores that any run has read."""
    return tuple(each for each in _locations(connection) if is_url(each))


def _locations(connection: Connection) -> Iterable[str]:
    return connection.scalars(select(sources.c.location).distinct())


def name_of(known: Mapping[str, StoredSource], name: str, location: str) -> str:
    """What the run calls the input at `location`, which may be typed as `name` today."""
    if name not in known or known[name].location != location:
        for stored in known.values():
            if stored.location == location:
                return stored.name
    return name


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSource:
    """A snapshot of an input, seen for the first time."""

    name: str
    location: str
    fingerprint: str
    settings_digest: str
    matched: bool


def add_source(connection: Connection, run_id: int, source: NewSource) -> int:
    """Record a new snapshot of an input; its source_id."""
    values = {
        "run_id": run_id, "name": source.name, "location": source.location,
        "fingerprint": source.fingerprint, "settings_digest": source.settings_digest,
        "matched": int(source.matched),
    }  # fmt: skip
    statement = sources.insert().values(values).returning(sources.c.source_id)
    return int(connection.execute(statement).scalar_one())


def source_read(
    connection: Connection, *, run_id: int, source_id: int, name: str, rows: int
) -> None:
    """The input was read to its end: older snapshots of it have nothing left to give.

    Their failures are dropped, since every row of the newer snapshot was judged anew.
    """
    older = (
        (sources.c.run_id == run_id)
        & (sources.c.name == name)
        & (sources.c.source_id < source_id)
        & sources.c.superseded_by.is_(None)
    )
    connection.execute(
        update(sources).where(sources.c.source_id == source_id).values(rows=rows, matched=1)
    )
    stale = select(sources.c.source_id).where(older)
    connection.execute(delete(failures).where(failures.c.source_id.in_(stale)))
    connection.execute(update(sources).where(older).values(superseded_by=source_id))


def set_aside(connection: Connection, run_id: int, name: str) -> None:
    """A new snapshot of the input is about to be read: its rows are judged anew.

    What was quarantined in older ones is dropped, or a row that is still bad would be listed
    twice until the new one was read to its end. Failed and held rows stay: they are claimed.
    Nor do older ones call a row done any more: its answer moves to where the row is now.
    """
    older = select(sources.c.source_id).where(
        sources.c.run_id == run_id, sources.c.name == name, sources.c.superseded_by.is_(None)
    )
    connection.execute(
        delete(failures).where(
            failures.c.source_id.in_(older), failures.c.kind == "quarantined"
        )
    )
    connection.execute(
        update(sources).where(sources.c.source_id.in_(older)).values(done_ranges="[]")
    )


def checkpoint(
    connection: Connection, invocation_id: int, *, settled_below: int, clean: bool
) -> None:
    """Say up to where the done ranges are complete; see `schema.invocations`."""
    # The endpoints that it falls back to count their attempts together with it.
    further = attempt_id_of(1, 0) * (invocations.c.invocation_id - invocation_id)
    connection.execute(
        update(invocations)
        .where(process_id == invocation_id)
        .values(settled_below=settled_below + further, clean=int(clean))
    )


def supersede_checkpoints(
    connection: Connection, run_id: int, invocation_id: int, living: Collection[int] = ()
) -> None:
    """What dead invocations left behind is in the done ranges now: need not be looked for."""
    connection.execute(
        update(invocations)
        .where(
            invocations.c.run_id == run_id,
            process_id != invocation_id,
            process_id.not_in(living),
        )
        .values(clean=1)
    )


def done_ranges(connection: Connection, source_id: int) -> str:
    """Which rows of a source need nothing more, as JSON ranges."""
    query = select(sources.c.done_ranges).where(sources.c.source_id == source_id)
    return str(connection.execute(query).scalar_one())


def save_done_ranges(connection: Connection, done_ranges: Mapping[int, str]) -> None:
    """Remember which rows need nothing more: JSON ranges by source_id."""
    for source_id, text in done_ranges.items():
        connection.execute(
            update(sources).where(sources.c.source_id == source_id).values(done_ranges=text)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovery:
    """Attempts that were open when their process died: they may have been billed.

    Together between 0 and `cost_high` pico-USD, plus `unbounded` attempts without a bound.
    """

    attempts: int
    cost_high: int
    unbounded: int


def recover(
    connection: Connection,
    *,
    invocation_id: int,
    run_id: int | None,
    now_us: int,
    living: Collection[int] = (),
) -> Recovery:
    """Settle every open attempt of a dead process as `unknown`, and say what that may cost.

    What is in a batch is left alone; what waited to be packed has not left.
    The caller holds the database (`run_id` `None`: all runs of it) or the run, so every other
    invocation in that scope is dead, but for the `living` who do the run with it.
    """
    dead = select(invocations.c.invocation_id).where(
        process_id != invocation_id,
        process_id.not_in(living),
        *([] if run_id is None else [invocations.c.run_id == run_id]),
    )
    orphaned = and_(
        attempts.c.pending == 1, attempts.c.state == "open", attempts.c.invocation_id.in_(dead)
    )
    recover_unpacked(connection, orphaned, now_us)
    orphaned = and_(orphaned, attempts.c.batch_number.is_(None))
    query = select(
        func.count(),
        func.coalesce(func.sum(attempts.c.cost_high), 0),
        func.count().filter(attempts.c.cost_high.is_(None)),
    ).where(orphaned)
    count, high, unbounded = connection.execute(query).one()
    connection.execute(
        update(attempts)
        .where(orphaned)
        .values(
            state="unknown",
            settled_at=now_us,
            error_type=DIED,
            error_message="the process ended before an answer was recorded",
        )
    )
    return Recovery(attempts=count, cost_high=int(high), unbounded=unbounded)
