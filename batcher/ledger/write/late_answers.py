"""What an owner that was followed still learns: paid answers are recorded, and nothing else.

The run has another owner by then, who settled our open attempts as in doubt and sends their
rows again; see `rivals`.
"""

from msgspec.structs import replace
from sqlalchemy import Connection, delete, or_, select, update

from batcher.ledger.runs import DIED
from batcher.ledger.schema import answers, attempts, failures, invocations
from batcher.ledger.write.competing import as_late, lock_attempts
from batcher.ledger.write.records import Settlement
from batcher.messages.attempt import Answered, State, invocation_of


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
    return connection.execute(query.limit(1)).first() is not None


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
