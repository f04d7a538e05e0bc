"""Gives failed and held rows another chance at the run's next invocation."""

from collections.abc import Sequence
from dataclasses import dataclass

from batcher.errors import UsageError
from batcher.ledger import runs
from batcher.ledger.connect import Connection, engine_at, parse_url, reading, writing
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.write import records
from batcher.rows.ranges import RowRanges


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """How many rows of which run are to do again, and the command that sends them."""

    run_id: int
    rows: int
    command: str


def release(
    database: str, run_id: int | None, *, kinds: Sequence[str], reason: str | None
) -> Released:
    """Forget failures of these kinds, so that their rows are sent again.

    `run_id` may be `None` when the ledger has one run. Raises `UsageError` when it is not
    clear which run is meant or there is no database, `Busy` while that run is on, also where it
    began while we were suspended.
    """
    run = _the_run(database, run_id)
    with (
        hold_database(database, run.key, command="batcher retry") as held,
        engine_at(database) as engine,
        writing(engine) as connection,
    ):
        held.fence(connection)
        rows = _release(connection, run.run_id, kinds, reason)
    return Released(run_id=run.run_id, rows=rows, command=run.command)


def _the_run(database: str, run_id: int | None) -> runs.StoredRun:
    with engine_at(database, read_only=True) as engine:  # a mistyped name makes no new file
        require_head(engine)
        with reading(engine) as connection:
            run = runs.find_run(connection, run_id)
    if run is None:
        raise UsageError(
            f"{parse_url(database).shown}: name one of its runs with --run; batcher status"
            " lists them"
        )
    return run


def _release(
    connection: Connection, run_id: int, kinds: Sequence[str], reason: str | None
) -> int:
    released = records.release_failures(connection, run_id, kinds=kinds, reason=reason)
    by_source: dict[int, list[int]] = {}
    for source_id, row_number in released:
        by_source.setdefault(source_id, []).append(row_number)
    for stored in runs.latest_sources(connection, run_id).values():
        ranges = RowRanges.from_json(stored.done_ranges)
        for row_number in by_source.get(stored.source_id, ()):
            ranges.discard(row_number)
        runs.save_done_ranges(connection, {stored.source_id: ranges.to_json()})
    return len(released)
