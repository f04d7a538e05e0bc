"""Batches written down: the intent before a create, its answer, each look, the end.

An attempt with a batch number above 0 that is open belongs to a batch that is out: nobody sends
its row again before that batch has ended, or is known not to exist.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from sqlalchemy import ColumnElement, Connection, and_, bindparam, func, select, update

from batcher.ledger.schema import answers, attempts, invocations
from batcher.ledger.schema_internal import batches
from batcher.messages.request import BATCHES_OUT, IN_DOUBT, BatchState, SeenBatch, State

_SEEN: Final = (
    "batch_id", "created_at", "expires_at", "ended_at",
    "succeeded", "errored", "expired", "canceled",
)  # fmt: skip
_MADE_WITHIN_US: Final = 2 * 3_600 * 10**6  # of the intent, by anybody's clock
_COLUMNS: Final = {"uid": "attempt_uid", "model": "requested_model", "batch": "batch_number"}
_WAITING: Final = 0  # the number of attempts that are to be packed


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBatch:
    """One batch as the ledger has it; moments are microseconds UTC, `None`: not known."""

    number: int
    run_id: int
    state: BatchState
    batch_id: str | None
    model: str
    requests: int
    intended_at: int
    created_at: int | None
    expires_at: int | None
    ended_at: int | None
    succeeded: int = 0
    errored: int = 0
    expired: int = 0
    canceled: int = 0

    @property
    def began_at(self) -> int:
        """When the provider made it, as far as that is known and can be true."""
        created, meant = self.created_at, self.intended_at
        return created if created and abs(created - meant) <= _MADE_WITHIN_US else meant


class AttemptOut(NamedTuple):
    """An open attempt that travels in a batch, with what its row is found by."""

    attempt_id: int
    uid: str
    request_id: int
    source_id: int
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    params_hash: bytes
    model: str
    number: int
    leg: int
    purpose: str
    opened_at: int
    cost_high: int | None
    cache_prefix: int | None
    cache_note: str | None
    batch: int


class RequestOut(NamedTuple):
    """What a row asks that waits for a batch, and of which source it was."""

    source_id: int
    custom_id: str | None
    params_hash: bytes


def intend(
    connection: Connection,
    *,
    run_id: int,
    invocation_id: int,
    model: str,
    attempt_ids: Sequence[int],
    now_us: int,
) -> int:
    """Write down that these attempts are about to leave in one batch; its number."""
    statement = batches.insert().values(
        run_id=run_id,
        invocation_id=invocation_id,
        requested_model=model,
        state=BatchState.CREATING.value,
        requests=len(attempt_ids),
        intended_at=now_us,
    )
    number = int(connection.execute(statement.returning(batches.c.batch_number)).scalar_one())
    packed = (
        update(attempts)
        .where(attempts.c.attempt_id.between(bindparam("b_first"), bindparam("b_last")))
        .where(attempts.c.batch_number == _WAITING, attempts.c.invocation_id == invocation_id)
        .values(batch_number=number)
    )
    ranges = [{"b_first": first, "b_last": last} for first, last in _runs(attempt_ids)]
    connection.execute(packed, ranges)
    return number


def _runs(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Numbers as ranges without a gap."""
    first = last = None
    for number in sorted(numbers):
        if first is None or last is None:
            first = last = number
        elif number == last + 1:
            last = number
        else:
            yield first, last
            first = last = number
    if first is not None and last is not None:
        yield first, last


def recover_unpacked(
    connection: Connection, orphaned: ColumnElement[bool], now_us: int
) -> None:
    """Those of these attempts that waited to be packed have not left."""
    connection.execute(
        update(attempts)
        .where(orphaned, attempts.c.batch_number == _WAITING)
        .values(
            state=State.NOT_SENT.value,
            settled_at=now_us,
            cost_high=0,
            error_type="not_submitted",
            error_message="the process ended before its batch was made",
        )
    )


def look(connection: Connection, number: int, seen: SeenBatch) -> None:
    """What the provider said of a batch, at its making or later."""
    values = {name: getattr(seen, name) for name in _SEEN}
    connection.execute(
        update(batches)
        .where(batches.c.batch_number == number, batches.c.state.in_(BATCHES_OUT))
        .values(state=seen.state.value, **values)
    )


