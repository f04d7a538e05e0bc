"""What became of a row, as a line of the results of a Message Batch."""

from collections.abc import Mapping
from typing import Any, Final

from batcher.messages.failure import FailureKind
from batcher.report.export.past_damage import UNREADABLE
from batcher.report.export.rows import ANSWER_NOT_KEPT, ANSWERED

RESULT_LINE: Final = ("custom_id", "result")
# What the provider calls an error; whatever else ended a row is an `api_error`.
_ERROR_TYPES: Final = frozenset(
    (
        *("invalid_request_error", "authentication_error", "billing_error", "permission_error"),
        *("not_found_error", "rate_limit_error", "timeout_error", "overloaded_error"),
        "api_error",
    )
)


def result_line(name: str, outcome: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line of a row that has ended; `None` where its answer cannot be told.

    `name` stands in where the row has no `custom_id`.
    """
    if outcome["status"] == UNREADABLE or outcome.get("reason") == ANSWER_NOT_KEPT:
        return None
    if outcome["status"] == ANSWERED:
        result = {"type": "succeeded", "message": _message(outcome)}
    else:
        result = {"type": "errored", "error": _error(outcome)}
    return {"custom_id": outcome.get("custom_id") or name, "result": result}


def _message(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": outcome["message_id"],
        "type": "message",
        "role": "assistant",
        "model": outcome["model"],
        "content": outcome["content"],
        "stop_reason": outcome["stop_reason"],
        "stop_sequence": outcome["stop_sequence"],
        "usage": _usage(outcome),
    }


def _usage(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Of all legs together, as the cost is."""
    searches = outcome["web_search_requests"]
    return {
        "input_tokens": outcome["input_tokens"],
        "cache_creation_input_tokens": outcome["cache_write_tokens"],
        "cache_read_input_tokens": outcome["cache_read_tokens"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": outcome["cache_write_5m_tokens"] or 0,
            "ephemeral_1h_input_tokens": outcome["cache_write_1h_tokens"] or 0,
        },
        "output_tokens": outcome["output_tokens"],
        "server_tool_use": {"web_search_requests": searches} if searches else None,
        "service_tier": outcome["service_tier"],
    }


def _error(outcome: Mapping[str, Any]) -> dict[str, Any]:
    reason, refused = outcome["reason"], outcome["status"] == FailureKind.QUARANTINED
    kind = "invalid_request_error" if refused else reason
    known = kind if kind in _ERROR_TYPES else "api_error"
    message = f"{outcome['status']}, {reason}: {outcome['message']}"
    return {"type": "error", "error": {"type": known, "message": message}, "request_id": None}
