"""Several processes that share: a run's rows (shards), and the quotas of an API key.

Each of those that do one run together has a lease of its own, and none has the run's. That one
(`lease.run_lease`) is what somebody has who does the run alone. Whoever joins locks its line
for a moment, so that nobody begins alone and nobody joins at the same time.

Of quotas everybody writes what it wants and takes, and reads what the others wrote; nobody
locks anything. All times are the database's own.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, delete, func, or_, select, update

from batcher.ledger.owner.lease import (
    LEASE_SECONDS,
    NOW,
    Lease,
    LeaseHeld,
    holders,
    run_lease,
    take,
)
from batcher.ledger.owner.process import is_dead
from batcher.ledger.schema import failures, invocations, runs, sources
from batcher.ledger.schema_internal import leases, quota_leases, shards
from batcher.ledger.write.statements import insert_into

QUOTA_LEASE_SECONDS: Final = 15.0  # three renewals
_PARTS: Final = 1_000_000  # shares are kept as millionths
_SECOND: Final = 1_000_000


def join(
    connection: Connection, run_key: str, *, owner: str, seconds: float = LEASE_SECONDS
) -> Lease:
    """Become one of those who do the run together; raises `LeaseHeld` when one does it alone.

    The lease on the run is taken and given back in the same transaction: it is free for the
    next who joins.
    """
    alone = take(connection, run_lease(run_key), owner=owner, seconds=seconds)
    connection.execute(
        update(leases).where(leases.c.name == alone.name).values(expires_at=0, owner="")
    )
    return take(
        connection, _prefix(run_key) + secrets.token_hex(8), owner=owner, seconds=seconds
    )


def check_alone(connection: Connection, run_key: str) -> None:
    """Raise `LeaseHeld` when processes do the run together; the caller has just taken it."""
    for holder in holders(connection, _prefix(run_key)):
        raise LeaseHeld(f"{holder.owner} has a part of run {run_key}", holder)


def lock_run(connection: Connection, run_id: int) -> None:
    """Until the transaction ends, no other member plans, takes over or matches rows."""
    # Not FOR UPDATE, which would wait for every insert that refers to these lines.
    run = select(runs.c.run_id).where(runs.c.run_id == run_id)
    connection.execute(run.with_for_update(key_share=True)).all()
    mine = select(sources.c.source_id).where(sources.c.run_id == run_id)
    in_order = mine.order_by(sources.c.source_id)
    connection.execute(in_order.with_for_update(key_share=True)).all()


def living_invocations(connection: Connection, run_key: str) -> set[int]:
    """The invocations that work for the run now; who was silent for too long is fenced off."""
    now = _now(connection)
    mine = leases.c.name.startswith(_prefix(run_key), autoescape=True)
    found = connection.execute(select(leases).where(mine, leases.c.expires_at > 0)).all()
    for row in found:
        ended = is_dead(row.process)
        if ended or row.expires_at <= now:
            unheard = (leases.c.expires_at <= now) if not ended else (leases.c.token > 0)
            connection.execute(
                update(leases)
                .where(leases.c.name == row.name, leases.c.token == row.token, unheard)
                .values(token=row.token + 1, expires_at=0)
            )
    query = (
        select(leases.c.invocation_id)
        .join(invocations, invocations.c.invocation_id == leases.c.invocation_id)
        .where(mine, leases.c.expires_at > 0, invocations.c.ended_at.is_(None))
    )
    return set(connection.execute(query).scalars())


@dataclass(frozen=True, slots=True)
class Member:
    """One of those who do a run together: its lease, in seconds from now, and its shards."""

    invocation_id: int
    lease_seconds: float
    shards: int
    shards_done: int
    rows: int


def members(connection: Connection, run_key: str) -> list[Member]:
    """Who does the run together now, and who was too silent for it; changes nothing."""
    if connection.dialect.name != "postgresql":
        return []
    rows = func.sum(shards.c.last_row - shards.c.first_row + 1)
    of_shards = (
        select(
            shards.c.invocation_id,
            func.count().label("shards"),
            func.sum(shards.c.done).label("done"),
            rows.label("rows"),
        )
        .group_by(shards.c.invocation_id)
        .subquery()
    )
    query = (
        select(
            leases.c.invocation_id,
            (leases.c.expires_at - NOW).label("lasts"),
            of_shards.c.shards,
            of_shards.c.done,
            of_shards.c.rows,
        )
        .join(invocations, invocations.c.invocation_id == leases.c.invocation_id)
        .outerjoin(of_shards, of_shards.c.invocation_id == leases.c.invocation_id)
        .where(
            leases.c.name.startswith(_prefix(run_key), autoescape=True),
            leases.c.expires_at > 0,
            invocations.c.ended_at.is_(None),
        )
        .order_by(leases.c.invocation_id)
    )
    return [
        Member(
            invocation_id=row[0],
            lease_seconds=round(float(row.lasts) / _SECOND, 1),
            shards=row.shards or 0,
            shards_done=int(row.done or 0),
            rows=int(row.rows or 0),
        )
        for row in connection.execute(query)
    ]


def forget_members(connection: Connection, run_key: str) -> None:
    """Nobody works for the run: forget those who did."""
    mine = leases.c.name.startswith(_prefix(run_key), autoescape=True)
    connection.execute(delete(leases).where(mine, leases.c.expires_at == 0))


def _prefix(run_key: str) -> str:
    digest = hashlib.sha256(run_key.encode()).hexdigest()[:24]
    return f"part of run {digest} "


@dataclass(frozen=True, slots=True)
class Shard:
    """Rows of one source, both ends included, and who does them."""

    source_id: int
    first_row: int
    last_row: int
    invocation_id: int


def forget_shards(connection: Connection, run_id: int) -> None:
    """Nobody works for the run: all of its rows are free."""
    connection.execute(delete(shards).where(_of_run(run_id)))


def claim_shard(
    connection: Connection, source_id: int, *, least: int, rows: int, invocation_id: int
) -> Shard:
    """The next `rows` rows of the source that nobody claimed, none before `least`."""
    source = select(sources.c.source_id).where(sources.c.source_id == source_id)
    connection.execute(source.with_for_update(key_share=True)).all()
    query = select(func.max(shards.c.last_row)).where(shards.c.source_id == source_id)
    first = max((connection.scalar(query) or 0) + 1, least)
    claimed = Shard(source_id, first, first + rows - 1, invocation_id)
    connection.execute(
        shards.insert().values(
            source_id=source_id,
            first_row=first,
            last_row=claimed.last_row,
            invocation_id=invocation_id,
            done=0,
        )
    )
    return claimed


def finish_shards(connection: Connection, invocation_id: int) -> None:
    """Every row of every shard of this process has ended."""
    connection.execute(
        update(shards)
        .where(shards.c.invocation_id == invocation_id, shards.c.done == 0)
        .values(done=1)
    )


def unfinished_shards(connection: Connection, run_id: int) -> list[Shard]:
    """The shards of the run whose rows have not all ended, in order."""
    query = (
        select(shards.c.source_id, shards.c.first_row, shards.c.last_row)
        .add_columns(shards.c.invocation_id)
        .where(_of_run(run_id), shards.c.done == 0)
        .order_by(shards.c.source_id, shards.c.first_row)
    )
    return [Shard(*row) for row in connection.execute(query)]


def take_shards(
    connection: Connection, taken: Collection[Shard], *, invocation_id: int, done: bool
) -> None:
    """They are ours now. `done`: all of their rows have ended already.

    Rows of the others that failed for a passing cause are tried again.
    """
    for shard in taken:
        this = (shards.c.source_id == shard.source_id) & (shards.c.first_row == shard.first_row)
        values = {"invocation_id": invocation_id, "done": int(done)}
        connection.execute(update(shards).where(this).values(values))
        if not done:
            connection.execute(
                delete(failures).where(
                    failures.c.source_id == shard.source_id,
                    failures.c.row_number.between(shard.first_row, shard.last_row),
                    failures.c.transient == 1,
                )
            )


def _of_run(run_id: int) -> ColumnElement[bool]:
    mine = select(sources.c.source_id).where(sources.c.run_id == run_id)
    return shards.c.source_id.in_(mine)


def _now(connection: Connection) -> int:
    """The moment on the database's clock, in microseconds since 1970 UTC."""
    return int(connection.execute(select(NOW)).scalar_one())


