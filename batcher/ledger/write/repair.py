"""What is kept of a record that a database refuses to store."""

from typing import assert_never

import msgspec
from msgspec.structs import replace

from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    Record,
    RowFailure,
    Settlement,
)
from batcher.messages.answer import Answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import Failure, FailureKind, Verdict
from batcher.messages.request import Answered, Attempt, Partial, State, Unusable


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


_SAID = ("model", "stop_reason", "stop_sequence", "container_id")