def not_made(connection: Connection, number: int, now_us: int) -> None:
    """It never was made: its attempts have not left; whoever holds them settles them."""
    _close(connection, number, BatchState.NOT_MADE, now_us)
    mine = attempts.c.batch_number == number
    connection.execute(update(attempts).where(mine).values(batch_number=_WAITING))


def settle_not_made(connection: Connection, number: int, now_us: int) -> int:
    """Like `not_made`, where nobody holds them: their rows are to do again; how many."""
    mine = and_(attempts.c.batch_number == number, attempts.c.state == State.OPEN.value)
    count = connection.execute(
        update(attempts)
        .where(mine)
        .values(
            state=State.NOT_SENT.value,
            settled_at=now_us,
            cost_low=0,
            cost_high=0,
            error_type="batch_not_made",
            error_message="its batch was never made",
        )
    ).rowcount
    not_made(connection, number, now_us)
    return int(count)


def forget(connection: Connection, number: int, now_us: int) -> int:
    """Give it up: what it would have answered is in doubt; how many attempts that are."""
    _close(connection, number, BatchState.FORGOTTEN, now_us)
    mine = and_(attempts.c.batch_number == number, attempts.c.state == State.OPEN.value)
    count = connection.execute(
        update(attempts)
        .where(mine)
        .values(
            state=State.UNKNOWN.value,
            settled_at=now_us,
            error_type="batch_forgotten",
            error_message="its batch was given up: it may have been worked on, and billed",
        )
    ).rowcount
    return int(count)


def let_go(connection: Connection, number: int) -> None:
    """It was taken for a batch that is not ours: nobody knows again what its create made."""
    connection.execute(
        update(batches)
        .where(batches.c.batch_number == number)
        .values(state=BatchState.CREATING.value, batch_id=None)
    )


def collected(connection: Connection, number: int, now_us: int) -> None:
    """All of its attempts have ended here, and which rows are done is saved."""
    _close(connection, number, BatchState.COLLECTED, now_us)


def _close(connection: Connection, number: int, state: BatchState, now_us: int) -> None:
    connection.execute(
        update(batches)
        .where(batches.c.batch_number == number)
        .values(state=state.value, closed_at=now_us)
    )


def batches_out(connection: Connection, run_id: int) -> list[StoredBatch]:
    """The batches of the run that are not collected, oldest first."""
    return [each for each in all_batches(connection, run_id) if each.state in BATCHES_OUT]


def all_batches(connection: Connection, run_id: int | None = None) -> list[StoredBatch]:
    """Every batch of the run, or of all runs, oldest first."""
    query = select(batches).order_by(batches.c.batch_number)
    if run_id is not None:
        query = query.where(batches.c.run_id == run_id)
    return [
        StoredBatch(
            number=row.batch_number,
            run_id=row.run_id,
            state=BatchState(row.state),
            batch_id=row.batch_id,
            model=row.requested_model,
            requests=row.requests,
            intended_at=row.intended_at,
            created_at=row.created_at,
            expires_at=row.expires_at,
            ended_at=row.ended_at,
            succeeded=row.succeeded,
            errored=row.errored,
            expired=row.expired,
            canceled=row.canceled,
        )
        for row in connection.execute(query)
    ]


def known_batch_ids(connection: Connection) -> set[str]:
    """The ids of all batches of this database that have one."""
    query = select(batches.c.batch_id).where(batches.c.batch_id.is_not(None))
    return set(connection.execute(query).scalars())


def rows_out(connection: Connection, run_id: int) -> Iterator[tuple[int, int]]:
    """(source_id, row_number) of every row that waits for a batch, by row."""
    query = (
        select(attempts.c.source_id, attempts.c.row_number)
        .where(_out_of(run_id), attempts.c.state == State.OPEN.value)
        .order_by(attempts.c.source_id, attempts.c.row_number)
    )
    for row in connection.execute(query):
        yield row[0], row[1]


def requests_out(connection: Connection, run_id: int) -> Iterator[RequestOut]:
    """What every row asks that waits for a batch."""
    names = attempts.c.source_id, attempts.c.custom_id, attempts.c.params_hash
    query = select(*names).where(_out_of(run_id), attempts.c.state == State.OPEN.value)
    for row in connection.execute(query):
        yield RequestOut(row[0], row[1], bytes(row[2]))


def rows_settled(connection: Connection, run_id: int) -> Iterator[tuple[int, int]]:
    """(source_id, row_number) of answered rows whose batch is not wholly collected.

    The process that collected them may have ended before it saved which rows are done.
    """
    query = (
        select(answers.c.source_id, answers.c.row_number)
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .where(_out_of(run_id), answers.c.final == 1)
    )
    for row in connection.execute(query):
        yield row[0], row[1]


