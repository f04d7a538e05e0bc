"""Several processes that do one run together: each has a lease of its own, none has the run's.

The lease on the run (`lease.run_lease`) is what somebody has who does it alone. Whoever joins
locks its line for a moment, so that nobody begins alone and nobody joins at the same time.
"""

import hashlib
import secrets

from sqlalchemy import Connection, delete, select, text, update

from batcher.ledger.owner.lease import (
    LEASE_SECONDS,
    Held,
    Lease,
    holders,
    run_lease,
    take,
)
from batcher.ledger.owner.process import is_dead
from batcher.ledger.schema import Big, invocations, runs, sources
from batcher.ledger.schema_internal import leases

_NOW = text("SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)").columns(
    now=Big
)


def join(
    connection: Connection, run_key: str, *, owner: str, seconds: float = LEASE_SECONDS
) -> Lease:
    """Become one of those who do the run together; raises `Held` when somebody does it alone.

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
    """Raise `Held` when processes do the run together; the caller has just taken it."""
    for holder in holders(connection, _prefix(run_key)):
        raise Held(f"{holder.owner} has a part of run {run_key}", holder)


def lock_run(connection: Connection, run_id: int) -> None:
    """Until the transaction ends, no other member plans, takes over or matches rows."""
    # Not FOR UPDATE, which would wait for every insert that refers to these lines.
    run = select(runs.c.run_id).where(runs.c.run_id == run_id)
    connection.execute(run.with_for_update(key_share=True)).all()
    mine = select(sources.c.source_id).where(sources.c.run_id == run_id)
    in_order = mine.order_by(sources.c.source_id)
    connection.execute(in_order.with_for_update(key_share=True)).all()


def living(connection: Connection, run_key: str) -> set[int]:
    """The invocations that work for the run now; who was silent for too long is fenced off."""
    now = int(connection.execute(_NOW).scalar_one())
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


def sweep(connection: Connection, run_key: str) -> None:
    """Nobody works for the run: forget those who did."""
    mine = leases.c.name.startswith(_prefix(run_key), autoescape=True)
    connection.execute(delete(leases).where(mine, leases.c.expires_at == 0))


def _prefix(run_key: str) -> str:
    digest = hashlib.sha256(run_key.encode()).hexdigest()[:24]
    return f"part of run {digest} "
