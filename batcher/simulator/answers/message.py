"""An answer as one JSON object, and as a stream of events."""

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from batcher.simulator.answers.meters import usage_object
from batcher.simulator.answers.plan import Block, Plan
from batcher.simulator.wire.stream_form import Event

_DELTA_CHARACTERS: Final = 24
_START_ONLY: Final = ("cache_creation", "service_tier", "inference_geo", "speed")


def message_object(
    plan: Plan, message_id: str, usage_form: str | None, tier: str = "standard"
) -> dict[str, Any]:
    """The `Message`; `usage_form` is one of the markers' `USAGE_FORMS` or `None`."""
    message = {
        "id": message_id,
        "type": "message",
        "role": "assistant",
        "model": plan.model,
        "content": plan.content,
        "stop_reason": plan.stop_reason,
        "stop_sequence": plan.stop_sequence,
        "stop_details": plan.stop_details,
        "container": None,
        "usage": usage_object(plan.meters, usage_form, tier),
    }
    if usage_form == "none":
        del message["usage"]
    return message


def message_events(message: dict[str, Any]) -> Iterator[Event]:
    """The same message as (event name, fields); usage in `message_delta` is cumulative."""
    start = message | {
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "stop_details": None,
    }
    usage = message.get("usage")
    if usage and "output_tokens" in usage:
        start["usage"] = usage | {"output_tokens": min(usage["output_tokens"], 1)}
    yield ("message_start", {"message": start})
    yield ("ping", {})
    for index, block in enumerate(message["content"]):
        yield from _block_events(index, block)
    names = ("stop_reason", "stop_sequence", "stop_details")
    delta: dict[str, Any] = {"delta": {name: message[name] for name in names}}
    if usage:
        delta["usage"] = {name: usage[name] for name in usage if name not in _START_ONLY}
    yield ("message_delta", delta)
    yield ("message_stop", {})


def error_event(kind: str, text: str, request_id: str) -> Event:
    """An error after the stream has begun."""
    error = {"type": kind, "message": text, "details": None}
    return "error", {"error": error, "request_id": request_id}


def _block_events(index: int, block: Block) -> Iterator[Event]:
    opening, deltas = _opened(block)
    yield ("content_block_start", {"index": index, "content_block": opening})
    for delta in deltas:
        yield ("content_block_delta", {"index": index, "delta": delta})
    yield ("content_block_stop", {"index": index})


def _opened(block: Block) -> tuple[Block, list[Block]]:
    match block["type"]:
        case "text":
            pieces = _pieces(block["text"])
            return block | {"text": ""}, [{"type": "text_delta", "text": p} for p in pieces]
        case "tool_use" | "server_tool_use":
            pieces = _pieces(msgspec.json.encode(block["input"]).decode())
            deltas = [{"type": "input_json_delta", "partial_json": p} for p in ["", *pieces]]
            return block | {"input": {}}, deltas
        case "thinking":
            delta = {"type": "signature_delta", "signature": block["signature"]}
            return block | {"signature": ""}, [delta]
        case _:
            return block, []


def _pieces(text: str) -> list[str]:
    """At least two pieces, so that every reader has to join them."""
    size = max(min(_DELTA_CHARACTERS, (len(text) + 1) // 2), 1)
    if len(text) > 40 * _DELTA_CHARACTERS:
        size = len(text) // 40
    return [text[start : start + size] for start in range(0, len(text), size)]
