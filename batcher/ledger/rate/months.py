"""Closed months, whose charges no later reprice touches, and a ledger at rest."""

from sqlalchemy import Connection, func, select, update

from batcher.errors import Busy
from batcher.ledger.lifeboat.lifeboat import places_for
from batcher.ledger.runs import database_uid, recover
from batcher.ledger.schema import attempts
from batcher.ledger.schema_internal import closed_months as table
from batcher.messages.request import State


def closed_months(connection: Connection) -> tuple[str, ...]:
    """The months that are closed now, in order."""
    query = select(table.c.month).where(table.c.reopened_by.is_(None)).order_by(table.c.month)
    return tuple(connection.execute(query).scalars())


def reopen_months(connection: Connection, rating_id: int) -> None:
    """All closed months are open again, because this rating touched them."""
    statement = update(table).where(table.c.reopened_by.is_(None))
    connection.execute(statement.values(reopened_by=rating_id))


def settle_everything(connection: Connection, now_us: int) -> None:
    """Make sure that nothing in the ledger changes any more; the caller holds all of it.

    Attempts of dead processes are settled as in doubt. Raises `Busy` when attempts are open all
    the same, because a batch is still under way, and while a lifeboat holds some of them.
    """
    for boat in places_for(connection.engine.url, database_uid(connection)).waiting(connection):
        raise Busy(f"{boat.words}; then this one")
    recover(connection, invocation_id=0, run_id=None, now_us=now_us)
    is_open = (attempts.c.pending == 1) & (attempts.c.state == State.OPEN.value)
    count = connection.scalar(select(func.count()).select_from(attempts).where(is_open))
    if count:
        raise Busy(
            f"{count:,} requests are still under way in a batch: type the run's command again"
            " to fetch their answers, then this one"
        )