def answered_rows(connection: Connection, attempt_ids: Sequence[int]) -> list[tuple[int, int]]:
    """(source_id, row_number) of those of these attempts that are their row's answer."""
    query = select(answers.c.source_id, answers.c.row_number).where(
        answers.c.attempt_id.in_(attempt_ids), answers.c.final == 1
    )
    return [(row[0], row[1]) for row in connection.execute(query)]


def as_seen(batch: StoredBatch, seen: SeenBatch) -> StoredBatch:
    """The batch with what the provider says of it now."""
    return replace(batch, state=seen.state, **{name: getattr(seen, name) for name in _SEEN})


def _out_of(run_id: int) -> ColumnElement[bool]:
    out = select(batches.c.batch_number).where(
        batches.c.run_id == run_id, batches.c.state.in_(BATCHES_OUT)
    )
    return and_(attempts.c.batch_number > 0, attempts.c.batch_number.in_(out))


def attempts_out(connection: Connection, number: int) -> Iterator[AttemptOut]:
    """The open attempts of one batch, in the order in which they were opened."""
    columns = (attempts.c[_COLUMNS.get(name, name)] for name in AttemptOut._fields)
    query = select(*columns).where(_open_in(number)).order_by(attempts.c.attempt_id)
    for row in connection.execute(query):
        yield AttemptOut(*row)


def uids_out(connection: Connection, number: int) -> Sequence[str]:
    """The names of the open attempts of one batch."""
    query = select(attempts.c.attempt_uid).where(_open_in(number))
    return connection.execute(query).scalars().all()


def _open_in(number: int) -> ColumnElement[bool]:
    mine = and_(attempts.c.batch_number > 0, attempts.c.batch_number == number)
    return and_(mine, attempts.c.state == State.OPEN.value)


def is_out(columns: Any) -> ColumnElement[bool]:  # noqa: ANN401 - of a table or an alias
    """Whether an attempt, of `attempts` or an alias of it, travels in a batch at present."""
    return and_(
        func.coalesce(columns.batch_number, _WAITING) > _WAITING,
        columns.state == State.OPEN.value,
    )


def doubts_of(connection: Connection, request_ids: Sequence[int]) -> dict[int, int]:
    """How many attempts of these requests are in doubt, where any are."""
    query = (
        select(attempts.c.request_id, func.count())
        .where(attempts.c.request_id.in_(request_ids), attempts.c.state != "answered")
        .where(attempts.c.state.in_([each.value for each in IN_DOUBT]))
        .group_by(attempts.c.request_id)
    )
    return {row[0]: row[1] for row in connection.execute(query)}


def is_ours(connection: Connection, number: int, custom_id: str) -> bool:
    """Whether a request of that name is an open attempt of the batch of that number."""
    query = select(attempts.c.attempt_id).where(
        attempts.c.batch_number > 0,
        attempts.c.batch_number == number,
        attempts.c.attempt_uid == custom_id,
    )
    return connection.execute(query.limit(1)).first() is not None


def most_they_cost(connection: Connection, numbers: Sequence[int]) -> int | None:
    """What the open attempts of these batches can cost together; `None`: without a bound."""
    bound = attempts.c.cost_high
    query = select(func.count(), func.count(bound), func.sum(bound)).where(
        attempts.c.batch_number > 0,
        attempts.c.batch_number.in_(numbers),
        attempts.c.state == State.OPEN.value,
    )
    every, bounded, most = connection.execute(query).one()
    return int(most or 0) if every == bounded else None


def has_batches_out(connection: Connection, run_id: int) -> bool:
    """Whether rows of the run wait for a batch."""
    query = select(batches.c.batch_number).where(
        batches.c.run_id == run_id, batches.c.state.in_(BATCHES_OUT)
    )
    return connection.execute(query.limit(1)).first() is not None


def endpoint_of(connection: Connection, number: int) -> tuple[str, str]:
    """(name, address) of the endpoint that a batch was made at."""
    query = (
        select(invocations.c.endpoint, invocations.c.base_url)
        .join(batches, batches.c.invocation_id == invocations.c.invocation_id)
        .where(batches.c.batch_number == number)
    )
    row = connection.execute(query).one()
    return row.endpoint, row.base_url