@dataclass(frozen=True, slots=True)
class QuotaClaim:
    """What one process wants and takes of one quota, as parts of the whole.

    `paused_seconds` is for how long the server asked everybody to wait, from now; 0: not.
    """

    model_class: str
    invocation_id: int
    demand: float
    share: float
    paused_seconds: float


def quota_claims(connection: Connection, fingerprint: str) -> list[QuotaClaim]:
    """What everybody who lives claims of the quotas of this fingerprint, in no order."""
    return _claims(connection, quota_leases.c.fingerprint == fingerprint)


def claims_of(connection: Connection, invocation_ids: Sequence[int]) -> list[QuotaClaim]:
    """What these processes claim of quotas, in no order; changes nothing."""
    return _claims(connection, quota_leases.c.invocation_id.in_(invocation_ids))


def _claims(connection: Connection, where: ColumnElement[bool]) -> list[QuotaClaim]:
    now = _now(connection)
    query = select(quota_leases).where(where, quota_leases.c.expires_at > now)
    return [
        QuotaClaim(
            row.model_class,
            row.invocation_id,
            row.demand / _PARTS,
            row.share / _PARTS,
            max(row.paused_until - now, 0) / _SECOND,
        )
        for row in connection.execute(query)
    ]


def renew_quota_claims(
    connection: Connection, fingerprint: str, mine: Sequence[QuotaClaim]
) -> None:
    """Tell the others what this process claims, for the next `QUOTA_LEASE_SECONDS`."""
    if not mine:
        return
    now = _now(connection)
    lines = [
        {
            "fingerprint": fingerprint,
            "model_class": claim.model_class,
            "invocation_id": claim.invocation_id,
            "demand": round(claim.demand * _PARTS),
            "share": round(claim.share * _PARTS),
            "paused_until": now + round(claim.paused_seconds * _SECOND),
            "expires_at": now + round(QUOTA_LEASE_SECONDS * _SECOND),
        }
        for claim in mine
    ]
    new = insert_into(quota_leases, connection.dialect)
    changed = ("demand", "share", "paused_until", "expires_at")
    statement = new.on_conflict_do_update(
        index_elements=list(quota_leases.primary_key.columns),
        set_={name: new.excluded[name] for name in changed},
    )
    connection.execute(statement, lines)


def drop_quota_claims(connection: Connection, invocation_id: int) -> None:
    """The process claims nothing any more; lines of dead ones go too."""
    now = _now(connection)
    gone = quota_leases.c.expires_at < now - 60 * _SECOND
    connection.execute(
        delete(quota_leases).where(or_(quota_leases.c.invocation_id == invocation_id, gone))
    )
