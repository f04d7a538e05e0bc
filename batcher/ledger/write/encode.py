"""From records to the rows of the hot path's statements, with as much of an answer as is kept.

Each function says by name what goes into which column; what it returns at last are the values
alone, in the order that its statement wants, at no cost.

What money is computed from is always kept. What is not is an empty `text` and the JSON `null`
as `content`, which no answer has: a content without blocks stays `[]`, since a refusal without
output is priced by it.
"""

import ast
import linecache
from collections.abc import Callable, Sequence
from operator import itemgetter
from types import CodeType
from typing import Any, Final, ParamSpec

import msgspec
from msgspec.structs import replace
from sqlalchemy import Connection, case, delete, select, text, update

from batcher.ledger.schema import NOT_KEPT, answers
from batcher.ledger.schema_internal import tool_results
from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    RowFailure,
    Scope,
    Settlement,
    checksum_of,
    identity,
)
from batcher.ledger.write.statements import ANSWER, CHARGE, FAILURE, INTENT, SETTLED
from batcher.messages.answer import Answer, Store
from batcher.messages.request import Answered, Partial, Unusable
from batcher.messages.usage import Usage
from batcher.pricing.rate.rating import Charge, ChargeStatus

Row = dict[str, Any]
Values = tuple[Any, ...]
P = ParamSpec("P")


def in_order_of(names: Sequence[str]) -> Callable[[Callable[P, Row]], Callable[P, Values]]:
    """Make of a function that returns a row one that returns its values, in this order.

    The function has to end with `return` and the row as a dict literal. It is compiled once
    more, with a tuple in place of the dict: to make a dict of every row, and to take it apart
    again, costs a run on SQLite a fortieth of its time. Where its source is not at hand, that
    is what happens.

    Raises:
        ValueError: the row has no value for a name, or one for another name.
    """

    def in_order(function: Callable[P, Row]) -> Callable[P, Values]:
        code = function.__code__
        source = _source_of(code)
        if not source:
            values_of = itemgetter(*names)
            return lambda *given, **named: values_of(function(*given, **named))
        tree = ast.parse(source)
        _return_values(tree, names)
        ast.increment_lineno(tree, code.co_firstlineno - 1)
        made: dict[str, Callable[P, Values]] = {}
        again = compile(tree, code.co_filename, "exec")
        exec(again, function.__globals__, made)  # noqa: S102 - the function itself, but for its end
        return made[function.__name__]

    return in_order


def _source_of(code: CodeType) -> str:
    """As `inspect.getsource`, which reads every token of it and takes ten times as long.

    Empty where the interpreter was told to keep no places (`-X no_debug_ranges`), and for code
    that is in no file: since Python 3.13 the lines of `<string>` are those of any `-c`.
    """
    if code.co_filename.startswith("<"):
        return ""
    ends = (end for _, end, column, _ in code.co_positions() if end and column is not None)
    last = max(ends, default=0)
    return "".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : last])


def _return_values(tree: ast.Module, names: Sequence[str]) -> None:
    match tree.body:
        case [ast.FunctionDef(body=[*_, ast.Return(value=ast.Dict() as row) as end]) as whole]:
            whole.decorator_list = []
        case _:
            raise ValueError("a function does not end with the row that it returns")
    values = {
        ast.literal_eval(key): value
        for key, value in zip(row.keys, row.values, strict=True)
        if key is not None
    }
    if differing := set(names) ^ values.keys():
        raise ValueError(f"{whole.name} and its statement differ in {sorted(differing)}")
    end.value = ast.copy_location(ast.Tuple([values[n] for n in names], ast.Load()), row)


_NO_USAGE = Usage()
_encode = msgspec.json.Encoder().encode


@in_order_of(INTENT)
def intent_values(intent: Intent, scope: Scope) -> Row:
    """A row of `attempts`, as far as an intent knows it."""
    attempt = intent.attempt
    request, cached = attempt.request, attempt.cached
    return {
        "attempt_id": attempt.attempt_id,
        "attempt_uid": attempt.uid,
        "invocation_id": attempt.invocation_id or scope.invocation_id,
        "request_id": attempt.request_id,
        "source_id": request.source_id,
        "row_number": request.row_number,
        "byte_offset": request.byte_offset,
        "custom_id": request.custom_id,
        "params_hash": request.params_hash,
        "number": attempt.number,
        "leg": attempt.leg,
        "purpose": attempt.purpose._value_,
        "lane": scope.lane,
        "requested_model": request.model,
        "state": "open",
        "pending": 1,
        "opened_at": attempt.opened_at,
        "cost_low": 0,
        "cost_high": attempt.cost_high,
        "batch_number": 0 if scope.in_batches else None,
        "cache_prefix": None if cached is None else cached.prefix,
        "cache_note": None if cached is None else cached.note,
    }


@in_order_of(SETTLED)
def settled_values(settlement: Settlement) -> Row:
    """What changes in a row of `attempts`, and at last in which."""
    outcome = settlement.outcome
    exchange = outcome.exchange
    failure = None if isinstance(outcome, Answered) else outcome.failure
    return {
        "state": settlement.state._value_,
        "pending": int(settlement.pending),
        "sent_at": exchange.sent_at,
        "settled_at": exchange.settled_at,
        "http_status": exchange.http_status,
        "error_type": failure.error_type if failure else None,
        "error_code": failure.error_code if failure else None,
        "error_message": failure.message if failure else None,
        "provider_request_id": exchange.provider_request_id,
        "cost_low": settlement.cost_low,
        "cost_high": settlement.cost_high,
        "workspace_id": exchange.workspace_id,
        "b_attempt_id": settlement.attempt.attempt_id,
    }


