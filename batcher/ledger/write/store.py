"""How much of an answer is kept; what money is computed from always is.

What is not kept is an empty `text` and the JSON `null` as `content`, which no answer has: a
content without blocks stays `[]`, since a refusal without output is priced by it.
"""

from collections.abc import Sequence
from typing import Any, Final

from msgspec.structs import replace
from sqlalchemy import Connection, case, delete, select, text, update

from batcher.ledger.schema import NOT_KEPT, answers
from batcher.ledger.schema_internal import tool_results
from batcher.ledger.write.records import RowFailure, Settlement
from batcher.messages.answer import Answer, Store
from batcher.messages.request import Answered, Partial, Unusable

# The columns of an answer that hold what was said, and what they hold afterwards.
WITHOUT_WORDS: Final[dict[str, Any]] = {
    "text": "",
    "text_repaired": 0,
    "content": case((answers.c.content == "[]", "[]"), else_=NOT_KEPT),
    "joined_text": None,
    "joined_content": None,
    "stop_sequence": None,
    "stop_details": None,
    "invalid_reason": None,
    "checksum": None,
}


def kept(settlement: Settlement, store: Store) -> Settlement:
    """`settlement` without what is not to be stored.

    An answer that its row's next leg needs stays until `drop_earlier`.
    """
    if store is Store.FULL:
        return settlement
    outcome = settlement.outcome
    if isinstance(outcome, Unusable):
        return replace(settlement, outcome=replace(outcome, body=b""))
    if isinstance(outcome, Partial):
        return replace(settlement, outcome=replace(outcome, answer=_wordless(outcome.answer)))
    if store is Store.ANSWER or not isinstance(outcome, Answered):
        return settlement
    answer = outcome.answer if settlement.pending else _wordless(outcome.answer)
    return replace(
        settlement,
        outcome=replace(outcome, answer=answer),
        joined_content=None,
        joined_text=None,
        invalid_reason=None,
        failure=_without_quotes(settlement),
    )


def drop_earlier(connection: Connection, request_ids: Sequence[int], store: Store) -> None:
    """These requests are finished: their legs and tool results are no longer needed."""
    if store is Store.FULL or not request_ids:
        return
    earlier = (text("final = 0"), answers.c.request_id.in_(request_ids))
    legs = select(answers.c.attempt_id).where(*earlier)
    connection.execute(delete(tool_results).where(tool_results.c.attempt_id.in_(legs)))
    if store is Store.USAGE:
        connection.execute(update(answers).where(*earlier).values(WITHOUT_WORDS))


def _wordless(answer: Answer) -> Answer:
    return replace(
        answer,
        text="",
        text_repaired=False,
        content=answer.content if answer.is_empty else NOT_KEPT.encode(),
        stop_sequence=None,
        stop_details=None,
    )


def _without_quotes(settlement: Settlement) -> RowFailure | None:
    """The failure of an answer that is not good enough; why it breaks its schema quotes it."""
    failure = settlement.failure
    if failure is None:
        return None
    message = f"{failure.message}, without its words (store = usage)"
    if settlement.invalid_reason is not None:
        message = "the answer does not follow its schema; it was not stored (store = usage)"
    return RowFailure(
        kind=failure.kind,
        reason=failure.reason,
        message=message,
        transient=failure.transient,
    )
