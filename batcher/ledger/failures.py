"""Rows that got no answer, as the ledger counts them."""

from collections.abc import Collection

from sqlalchemy import Connection, func, select

from batcher.ledger.schema import answers, charges, failures


def unfinished_rows(connection: Connection, source_ids: Collection[int]) -> dict[str, int]:
    """How many rows of these sources are quarantined, failed or held; only kinds present."""
    query = select(failures.c.kind, failures.c.source_id, func.count()).group_by(
        failures.c.kind, failures.c.source_id
    )
    counts: dict[str, int] = {}
    for kind, source_id, count in connection.execute(query):
        if source_id in source_ids:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def has_failure(connection: Connection, source_id: int, reason: str) -> bool:
    """Whether a row of this source got no answer for this reason."""
    query = (
        select(failures.c.failure_id)
        .where(failures.c.source_id == source_id, failures.c.reason == reason)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def has_unpriced(connection: Connection, run_id: int) -> bool:
    """Whether any answer of the run could not be priced."""
    query = (
        select(charges.c.attempt_id)
        .join(answers, answers.c.attempt_id == charges.c.attempt_id)
        .where(
            answers.c.run_id == run_id, charges.c.current == 1, charges.c.status == "unpriced"
        )
        .limit(1)
    )
    return connection.execute(query).first() is not None
