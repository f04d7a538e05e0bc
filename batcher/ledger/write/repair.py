"""What is kept of an answer that a database refuses to store."""

from typing import Final

from msgspec.structs import replace
from sqlalchemy.exc import DataError, IntegrityError, InterfaceError

from batcher.ledger.write.records import FailureKind, RowFailure, Settlement
from batcher.messages.attempt import Answered, Partial, State, Unusable
from batcher.messages.failure import Failure, Verdict

# What a driver raises for values it cannot store; the statement is at fault, not the database.
BAD_VALUES: Final = (DataError, IntegrityError, InterfaceError, OverflowError, UnicodeError)


def without_offending_values(settlement: Settlement) -> Settlement:
    """The same attempt, settled as unusable: in doubt, its bytes kept, the row held."""
    outcome = settlement.outcome
    body = b""
    if isinstance(outcome, (Answered, Partial)):
        body = outcome.answer.content + b"\n" + (outcome.answer.usage_raw or b"")
    message = "the database refused a value of this answer; its bytes are kept"
    failure = Failure(verdict=Verdict.FAIL_ROW, error_type="not_storable", message=message)
    exchange = replace(
        outcome.exchange, provider_request_id=None, workspace_id=None, reported_cost=None
    )
    return replace(
        settlement,
        outcome=Unusable(exchange, failure, body),
        state=State.UNUSABLE,
        pending=False,
        final=False,
        charges=(),
        cost_low=0,
        cost_high=settlement.attempt.cost_high,
        failure=RowFailure(
            kind=FailureKind.HELD, reason="not_storable", message=message, transient=False
        ),
    )
