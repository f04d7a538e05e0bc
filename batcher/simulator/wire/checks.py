"""What the first party refuses with 400 or 404, and where a conversation stands."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from batcher.simulator.answers.models import (
    generation,
    is_known,
    max_output_tokens,
    speed_of,
)
from batcher.simulator.wire.forms import RefusedRequest

Fields = dict[str, Any]

ORDERED_TOOL: Final = "srvtoolu_ordered_"
SEARCH_TOOL: Final = "srvtoolu_"


def last_prompt(messages: list[Fields]) -> str:
    """The text of the last user message, empty when it has none."""
    for message in reversed(messages):
        if message["role"] == "user":
            return " ".join(
                block["text"] for block in blocks(message) if block.get("type") == "text"
            )
    return ""


def legs_done(messages: list[Fields]) -> int:
    """How many paused legs the assistant turn at the end already holds."""
    return sum(block.get("type") == "server_tool_use" for block in _last_turn(messages))


def pending_server_tool(messages: list[Fields]) -> Fields | None:
    """The last `server_tool_use` of the assistant turn at the end that has no result yet."""
    turn = _last_turn(messages)
    done = [block.get("tool_use_id") for block in turn]
    for block in reversed(turn):
        if block.get("type") == "server_tool_use" and block.get("id") not in done:
            return block
    return None


def is_ordered(tool_use: Fields) -> bool:
    """Whether a marker asked for this server tool, so that it need not be among the tools."""
    return str(tool_use.get("id")).startswith(ORDERED_TOOL)


def answers_a_tool(messages: list[Fields]) -> bool:
    """Whether the last message brings the result of a client tool."""
    return any(block.get("type") == "tool_result" for block in blocks(messages[-1]))


def blocks(message: Fields) -> list[Fields]:
    """The content of a message as blocks; a string is one text block."""
    content = message["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _last_turn(messages: list[Fields]) -> list[Fields]:
    turn: list[Fields] = []
    for message in reversed(messages):
        if message["role"] != "assistant":
            break
        turn = blocks(message) + turn
    return turn


KNOWN_FIELDS: Final = frozenset(
    (
        *(
            "model",
            "messages",
            "max_tokens",
            "system",
            "stream",
            "stop_sequences",
            "temperature",
        ),
        *("top_p", "top_k", "metadata", "tools", "tool_choice", "thinking", "output_config"),
        *(
            "cache_control",
            "service_tier",
            "inference_geo",
            "speed",
            "container",
            "diagnostics",
        ),
        *("context_management", "compaction", "mcp_servers", "fallbacks", "thread"),
        *("fallback_credit_token", "billing_policy", "output_format"),
    )
)
BLOCK_TYPES: Final = frozenset(
    (
        *("text", "image", "document", "search_result", "tool_use", "tool_result", "thinking"),
        *("redacted_thinking", "server_tool_use", "web_search_tool_result"),
        *("web_fetch_tool_result", "code_execution_tool_result"),
        *("bash_code_execution_tool_result", "text_editor_code_execution_tool_result"),
        *("tool_search_tool_result", "container_upload", "compaction", "mcp_tool_use"),
        *("mcp_tool_result", "mcp_tool_listing", "fallback", "advisor_tool_result"),
        *("tool_addition", "tool_removal"),
    )
)
SAMPLING: Final = ("temperature", "top_p", "top_k")
VERSIONS: Final = ("2023-06-01", "2026-10-21")
_DEFAULTS: Final = {"temperature": 1, "top_p": 1, "top_k": None}
_EXTRA: Final = "Extra inputs are not permitted"


def find_problem(
    fields: Fields, version: str | None, *, for_count: bool
) -> RefusedRequest | None:
    """The first thing wrong with a body, `None` when it is in order.

    `version` is the `anthropic-version` header; `for_count` is the token counting endpoint,
    which needs no `max_tokens`.
    """
    required = ("model", "messages") if for_count else ("model", "messages", "max_tokens")
    for name in required:
        if name not in fields:
            return RefusedRequest(400, f"{name}: Field required")
    for message in _wrong_fields(fields):
        return RefusedRequest(400, message)
    if not is_known(fields["model"]):
        return RefusedRequest(404, f"model: {fields['model']}")
    for message in (*_wrong_for_model(fields, version), *_wrong_breakpoints(fields)):
        return RefusedRequest(400, message)
    return None


def _wrong_fields(fields: Fields) -> Iterator[str]:
    for name in fields:
        if name not in KNOWN_FIELDS:
            yield f"{name}: {_EXTRA}"
    for name, (is_fine, expectation) in _SHAPES.items():
        if name in fields and not is_fine(fields[name]):
            yield f"{name}: {expectation}"
    yield from _wrong_tools(fields.get("tools") or [])
    messages = fields["messages"]
    for number, message in enumerate(messages):
        yield from _wrong_message(number, message, is_last=number == len(messages) - 1)


def _whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _share(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(text, str) and text.strip() for text in value
    )


def _objects(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(entry, dict) for entry in value)


_SHAPES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "model": (
        lambda v: isinstance(v, str) and 1 <= len(v) <= 256,
        "String should have 1 to 256 characters",
    ),
    "messages": (
        lambda v: isinstance(v, list) and 1 <= len(v) <= 100_000,
        "at least one message is required",
    ),
    "max_tokens": (lambda v: _whole(v, 0), "Input should be an integer of at least 1"),
    "temperature": (_share, "range: 0..1"),
    "top_p": (_share, "range: 0..1"),
    "top_k": (lambda v: _whole(v, 0), "Input should be an integer of at least 0"),
    "stream": (lambda v: isinstance(v, bool), "Input should be a valid boolean"),
    "stop_sequences": (
        _texts,
        "each stop sequence must contain non-whitespace",
    ),
    "system": (
        lambda v: isinstance(v, str) or _objects(v),
        "Input should be a string or an array of text blocks",
    ),
    "tools": (_objects, "Input should be an array of objects"),
    "tool_choice": (
        lambda v: isinstance(v, dict) and v.get("type") in ("auto", "any", "tool", "none"),
        "Input should be an object with a type of auto, any, tool or none",
    ),
    "metadata": (
        lambda v: isinstance(v, dict) and isinstance(v.get("user_id"), str | None),
        "Input should be an object, its user_id a string",
    ),
    "thinking": (
        lambda v: (
            isinstance(v, dict)
            and v.get("type") in ("adaptive", "enabled", "disabled", "between_tools")
        ),
        "Input should be an object with a known type",
    ),
    "output_config": (lambda v: isinstance(v, dict), "Input should be an object"),
    "service_tier": (
        lambda v: v in ("auto", "standard_only"),
        "Input should be 'auto' or 'standard_only'",
    ),
    "inference_geo": (
        lambda v: v in (None, "global", "us"),
        "Input should be 'global' or 'us'",
    ),
    "speed": (
        lambda v: v in (None, "standard", "fast"),
        "Input should be 'standard' or 'fast'",
    ),
}


def _wrong_tools(tools: list[Fields]) -> Iterator[str]:
    for number, tool in enumerate(tools):
        if tool.get("type") not in (None, "custom"):
            continue
        if not isinstance(tool.get("name"), str):
            yield f"tools.{number}.name: Field required"
        if not isinstance(tool.get("input_schema"), dict):
            yield f"tools.{number}.input_schema: Field required"


def _wrong_message(number: int, message: object, *, is_last: bool) -> Iterator[str]:
    where = f"messages.{number}"
    if not isinstance(message, dict):
        yield f"{where}: Input should be an object"
        return
    role, content = message.get("role"), message.get("content")
    if role not in ("user", "assistant", "system"):
        yield f"{where}.role: Input should be 'user' or 'assistant'"
    for name in message.keys() - {"role", "content"}:
        yield f"{where}.{name}: {_EXTRA}"
    if not isinstance(content, str) and not _objects(content):
        yield f"{where}.content: Input should be a string or an array of content blocks"
    elif not content and not (is_last and role == "assistant"):
        yield f"{where}: all messages must have non-empty content"
    elif isinstance(content, list):
        yield from _wrong_blocks(where, content)


def _wrong_blocks(where: str, content: list[Fields]) -> Iterator[str]:
    for number, block in enumerate(content):
        kind = block.get("type")
        if not isinstance(kind, str) or kind not in BLOCK_TYPES:
            yield f"{where}.content.{number}: Input tag {kind!r} does not match any known type"
        if kind == "text" and not (isinstance(block.get("text"), str) and block["text"]):
            yield f"{where}.content.{number}.text: text content blocks must be non-empty"


def _wrong_for_model(fields: Fields, version: str | None) -> Iterator[str]:
    model, messages = fields["model"], fields["messages"]
    most = max_output_tokens(model)
    if fields.get("max_tokens", 0) > most:
        yield f"max_tokens: {fields['max_tokens']} > {most}, the most that {model} gives"
    for name in SAMPLING:
        if name in fields and version == "2026-10-21":
            yield f"{name}: {_EXTRA}"
        if fields.get(name, _DEFAULTS[name]) != _DEFAULTS[name] and generation(model) >= (4, 7):
            yield f"{name}: {model} accepts only the default"
    if any(message["role"] == "system" for message in messages) and generation(model) < (4, 8):
        yield f"messages: role 'system' is not supported by {model}"
    if fields.get("inference_geo") and generation(model) < (4, 6):
        yield f"inference_geo: not supported by {model}"
    if speed_of(model, fields.get("speed") or "standard") is None:
        yield f"speed: {model} has no fast mode"
    yield from _wrong_ending(fields, model)


MOST_BREAKPOINTS: Final = 4
# Where blocks stand that a breakpoint may be at, in the order in which they are cached.
_PLACES: Final = ("tools", "system", "messages", "content")
IN_BLOCKS: Final = frozenset(_PLACES)


def cache_marks(value: object) -> Iterator[object]:
    """Every `cache_control` of a body, in the order of the prompt, its own at the end."""
    if isinstance(value, list):
        for each in value:
            yield from cache_marks(each)
    elif isinstance(value, dict):
        for name in _PLACES:
            if name in value:
                yield from cache_marks(value[name])
        if value.get("cache_control"):
            yield value["cache_control"]


def _wrong_breakpoints(fields: Fields) -> Iterator[str]:
    marks = list(cache_marks(fields))
    known = [m for m in marks if isinstance(m, dict) and m.get("type") == "ephemeral"]
    lifetimes = [mark.get("ttl") or "5m" for mark in known]
    if len(known) < len(marks) or not set(lifetimes) <= {"5m", "1h"}:
        yield "cache_control: Input should be of type ephemeral, with a ttl of 5m or 1h"
    if len(marks) > MOST_BREAKPOINTS:
        yield (
            f"A maximum of {MOST_BREAKPOINTS} blocks with cache_control may be provided."
            f" Found {len(marks)}."
        )
    if lifetimes != sorted(lifetimes):  # "1h" before "5m"
        yield "cache_control: a ttl of 1h must not come after one of 5m"
    for message in fields["messages"]:
        content = message["content"]
        for block in content if isinstance(content, list) else ():
            if "thinking" in str(block.get("type")) and block.get("cache_control"):
                yield "cache_control: thinking blocks cannot be cached"


def _wrong_ending(fields: Fields, model: str) -> Iterator[str]:
    messages = fields["messages"]
    if messages[-1]["role"] != "assistant":
        return
    pending = pending_server_tool(messages)
    tools = [tool.get("name") for tool in fields.get("tools") or ()]
    if pending is None and generation(model) >= (4, 6):
        yield f"messages: {model} does not support assistant message prefill"
    elif pending is not None and pending["name"] not in tools and not is_ordered(pending):
        yield f"tools: {pending['name']} is pending but not among the tools"
