"""Who uses how much of which quota: a line per process, seen by all who share a database.

Nobody locks anything: each process writes its own lines and reads those of the others, by the
database's own clock. Source: reliability, 1.3.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, delete, or_, select, text
from sqlalchemy.dialects.postgresql import insert

from batcher.ledger.schema import Big
from batcher.ledger.schema_internal import quota_leases

LEASE_SECONDS: Final = 15.0  # three renewals
_PARTS: Final = 1_000_000
_SECOND: Final = 1_000_000
_NOW: Final = text(
    "SELECT CAST(EXTRACT(EPOCH FROM clock_timestamp()) * 1000000 AS bigint)"
).columns(now=Big)


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


def claims_of_all(connection: Connection, fingerprint: str) -> list[QuotaClaim]:
    """What everybody who lives claims of the quotas of this fingerprint, in no order."""
    now = _now(connection)
    query = select(quota_leases).where(
        quota_leases.c.fingerprint == fingerprint, quota_leases.c.expires_at > now
    )
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


def renew(connection: Connection, fingerprint: str, mine: Sequence[QuotaClaim]) -> None:
    """Tell the others what this process claims, for the next `LEASE_SECONDS`."""
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
            "expires_at": now + round(LEASE_SECONDS * _SECOND),
        }
        for claim in mine
    ]
    new = insert(quota_leases)
    changed = ("demand", "share", "paused_until", "expires_at")
    statement = new.on_conflict_do_update(
        index_elements=list(quota_leases.primary_key.columns),
        set_={name: new.excluded[name] for name in changed},
    )
    connection.execute(statement, lines)


def leave(connection: Connection, invocation_id: int) -> None:
    """The process claims nothing any more; lines of dead ones go too."""
    now = _now(connection)
    gone = quota_leases.c.expires_at < now - 60 * _SECOND
    connection.execute(
        delete(quota_leases).where(or_(quota_leases.c.invocation_id == invocation_id, gone))
    )


def _now(connection: Connection) -> int:
    """The moment on the database's clock, in microseconds since 1970 UTC."""
    return int(connection.execute(_NOW).scalar_one())
