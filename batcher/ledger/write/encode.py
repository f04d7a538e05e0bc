"""From records to the values of the hot path's statements, column by column."""

from typing import Any

from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    Scope,
    Settlement,
    identity,
)
from batcher.messages.answer import Answer
from batcher.messages.attempt import Answered, Partial
from batcher.messages.usage import Usage
from batcher.pricing.rate.rating import Charge

_NO_USAGE = Usage()


def intent_values(intent: Intent, scope: Scope) -> tuple[Any, ...]:
    """In the order of `statements.INTENT`."""
    attempt = intent.attempt
    request = attempt.request
    return (
        attempt.attempt_id,
        attempt.uid,
        scope.invocation_id,
        attempt.request_id,
        request.source_id,
        request.row_number,
        request.byte_offset,
        request.custom_id,
        request.params_hash,
        attempt.number,
        attempt.leg,
        attempt.purpose.value,
        scope.lane,
        request.model,
        "open",
        1,
        attempt.opened_at,
        0,
        attempt.cost_high,
    )


def settled_values(settlement: Settlement) -> tuple[Any, ...]:
    """In the order of `statements.SETTLED`."""
    outcome = settlement.outcome
    exchange = outcome.exchange
    failure = None if isinstance(outcome, Answered) else outcome.failure
    return (
        settlement.state.value,
        int(settlement.pending),
        exchange.sent_at,
        exchange.settled_at,
        exchange.http_status,
        failure.error_type if failure else None,
        failure.error_code if failure else None,
        failure.message if failure else None,
        exchange.provider_request_id,
        settlement.cost_low,
        settlement.cost_high,
        exchange.workspace_id,
        settlement.attempt.attempt_id,
    )


def answer_values(
    settlement: Settlement, outcome: Answered | Partial, scope: Scope
) -> tuple[Any, ...]:
    """In the order of `statements.ANSWER`."""
    attempt, answer, exchange = settlement.attempt, outcome.answer, outcome.exchange
    request = attempt.request
    usage = answer.usage or _NO_USAGE
    return (
        attempt.attempt_id,
        attempt.request_id,
        scope.run_id,
        scope.invocation_id,
        request.source_id,
        request.row_number,
        request.custom_id,
        request.params_hash,
        identity(request.custom_id, request.params_hash),
        int(settlement.final),
        request.model,
        answer.model,
        answer.message_id,
        answer.stop_reason,
        answer.stop_sequence,
        _text(answer.stop_details),
        answer.container_id,
        answer.text,
        int(answer.text_repaired),
        answer.content.decode(),
        settlement.joined_text,
        settlement.joined_content,
        usage.input_tokens,
        usage.cache_write_tokens,
        usage.cache_write_5m_tokens,
        usage.cache_write_1h_tokens,
        usage.cache_read_tokens,
        usage.output_tokens,
        usage.thinking_tokens,
        usage.web_search_requests,
        usage.service_tier,
        usage.inference_geo,
        usage.speed,
        _text(answer.usage_raw),
        _reported_cost(answer, exchange.reported_cost),
        attempt.number,
        attempt.leg,
        exchange.settled_at - exchange.sent_at,
        exchange.first_token_us,
        exchange.settled_at,
        None if settlement.valid is None else int(settlement.valid),
        settlement.invalid_reason,
    )


def charge_values(
    attempt_id: int, rating_id: int, charge: Charge, rate_set_id: int | None
) -> tuple[Any, ...]:
    """In the order of `statements.CHARGE`."""
    currency = charge.rates.currency if charge.rates else None
    return (
        attempt_id,
        charge.line,
        rating_id,
        1,
        charge.model,
        rate_set_id,
        currency,
        charge.status.value,
        charge.reason,
        *charge.quantities,
        *charge.amounts,
        charge.total,
    )


def failure_values(settlement: Settlement, scope: Scope) -> tuple[Any, ...]:
    """In the order of `statements.FAILURE`; only for settlements with a failure."""
    failure, attempt = settlement.failure, settlement.attempt
    if failure is None:
        raise ValueError("a settlement without a failure has no failure row")
    request = attempt.request
    return (
        scope.run_id,
        scope.invocation_id,
        request.source_id,
        request.row_number,
        request.byte_offset,
        request.custom_id,
        request.params_hash,
        identity(request.custom_id, request.params_hash),
        failure.kind.value,
        failure.reason,
        failure.message,
        int(failure.transient),
        attempt.attempt_id,
        settlement.outcome.exchange.settled_at,
    )


def quarantine_values(record: Quarantine, scope: Scope, now_us: int) -> tuple[Any, ...]:
    """In the order of `statements.FAILURE`."""
    row = record.row
    return (
        scope.run_id,
        scope.invocation_id,
        row.source_id,
        row.row_number,
        row.byte_offset,
        row.custom_id,
        None,
        None,
        "quarantined",
        row.reason,
        row.message,
        0,
        None,
        now_us,
    )


def _text(raw: bytes | None) -> str | None:
    return None if raw is None else raw.decode()


def _reported_cost(answer: Answer, header: str | None) -> str | None:
    in_usage = answer.usage.provider_reported_cost if answer.usage else None
    return in_usage if in_usage is not None else header
