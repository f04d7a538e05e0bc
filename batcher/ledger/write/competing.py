"""Two attempts of one row, of an owner that was followed and of the one that followed.

Both may be answered, since a process that wakes up still gets what it paid for. The first to be
recorded is the row's answer, the other is late. Whoever is second finds out: both lock the
request's first attempt before they look. Only on PostgreSQL: a SQLite file has one owner until
that has ended.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace
from sqlalchemy import Connection, select

from batcher.ledger.schema import answers, attempts
from batcher.ledger.write.records import Settlement
from batcher.messages.attempt import Answered, State, invocation_of


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
