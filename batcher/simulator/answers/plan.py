"""What a request is answered with: a pure function of the seed, the body and the prompt cache.

Texts are filler of about four characters per token; tool inputs and structured answers are
values that fit their JSON Schema. The answer is written as one JSON object, or as events.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from batcher.simulator.answers.usage import (
    CachedPrefix,
    Meters,
    measure,
    usage_object,
)
from batcher.simulator.wire import checks
from batcher.simulator.wire.faults import without_markers
from batcher.simulator.wire.forms import Event
from batcher.simulator.wire.requests import Body


def value_for(schema: object, depth: int = 0) -> object:
    """A plain value that `schema` accepts; only the usual keywords are understood.

    Without a usable type it is a string; nesting ends at a depth of 8.
    """
    if not isinstance(schema, dict) or depth > 8:
        return "example"
    if "const" in schema:
        return schema["const"]
    for keyword in ("enum", "anyOf", "oneOf", "allOf"):
        choices = schema.get(keyword)
        if isinstance(choices, list) and choices:
            return choices[0] if keyword == "enum" else value_for(choices[0], depth + 1)
    return _typed(schema, depth)


def _typed(schema: dict[str, Any], depth: int) -> object:
    kind = schema.get("type")
    kind = kind[0] if isinstance(kind, list) and kind else kind
    if kind == "object" or "properties" in schema:
        properties = schema.get("properties")
        named = properties.items() if isinstance(properties, dict) else ()
        return {name: value_for(inner, depth + 1) for name, inner in named}
    if kind == "array":
        return [value_for(schema.get("items"), depth + 1)]
    plain = {"integer": 7, "number": 7.5, "boolean": True, "null": None}
    return plain.get(str(kind), "example")


_SENTENCES: Final = (
    "The short answer is yes, with one condition that is easy to check.",
    "Most of the difference comes from the first step, not from the last.",
    "A small example makes this clearer than any definition.",
    "It helps to look at the extremes before looking at the average.",
    "Both sides of the comparison agree on the facts and differ in the weights.",
    "The usual mistake is to measure the effort instead of the result.",
    "Seen over a whole year the pattern is steady and rather calm.",
    "Nothing here depends on the order in which the parts are read.",
    "The second option costs less and asks for a little more care.",
    "What remains is a question of taste, and tastes may differ.",
)
_PAGE: Final = " ".join(_SENTENCES) + " "
_PROMPT_SHOWN: Final = 60


def answer_text(prompt: str, *, tokens: int, offset: int, is_cut: bool) -> str:
    """About `tokens` tokens of text on `prompt`; `is_cut` leaves the end open."""
    length = max(4 * tokens, 1)
    shown = " ".join(prompt[: 2 * _PROMPT_SHOWN].split())[:_PROMPT_SHOWN].strip()
    opening = f"On \u201c{shown}\u201d: " if shown else ""
    start = sum(len(sentence) + 1 for sentence in _SENTENCES[: offset % len(_SENTENCES)])
    repeats = (start + length) // len(_PAGE) + 1
    text = (opening + (_PAGE * repeats)[start:])[:length]
    return text if is_cut else text.rpartition(" ")[0].rstrip(".,") + "."


Block = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One answer before it is written down."""

    model: str
    content: list[Block]
    stop_reason: str | None
    stop_sequence: str | None
    stop_details: Block | None
    meters: Meters

    @property
    def is_charged(self) -> bool:
        """A refusal before any output costs nothing."""
        return self.stop_reason != "refusal" or self.meters.output > 0


def make_plan(body: Body, cache: CachedPrefix) -> Plan:
    """The answer to `body`, and what of its prompt the cache took part in."""
    server_tool = _server_tool(body)
    reason = _stop_reason(body, server_tool)
    output = _output_tokens(body, reason)
    searches = _searches(body, server_tool, reason)
    meters = measure(body, cache, output=output, searches=searches)
    return Plan(
        model=body.markers.model or body.model,
        content=list(_content(body, reason, meters, server_tool)),
        stop_reason=None if reason == "null" else reason,
        stop_sequence=_stop_sequence(body) if reason == "stop_sequence" else None,
        stop_details=_REFUSAL if reason == "refusal" else None,
        meters=meters,
    )


_REFUSAL: Final = {
    "type": "refusal",
    "category": "general_harms",
    "explanation": "The simulator was told to refuse.",
}


def _stop_reason(body: Body, server_tool: str | None) -> str:
    fields, markers = body.fields, body.markers
    if markers.stop is not None and not _is_overridden(body):
        return markers.stop
    if fields["max_tokens"] == 0:
        return "max_tokens"
    if server_tool and checks.legs_done(fields["messages"]) < _pauses(body):
        return "pause_turn"
    if _client_tool(body) is not None and not checks.answers_a_tool(fields["messages"]):
        return "tool_use"
    if _planned_output(body) > fields["max_tokens"]:
        return "max_tokens"
    return "stop_sequence" if fields.get("stop_sequences") and body.draw(0, 2) else "end_turn"


