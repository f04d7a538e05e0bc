"""Messages, and the streams that say the same."""

import json
from pathlib import Path
from typing import Any

from batcher.messages.answer import Answer, parse_answer
from batcher.messages.stream import MessageStream
from batcher.simulator.answers.plan import message_events
from batcher.simulator.wire.forms import StreamForm, in_form, written

Fields = dict[str, Any]

USAGE = {
    "input_tokens": 2679,
    "cache_creation_input_tokens": 5,
    "cache_read_input_tokens": 0,
    "cache_creation": {"ephemeral_5m_input_tokens": 5, "ephemeral_1h_input_tokens": 0},
    "output_tokens": 89,
    "service_tier": "standard",
}


def made(content: list[Fields], **fields: Any) -> Fields:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-6",
        "content": content, "stop_reason": "end_turn", "stop_sequence": None,
        "stop_details": None, "container": None, "usage": USAGE,
    } | fields  # fmt: skip


TEXT = {"type": "text", "text": "Ä straße, ☃ and \U0001f600,\n\nthen more.", "citations": None}
THINKING = {"type": "thinking", "thinking": "", "signature": "SIG"}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1, "b": [1.5, "ö"]}}
NO_INPUT = {"type": "tool_use", "id": "toolu_2", "name": "g", "input": {}}
SERVER = {
    "type": "server_tool_use",
    "id": "srvtoolu_1",
    "name": "web_search",
    "input": {"q": 1},
}
RESULT = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
REDACTED = {"type": "redacted_thinking", "data": "opaque=="}

MESSAGES: dict[str, Fields] = {
    "text": made([TEXT]),
    "thinking and a tool": made([THINKING, TOOL], stop_reason="tool_use"),
    "blocks of every kind": made([REDACTED, SERVER, RESULT, TEXT, TEXT, NO_INPUT]),
    "refusal": made([], stop_reason="refusal", stop_details={"type": "refusal"}),
    "stop sequence": made([TEXT], stop_reason="stop_sequence", stop_sequence="\n\nHuman"),
    "pause": made([TEXT, SERVER], stop_reason="pause_turn", container={"id": "c_1"}),
    "unknown stop": made([{"type": "future", "x": [1, 2.50]}], stop_reason="future_reason"),
    "two usage fields": made([TEXT], usage={"input_tokens": 18, "output_tokens": 34}),
}


def stream_of(message: Fields, *switches: str, **fields: Any) -> bytes:
    """The message as a stream in a form of the simulator's."""
    form = StreamForm(switches=frozenset(switches), **fields)
    events = in_form(message_events(message), form)
    last = len(events) - 1
    return b"".join(written(event, form, is_last=n == last) for n, event in enumerate(events))


def sse(*events: Fields) -> bytes:
    """Events with their names, as they would come."""
    lines = (f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)
    return "".join(lines).encode()


def begun(**fields: Any) -> Fields:
    """A `message_start`."""
    usage = {"input_tokens": 10, "output_tokens": 1}
    message = made([], stop_reason=None, usage=usage) | fields
    return {"type": "message_start", "message": message}


def block(index: int, **fields: Any) -> Fields:
    return {"type": "content_block_start", "index": index, "content_block": fields}


def delta(index: int, kind: str, **fields: Any) -> Fields:
    given = {"type": kind, **fields}
    return {"type": "content_block_delta", "index": index, "delta": given}


def ended(reason: str | None = "end_turn", usage: Fields | None = None) -> Fields:
    """A `message_delta`."""
    given = {} if usage is None else {"usage": usage}
    return {"type": "message_delta", "delta": {"stop_reason": reason}} | given


STOP: Fields = {"type": "message_stop"}


def fold(*chunks: bytes) -> MessageStream:
    """What is known when exactly these chunks have come."""
    stream = MessageStream()
    for chunk in chunks:
        stream.feed(chunk)
    stream.finish()
    return stream


def answer_in(*chunks: bytes) -> Answer:
    return parse_answer(fold(*chunks).message())


def meaning(answer: Answer) -> Fields:
    """What an answer says; its raw parts as values, since white space is the server's."""
    fields = {name: getattr(answer, name) for name in answer.__struct_fields__}
    for name in ("content", "usage_raw", "stop_details"):
        fields[name] = None if fields[name] is None else json.loads(fields[name])
    return fields


def whole(message: Fields) -> Answer:
    """The same message as it would come without a stream."""
    return parse_answer(json.dumps(message).encode())


FIXTURE = (Path(__file__).parent / "stream.sse").read_bytes()
