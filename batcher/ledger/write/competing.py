"""Two attempts of one row, of an owner that was followed and of the one that followed.

Both may be answered, since a process that wakes up still gets what it paid for. The first to be
recorded is the row's answer, the other is late. Whoever is second finds out: both lock the
request's first attempt before they look. Only on PostgreSQL: a SQLite file has one owner until
that has ended.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, delete, or_, select, update

from batcher.ledger.runs import DIED
from batcher.ledger.schema import answers, attempts, failures, invocations, shared_answers
from batcher.ledger.write.records import Settlement
from batcher.messages.request import Answered, State, invocation_of


def without_second_answers(
    connection: Connection, settlements: Sequence[Settlement], invocation_id: int
) -> Sequence[Settlement]:
    """The same settlements, but late where an earlier owner has answered the request by now.

    Only requests that were begun by another invocation can be: all others cost nothing here.
    """
    begun = {
        settlement.attempt.request_id
        for settlement in settlements
        if invocation_of(settlement.attempt.request_id) != invocation_id
    }
    if not begun:
        return settlements
    lock_attempts(connection, begun)
    query = select(answers.c.request_id).where(
        answers.c.request_id.in_(begun), answers.c.final == 1
    )
    answered = set(connection.execute(query).scalars())
    return [
        as_late(settlement) if settlement.attempt.request_id in answered else settlement
        for settlement in settlements
    ]


def as_late(settlement: Settlement) -> Settlement:
    """Paid and kept; the row is answered by another attempt."""
    state = State.LATE if isinstance(settlement.outcome, Answered) else settlement.state
    return replace(
        settlement,
        state=state,
        final=False,
        pending=False,
        failure=None,
        joined_content=None,
        joined_text=None,
    )


def lock_attempts(connection: Connection, attempt_ids: Iterable[int]) -> None:
    """Until the transaction ends; in the order of their ids, so nobody waits in a circle."""
    query = select(attempts.c.attempt_id).where(attempts.c.attempt_id.in_(set(attempt_ids)))
    connection.execute(query.order_by(attempts.c.attempt_id).with_for_update()).all()


def late_record(connection: Connection, settlement: Settlement) -> Settlement | None:
    """What is to be written in this transaction for an attempt that is not our run's any more.

    `None`: nothing, for it is in the ledger already, or was never sent. An answer is the row's
    own when nobody has answered it yet; then the row waits no more, and has not failed.
    """
    attempt = settlement.attempt
    lock_attempts(connection, {attempt.request_id, attempt.attempt_id})
    query = select(attempts.c.state, attempts.c.pending, attempts.c.error_type)
    mine = attempts.c.attempt_id == attempt.attempt_id
    found = connection.execute(query.where(mine)).first()
    if found is None or not _is_unsettled(found.state, found.error_type):
        return None
    if not isinstance(settlement.outcome, Answered):
        return replace(settlement, pending=bool(found.pending), failure=None)
    if _has_answer(connection, settlement):
        return as_late(settlement)
    if settlement.final:
        _make_room(connection, settlement)
        return replace(settlement, failure=None)
    pending = bool(found.pending) and settlement.pending
    return replace(settlement, pending=pending, failure=None)


def _is_unsettled(state: str, error_type: str | None) -> bool:
    """Whether it is as we left it, or as whoever followed us recovered it."""
    return state == State.OPEN.value or (state, error_type) == (State.UNKNOWN.value, DIED)


def _has_answer(connection: Connection, settlement: Settlement) -> bool:
    request = settlement.attempt.request
    row = (answers.c.source_id == request.source_id) & (
        answers.c.row_number == request.row_number
    )
    query = select(answers.c.attempt_id).where(
        answers.c.final == 1, or_(answers.c.request_id == settlement.attempt.request_id, row)
    )
    shared = select(shared_answers.c.attempt_id).where(
        shared_answers.c.source_id == request.source_id,
        shared_answers.c.row_number == request.row_number,
    )
    return any(connection.execute(each.limit(1)).first() for each in (query, shared))


def _make_room(connection: Connection, settlement: Settlement) -> None:
    """The row is answered now; the next start has to look for that."""
    attempt = settlement.attempt
    same = attempts.c.request_id == attempt.request_id
    connection.execute(update(attempts).where(same, attempts.c.pending == 1).values(pending=0))
    connection.execute(
        delete(failures).where(
            failures.c.source_id == attempt.request.source_id,
            failures.c.row_number == attempt.request.row_number,
        )
    )
    connection.execute(
        update(invocations)
        .where(invocations.c.invocation_id == invocation_of(attempt.attempt_id))
        .values(clean=0)
    )