def _is_overridden(body: Body) -> bool:
    """A marker asks for a stop of the first leg; what continues it must be able to end."""
    ends = body.markers.stop in ("pause_turn", "tool_use")
    messages = body.fields["messages"]
    return ends and (checks.legs_done(messages) > 0 or checks.answers_a_tool(messages))


def _pauses(body: Body) -> int:
    return 1 if body.markers.pause is None else body.markers.pause


def _server_tool(body: Body) -> str | None:
    for tool in body.fields.get("tools") or ():
        if str(tool.get("type", "")).startswith(
            ("web_search_", "web_fetch_", "code_execution_")
        ):
            return str(tool.get("name"))
    is_ordered = body.markers.pause is not None or body.markers.stop == "pause_turn"
    return "web_search" if is_ordered else None


def _client_tool(body: Body) -> Block | None:
    choice = body.fields.get("tool_choice") or {}
    tools = [
        tool
        for tool in body.fields.get("tools") or ()
        if "input_schema" in tool and tool.get("name") == choice.get("name", tool.get("name"))
    ]
    return tools[0] if tools and choice.get("type") != "none" else None


def _planned_output(body: Body) -> int:
    marked = body.markers.output
    return 12 + body.draw(1, 150) if marked is None else marked


def _output_tokens(body: Body, reason: str) -> int:
    planned, allowed = _planned_output(body), int(body.fields["max_tokens"])
    if reason == "refusal":
        return min(body.markers.output or 0, allowed)
    if reason == "max_tokens":
        return allowed
    return min(planned, allowed)


def _searches(body: Body, server_tool: str | None, reason: str) -> int:
    """One search runs at the start of each leg after the first, or within the only leg."""
    if server_tool != "web_search" or reason == "refusal" or body.fields["max_tokens"] == 0:
        return 0
    if checks.pending_server_tool(body.fields["messages"]) is not None:
        return 1
    return int(_pauses(body) == 0 and reason in ("end_turn", "max_tokens", "stop_sequence"))


def _stop_sequence(body: Body) -> str:
    sequences = body.fields.get("stop_sequences") or ["STOP"]
    return str(sequences[body.draw(2, len(sequences))])


def _content(
    body: Body, reason: str, meters: Meters, server_tool: str | None
) -> Iterator[Block]:
    if meters.output == 0:
        return
    pending = checks.pending_server_tool(body.fields["messages"])
    if pending is not None:
        yield _tool_result(pending)
    elif meters.web_searches:
        use = _server_tool_use(body, "web_search")
        yield use
        yield _tool_result(use)
    if meters.thinking:
        yield {"type": "thinking", "thinking": "", "signature": body.digest.hex()}
    yield {"type": "text", "text": _text(body, reason, meters), "citations": None}
    if reason == "pause_turn":
        yield _server_tool_use(body, server_tool or "web_search")
    elif reason == "tool_use":
        yield _tool_use(body)


def _text(body: Body, reason: str, meters: Meters) -> str:
    form = (body.fields.get("output_config") or {}).get("format")
    if isinstance(form, dict) and "schema" in form and reason == "end_turn":
        return msgspec.json.encode(value_for(form["schema"])).decode()
    return answer_text(
        without_markers(checks.last_prompt(body.fields["messages"])),
        tokens=meters.output - meters.thinking,
        offset=body.draw(3, 10),
        is_cut=reason in ("max_tokens", "model_context_window_exceeded", "refusal"),
    )


def _server_tool_use(body: Body, name: str) -> Block:
    is_free = not body.fields.get("tools")
    prefix = checks.ORDERED_TOOL if is_free else checks.SEARCH_TOOL
    query = without_markers(checks.last_prompt(body.fields["messages"]))[:80]
    return {
        "type": "server_tool_use",
        "id": prefix + body.digest[:12].hex(),
        "name": name,
        "input": {"query": query},
    }


_RESULTS: Final[dict[str, Any]] = {
    "web_search": [
        {
            "type": "web_search_result",
            "url": "https://example.org/",
            "title": "An example",
            "encrypted_content": "c2ltdWxhdGVk",
            "page_age": None,
        }
    ],
    "web_fetch": {"type": "web_fetch_tool_result_error", "error_code": "url_not_accessible"},
    "code_execution": {
        "type": "code_execution_result",
        "stdout": "7\n",
        "stderr": "",
        "return_code": 0,
        "content": [],
    },
}


def _tool_result(use: Block) -> Block:
    name = use["name"]
    return {
        "type": f"{name}_tool_result",
        "tool_use_id": use["id"],
        "content": _RESULTS.get(name, _RESULTS["web_search"]),
    }


def _tool_use(body: Body) -> Block:
    tool = _client_tool(body) or {"name": "look_up", "input_schema": {"type": "object"}}
    return {
        "type": "tool_use",
        "id": "toolu_" + body.digest[:12].hex(),
        "name": tool["name"],
        "input": value_for(tool["input_schema"]),
    }


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
