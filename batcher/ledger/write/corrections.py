"""Records that cannot be written as they are: a second answer, or what a database refuses.

Two attempts of one row, of an owner that was followed and of the one that followed, may both be
answered, since a process that wakes up still gets what it paid for. The first to be recorded is
the row's answer, the other is late. Whoever is second finds out: both lock the request's first
attempt before they look. Only on PostgreSQL: a SQLite file has one owner until that has ended.

Of a record that a database refuses to store, `mended` keeps what it can.
"""

from collections.abc import Iterable, Sequence
from typing import Final, assert_never

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, delete, or_, select, update

from batcher.ledger.runs import DIED
from batcher.ledger.schema import answers, attempts, failures, invocations, shared_answers
from batcher.ledger.write.records import Intent, Quarantine, Record, RowFailure, Settlement
from batcher.messages.answer import Answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import Failure, FailureKind, Verdict
from batcher.messages.request import (
    Answered,
    Attempt,
    Partial,
    State,
    Unusable,
    invocation_of,
)


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


_SAID: Final = ("model", "stop_reason", "stop_sequence", "container_id")


def mended(record: Record) -> Record:
    """The same record without what a database may refuse: an answer is unusable, its row held.

    Rows are checked before they are sent, so that theirs are hardly ever the offending texts;
    they lose their custom_id.
    """
    match record:
        case Intent():
            return Intent(attempt=_plain(record.attempt))
        case Settlement():
            return without_offending_values(record)
        case Quarantine():
            said = "the database refused a text of this row"
            bare = replace(record.row, custom_id=None, reason="not_storable", message=said)
            return Quarantine(row=bare)
        case _:
            assert_never(record)


def without_offending_values(settlement: Settlement) -> Settlement:
    """The same attempt, settled as unusable: in doubt, its bytes kept, the row held."""
    outcome = settlement.outcome
    body = b""
    if isinstance(outcome, (Answered, Partial)):
        body = _bytes_of(outcome.answer)
    elif isinstance(outcome, Unusable):
        body = outcome.body
    message = "the database refused a value of this answer; its bytes are kept"
    failure = Failure(verdict=Verdict.FAIL_ROW, error_type="not_storable", message=message)
    exchange = replace(
        outcome.exchange, provider_request_id=None, workspace_id=None, reported_cost=None
    )
    return replace(
        settlement,
        attempt=_plain(settlement.attempt),
        outcome=Unusable(exchange, failure, body),
        state=State.UNUSABLE,
        pending=False,
        final=False,
        charges=(),
        joined_content=None,
        joined_text=None,
        valid=None,
        invalid_reason=None,
        cost_low=0,
        cost_high=settlement.attempt.cost_high,
        failure=RowFailure(
            kind=FailureKind.HELD, reason="not_storable", message=message, transient=False
        ),
    )


def _plain(attempt: Attempt) -> Attempt:
    """The attempt without the texts of its row."""
    request = attempt.request
    model = request.model.encode("ascii", "replace").decode().replace("\0", "?")[:100]
    return replace(attempt, request=replace(request, custom_id=None, model=model))


def _bytes_of(answer: Answer) -> bytes:
    """The message as it was understood; of one that is no JSON any more what was said."""
    fields = {name: getattr(answer, name) for name in _SAID}
    raw = {
        "content": msgspec.Raw(answer.content),
        "usage": msgspec.Raw(answer.usage_raw or b"null"),
    }
    try:
        return msgspec.json.encode({"id": answer.message_id, **fields, **raw})
    except CODEC_ERRORS:
        return answer.content + b"\n" + (answer.usage_raw or b"")