@in_order_of(ANSWER)
def answer_values(settlement: Settlement, outcome: Answered | Partial, scope: Scope) -> Row:
    """A row of `answers`."""
    attempt, answer, exchange = settlement.attempt, outcome.answer, outcome.exchange
    request = attempt.request
    usage = answer.usage or _NO_USAGE
    return {
        "attempt_id": attempt.attempt_id,
        "request_id": attempt.request_id,
        "run_id": scope.run_id,
        "invocation_id": attempt.invocation_id or scope.invocation_id,
        "source_id": request.source_id,
        "row_number": request.row_number,
        "custom_id": request.custom_id,
        "params_hash": request.params_hash,
        "identity": identity(request.custom_id, request.params_hash),
        "final": int(settlement.final),
        "requested_model": request.model,
        "model": answer.model,
        "message_id": answer.message_id,
        "stop_reason": answer.stop_reason,
        "stop_sequence": answer.stop_sequence,
        "stop_details": answer.stop_details and answer.stop_details.decode(),
        "container_id": answer.container_id,
        "text": answer.text,
        "text_repaired": int(answer.text_repaired),
        "content": answer.content.decode(),
        "joined_text": settlement.joined_text,
        "joined_content": settlement.joined_content,
        "input_tokens": usage.input_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "cache_write_5m_tokens": usage.cache_write_5m_tokens,
        "cache_write_1h_tokens": usage.cache_write_1h_tokens,
        "cache_read_tokens": usage.cache_read_tokens,
        "output_tokens": usage.output_tokens,
        "thinking_tokens": usage.thinking_tokens,
        "web_search_requests": usage.web_search_requests,
        "service_tier": usage.service_tier,
        "inference_geo": usage.inference_geo,
        "speed": usage.speed,
        "usage": answer.usage_raw and answer.usage_raw.decode(),
        "provider_reported_cost": _reported_cost(answer, exchange.reported_cost),
        "attempts": attempt.number,
        "legs": attempt.leg,
        "latency_us": exchange.settled_at - exchange.sent_at,
        "first_token_us": exchange.first_token_us,
        "answered_at": exchange.settled_at,
        "valid": None if settlement.valid is None else int(settlement.valid),
        "invalid_reason": settlement.invalid_reason,
        "evidence": None if answer.evidence is None else _encode(answer.evidence).decode(),
        "checksum": checksum_of(
            answer.content,
            answer.usage_raw,
            settlement.joined_content,
            settlement.joined_text,
        ),
    }


@in_order_of(CHARGE)
def charge_values(
    attempt_id: int, rating_id: int, charge: Charge, rate_set_id: int | None
) -> Row:
    """A row of `charges`."""
    in_tokens, write_5m, write_1h, read, out_tokens, searches = charge.quantities
    in_cost, write_5m_cost, write_1h_cost, read_cost, out_cost, search_cost = charge.amounts
    currency = charge.rates.currency if charge.rates else None
    return {
        "attempt_id": attempt_id,
        "line": charge.line,
        "rating_id": rating_id,
        "current": 1,
        "model": charge.model,
        "rate_set_id": rate_set_id,
        "currency": currency,
        "status": charge.status._value_,
        "reason": charge.reason,
        "input_quantity": in_tokens,
        "cache_write_5m_quantity": write_5m,
        "cache_write_1h_quantity": write_1h,
        "cache_read_quantity": read,
        "output_quantity": out_tokens,
        "web_search_quantity": searches,
        "input_amount": in_cost,
        "cache_write_5m_amount": write_5m_cost,
        "cache_write_1h_amount": write_1h_cost,
        "cache_read_amount": read_cost,
        "output_amount": out_cost,
        "web_search_amount": search_cost,
        "total_amount": charge.total,
        "high_amount": charge.high if charge.status is ChargeStatus.ASSUMED else None,
    }


@in_order_of(FAILURE)
def failure_values(settlement: Settlement, scope: Scope) -> Row:
    """A row of `failures`; only for settlements with a failure."""
    failure, attempt = settlement.failure, settlement.attempt
    if failure is None:
        raise ValueError("a settlement without a failure has no failure row")
    request = attempt.request
    return {
        "run_id": scope.run_id,
        "invocation_id": attempt.invocation_id or scope.invocation_id,
        "source_id": request.source_id,
        "row_number": request.row_number,
        "byte_offset": request.byte_offset,
        "custom_id": request.custom_id,
        "params_hash": request.params_hash,
        "identity": identity(request.custom_id, request.params_hash),
        "kind": failure.kind._value_,
        "reason": failure.reason,
        "message": failure.message,
        "transient": int(failure.transient),
        "attempt_id": attempt.attempt_id,
        "failed_at": settlement.outcome.exchange.settled_at,
    }


@in_order_of(FAILURE)
def quarantine_values(record: Quarantine, scope: Scope, now_us: int) -> Row:
    """A row of `failures`."""
    row = record.row
    return {
        "run_id": scope.run_id,
        "invocation_id": scope.invocation_id,
        "source_id": row.source_id,
        "row_number": row.row_number,
        "byte_offset": row.byte_offset,
        "custom_id": row.custom_id,
        "params_hash": None,
        "identity": None,
        "kind": "quarantined",
        "reason": row.reason,
        "message": row.message,
        "transient": 0,
        "attempt_id": None,
        "failed_at": now_us,
    }


def _reported_cost(answer: Answer, header: str | None) -> str | None:
    in_usage = answer.usage.provider_reported_cost if answer.usage else None
    return in_usage if in_usage is not None else header


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
