"""What a person decides: failed and held rows go again, a lost batch is found or given up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.ledger import runs
from batcher.ledger.batches import store
from batcher.ledger.batches.store import StoredBatch
from batcher.ledger.connect import Connection, engine_at, parse_url, reading, writing
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.write import records
from batcher.messages.request import BATCH_LIFETIME_US, BATCHES_OUT, BatchState, SeenBatch
from batcher.rows.ranges import RowRanges


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledBatch:
    """What was decided about which batch, how many attempts that concerns, and how to go on."""

    batch: StoredBatch
    attempts: int
    command: str


def adopt(database: str, batch_id: str, number: int | None = None) -> SettledBatch:
    """Take a batch of the provider for the one whose create had no answer.

    `number` is that of the create; `None`: the only one. Nothing is taken on trust: the next
    run collects it only where its results bear names of ours. Raises `UsageError` when it is
    not clear which is meant, `Busy` while its run is on.
    """

    def find(connection: Connection) -> StoredBatch:
        if batch_id in store.known_batch_ids(connection):
            raise UsageError(f"batch {batch_id} is known here: `batcher batches list` shows it")
        return _lost(connection, number)

    def decide(connection: Connection) -> tuple[StoredBatch, int]:
        batch = find(connection)
        seen = SeenBatch(
            batch_id=batch_id,
            state=BatchState.IN_PROGRESS,
            requests=batch.requests,
            created_at=batch.intended_at,
            expires_at=batch.intended_at + BATCH_LIFETIME_US,
        )
        store.look(connection, batch.number, seen)
        return batch, batch.requests

    return _settle(database, find, decide)


def forget(database: str, name: str) -> SettledBatch:
    """Give a batch up, by its id or its number: its attempts are in doubt from now on.

    Raises `UsageError` when there is none such, `Busy` while its run is on.
    """

    def decide(connection: Connection) -> tuple[StoredBatch, int]:
        batch = _named(connection, name)
        return batch, store.forget(connection, batch.number, SystemClock().now_us())

    return _settle(database, lambda connection: _named(connection, name), decide)


def _settle(
    database: str,
    find: Callable[[Connection], StoredBatch],
    decide: Callable[[Connection], tuple[StoredBatch, int]],
) -> SettledBatch:
    run = _the_run(database, lambda connection: find(connection).run_id)
    if run is None:
        raise UsageError(f"{parse_url(database).shown}: the run of this batch is not there")
    with (
        hold_database(database, run.key, command="batcher batches") as held,
        engine_at(database) as engine,
        writing(engine) as connection,
    ):
        held.fence(connection)
        batch, attempts = decide(connection)
    return SettledBatch(batch=batch, attempts=attempts, command=run.command)


def _lost(connection: Connection, number: int | None) -> StoredBatch:
    lost = [
        batch
        for batch in store.all_batches(connection)
        if batch.state is BatchState.CREATING and number in {None, batch.number}
    ]
    if len(lost) == 1:
        return lost[0]
    if not lost:
        raise UsageError("no create without an answer is left: `batcher batches list`")
    numbers = ", ".join(str(batch.number) for batch in lost)
    raise UsageError(f"several creates have no answer: choose one with --number, of {numbers}")


def _named(connection: Connection, name: str) -> StoredBatch:
    for batch in store.all_batches(connection):
        if name in {batch.batch_id, str(batch.number)} and batch.state in BATCHES_OUT:
            return batch
    raise UsageError(f"no batch {name} is out: `batcher batches list` shows those that are")


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
    run = _the_run(database, lambda _: run_id)
    if run is None:
        raise UsageError(
            f"{parse_url(database).shown}: name one of its runs with --run; batcher status"
            " lists them"
        )
    with (
        hold_database(database, run.key, command="batcher retry") as held,
        engine_at(database) as engine,
        writing(engine) as connection,
    ):
        held.fence(connection)
        rows = _release(connection, run.run_id, kinds, reason)
    return Released(run_id=run.run_id, rows=rows, command=run.command)


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


def _the_run(database: str, named: Callable[[Connection], int | None]) -> runs.StoredRun | None:
    with engine_at(database, read_only=True) as engine:  # a mistyped name makes no new file
        require_head(engine)
        with reading(engine) as connection:
            return runs.find_run(connection, named(connection))
