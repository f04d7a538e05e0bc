"""Rows that got no answer, as the ledger counts them."""

from sqlalchemy import Connection, func, select

from batcher.ledger.schema import answers, charges, failures, sources


def unfinished_rows(connection: Connection, run_id: int) -> dict[str, int]:
    """How many rows of the run are quarantined, failed or held, by kind; only kinds present."""
    query = (
        select(failures.c.kind, func.count())
        .join(sources, sources.c.source_id == failures.c.source_id)
        .where(failures.c.run_id == run_id, sources.c.superseded_by.is_(None))
        .group_by(failures.c.kind)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


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
