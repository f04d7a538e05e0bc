"""What a person decides about a batch that the program could not find, or is to give up."""

from collections.abc import Callable
from dataclasses import dataclass

from batcher.clock import SystemClock
from batcher.errors import UsageError
from batcher.ledger import runs
from batcher.ledger.batches import store
from batcher.ledger.batches.store import StoredBatch
from batcher.ledger.connect import Connection, engine_at, parse_url, reading, writing
from batcher.ledger.migrate import require_head
from batcher.ledger.owner.lock import hold_database
from batcher.messages.request import BATCH_LIFETIME_US, BATCHES_OUT, BatchState, SeenBatch


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
    with engine_at(database, read_only=True) as engine:  # a mistyped name makes no new file
        require_head(engine)
        with reading(engine) as connection:
            run = runs.find_run(connection, find(connection).run_id)
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
