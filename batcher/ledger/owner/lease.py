"""Leases on PostgreSQL: a right that one process has at a time, and loses when it is silent.

A lease is a row with a token that grows with every new owner. Its owner renews it every few
seconds (`Keeper`); time is the database's own. Who is silent for too long (stopped, cut off,
its machine dead) may be followed by somebody else, and is *fenced* from then on: each of its
write transactions names the token, and one that names an old token changes nothing.

All functions take a connection in a transaction of the caller's, which commits. `take`, `fence`
and `renew` lock the row, so they wait for each other and for nothing else.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Row,
    bindparam,
    literal_column,
    select,
    text,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from batcher.clock import boot_seconds
from batcher.errors import BatcherError, Busy, Fenced, LostTransactions
from batcher.ledger.connect import writing
from batcher.ledger.owner.process import in_pod, is_dead, this_process
from batcher.ledger.schema import Big
from batcher.ledger.schema_internal import leases
from batcher.ledger.write.statements import insert_into

LEASE_SECONDS: Final = 30.0
# An owner not renewed for this part of the time sends nothing: it may be followed soon.
FRESH_PART: Final = 2 / 3
ALL: Final = "all of the database"  # the lease of whoever needs it for itself
RENEWALS: Final = 6  # how often a lease is renewed in the time that it lasts

# The moment on the database's clock, in microseconds since 1970 UTC.
NOW: Final = literal_column(
    "CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)", Big
)
_TAKING_MS: Final = 5_000
# Made once: each expression is a cycle of objects, which stay until somebody looks for them.
_FENCE: Final = (
    update(leases)
    .where(leases.c.name == bindparam("b_name"), leases.c.token == bindparam("b_token"))
    .values(expires_at=NOW + bindparam("b_lasts", type_=Big), written=bindparam("b_written"))
)


class LeaseHeld(Busy):
    """Somebody has the lease; `holder` says who."""

    def __init__(self, message: str, holder: "LeaseHolder | None" = None) -> None:
        super().__init__(message)
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """What its owner must know: the name, the token, and for how many seconds it lasts."""

    name: str
    token: int
    seconds: float = LEASE_SECONDS


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseHolder:
    """A lease as others see it. Times are microseconds UTC of the database.

    `invocation_id` is `None` until the owner has recorded one. `process` is as in `process`.
    """

    name: str
    token: int
    owner: str
    invocation_id: int | None
    acquired_at: int
    expires_at: int
    process: str


def run_lease(run_key: str) -> str:
    """The name of the lease on a whole run."""
    return f"run {run_key}"


def most_idle_ms(lease: Lease) -> int:
    """For how long its owner may say nothing in a transaction: then the server ends it.

    A process that is stopped in the middle must not keep its locks for ever.
    """
    return max(round(lease.seconds * FRESH_PART * 1000), 1)


def take(
    connection: Connection, name: str, *, owner: str, seconds: float = LEASE_SECONDS
) -> Lease:
    """Become the owner of `name`: with a new token, so that every earlier owner is fenced.

    It is free when nobody has it, when its time is over, or when its owner was a process of
    this machine that has ended. `owner` is told to whoever comes second.

    Raises:
        Held: it has an owner who may live.
        Busy: (from the caller's `storage_errors`) its owner is in the middle of a write.
    """
    _make(connection, name)
    found = connection.execute(
        select(leases, (leases.c.expires_at > NOW).label("lasts"))
        .where(leases.c.name == name)
        .with_for_update()
    ).one()
    if found.lasts and not is_dead(found.process):
        raise LeaseHeld(f"{found.owner} has {name}", _holder(found))
    token = int(found.token) + 1
    connection.execute(
        update(leases)
        .where(leases.c.name == name)
        .values(
            token=token,
            owner=owner,
            process=this_process(),
            invocation_id=None,
            acquired_at=NOW,
            expires_at=_after(seconds),
            written=0,
        )
    )
    return Lease(name=name, token=token, seconds=seconds)


def say_pod(connection: Connection, lease: Lease, pod: str) -> None:
    """Tell others in which pod its owner is; nothing where that is not known."""
    if pod:
        _change(connection, lease, process=in_pod(this_process(), pod))


def renew(connection: Connection, lease: Lease) -> bool:
    """Make the lease last from now on; `False`: somebody else has it, we are fenced.

    A lease whose time is over, but which nobody took, is renewed as well.
    """
    return _change(connection, lease, expires_at=_after(lease.seconds))


def fence(connection: Connection, lease: Lease, number: int) -> None:
    """Begin write transaction `number` of the owner; nobody takes over until it has ended.

    Numbers start at 1 and grow; `written` tells afterwards which was the last to be committed.

    Raises:
        Fenced: somebody else has the lease; the caller rolls back.
    """
    values = {"b_lasts": round(lease.seconds * 1_000_000), "b_written": number}
    ours = {"b_name": lease.name, "b_token": lease.token}
    if connection.execute(_FENCE, values | ours).rowcount != 1:
        raise fenced(connection, lease)


def written(connection: Connection, lease: Lease) -> int:
    """The number of our last committed write transaction, 0 for none.

    Waits for one that is still under way in a connection that we lost.

    Raises:
        Fenced: somebody else has the lease.
    """
    query = select(leases.c.written).where(*_ours(lease)).with_for_update()
    number = connection.scalar(query)
    if number is None:
        raise fenced(connection, lease)
    return int(number)


def bind(connection: Connection, lease: Lease, invocation_id: int) -> None:
    """Say which invocation the owner records its work under; raises `Fenced`."""
    if not _change(connection, lease, invocation_id=invocation_id):
        raise fenced(connection, lease)


def release(connection: Connection, lease: Lease) -> None:
    """Give the lease back; nothing when somebody else has it already."""
    _change(connection, lease, expires_at=0)


def holders(connection: Connection, prefix: str = "") -> list[LeaseHolder]:
    """Who has a lease whose name begins with `prefix`, by name; the dead are left out."""
    query = select(leases).where(
        leases.c.name.startswith(prefix, autoescape=True), leases.c.expires_at > NOW
    )
    found = connection.execute(query.order_by(leases.c.name)).all()
    return [_holder(row) for row in found if not is_dead(row.process)]


def take_all(connection: Connection, *, owner: str, seconds: float = LEASE_SECONDS) -> Lease:
    """Become the only one who works: every owner who is silent loses its lease.

    An owner that wakes later changes nothing. Raises `LeaseHeld` for one who is not silent.
    """
    ours = take(connection, ALL, owner=owner, seconds=seconds)
    for holder in holders(connection):
        if holder.name != ALL:
            raise LeaseHeld(f"{holder.owner} has {holder.name}", holder)
    others = update(leases).where(leases.c.name != ALL)
    connection.execute(others.values(token=leases.c.token + 1, expires_at=0))
    return ours


def keep_from_all(connection: Connection) -> None:
    """Until the transaction ends, nobody becomes the only one; raises `LeaseHeld` for one.

    Whoever takes another lease does so first: `take_all` then waits, and finds it.
    """
    _make(connection, ALL)
    query = select(leases, (leases.c.expires_at > NOW).label("lasts"))
    found = connection.execute(
        query.where(leases.c.name == ALL).with_for_update(read=True)
    ).one()
    if found.lasts and not is_dead(found.process):
        raise LeaseHeld(f"{found.owner} has {ALL}", _holder(found))


def fenced(connection: Connection, lease: Lease) -> Fenced:
    """The sentence for an owner who lost its lease."""
    query = select(leases.c.owner).where(leases.c.name == lease.name)
    by = connection.scalar(query) or "another process"
    return Fenced(
        f"this run was silent for more than {lease.seconds:g} seconds and {by} has taken over:"
        " nothing more was sent, what had been paid for is recorded; run the same command again"
        " to see how far it is"
    )


def lost_transactions(number: int, committed: int) -> LostTransactions:
    """The sentence for a server that knows `number` of our `committed` transactions."""
    return LostTransactions(
        f"the database came back without the last {committed - number:,} transactions of this"
        " run, as a standby does that had not received everything when it took over: nothing"
        " more was sent; run the same command again, and use synchronous replication"
    )


def _make(connection: Connection, name: str) -> None:
    """See that there is a row to be locked; others are not waited for for long."""
    connection.execute(text(f"SET LOCAL lock_timeout = {_TAKING_MS}"))
    free = {"token": 0, "owner": "", "process": "", "acquired_at": 0, "expires_at": 0}
    new = insert_into(leases, connection.dialect).values(name=name, written=0, **free)
    connection.execute(new.on_conflict_do_nothing())


def _ours(lease: Lease) -> tuple[ColumnElement[bool], ...]:
    return leases.c.name == lease.name, leases.c.token == lease.token


def _change(connection: Connection, lease: Lease, **values: object) -> bool:
    changed = connection.execute(update(leases).where(*_ours(lease)).values(**values))
    return changed.rowcount == 1


def _after(seconds: float) -> ColumnElement[int]:
    return NOW + round(seconds * 1_000_000)


def _holder(row: Row[Any]) -> LeaseHolder:
    return LeaseHolder(
        name=row.name,
        token=row.token,
        owner=row.owner,
        invocation_id=row.invocation_id,
        acquired_at=row.acquired_at,
        expires_at=row.expires_at,
        process=row.process,
    )


_AGAIN_SECONDS: Final = 1.0  # after a renewal that failed


class Keeper:
    """Renews `lease` until `close`, by connections of `engine`.

    `changed` is called in the keeper's thread when `is_fresh` or `lost` may have changed.
    """

    def __init__(self, engine: Engine, lease: Lease) -> None:
        self.lease = lease
        self.lost: Busy | None = None
        self.changed: Callable[[], object] = lambda: None
        self._engine = engine
        self._fresh_until = boot_seconds() + lease.seconds * FRESH_PART
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
        self._thread.start()

    @property
    def is_fresh(self) -> bool:
        """Whether the lease is ours for sure: nobody can have followed us yet."""
        return self.lost is None and boot_seconds() < self._fresh_until

    def close(self) -> None:
        """Give the lease back. Blocks."""
        self._ending.set()
        self._thread.join()
        with suppress(BatcherError, SQLAlchemyError), writing(self._engine) as connection:
            release(connection, self.lease)  # else it ends by itself

    def _run(self) -> None:
        pause = every = self.lease.seconds / RENEWALS
        while self.lost is None and not self._ending.wait(pause):
            try:
                self._renew()
                pause = every
            except (BatcherError, SQLAlchemyError):  # the server is gone: connect anew
                self._engine.dispose()
                pause = min(every, _AGAIN_SECONDS)

    def _renew(self) -> None:
        before, was_fresh = boot_seconds(), self.is_fresh
        with writing(self._engine) as connection:
            ours = renew(connection, self.lease)
            self.lost = None if ours else fenced(connection, self.lease)
        if ours:
            self._fresh_until = before + self.lease.seconds * FRESH_PART
        if not (ours and was_fresh):
            with suppress(RuntimeError):  # the event loop to be told is closed: the run is over
                self.changed()
