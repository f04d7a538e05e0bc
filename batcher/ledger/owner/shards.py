"""Which rows of a run are whose, while several processes do it together."""

from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from batcher.ledger.schema import failures, sources
from batcher.ledger.schema_internal import shards


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
