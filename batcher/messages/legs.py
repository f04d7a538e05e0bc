"""The next leg of a request, and what all legs say together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from batcher.messages.answer import Answer
from batcher.messages.codec import CODEC_ERRORS

# After these a request goes on with a further leg. An answer that ended in any other way, and
# is not final, was replaced by a better one and is no part of the request's story.
CONTINUED: Final = frozenset({"pause_turn", "compaction"})
CALLS_TOOLS: Final = "tool_use"
LEG_STOP_REASONS: Final = CONTINUED | {CALLS_TOOLS}

_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Leg:
    """What an answered leg left: its content (JSON text), its text, its container.

    `results` is the JSON text of the user message that answers its tool calls, `None` while
    they have not run, or that says what is wrong with it (`corrected`); legs that neither call
    tools (`calls_tools`) nor are corrected have none.
    """

    content: bytes
    text: str
    container_id: str | None
    calls_tools: bool = False
    results: bytes | None = None
    corrected: bool = False


class ToolCall(msgspec.Struct, frozen=True):
    """One `tool_use` block; `input` is its JSON text as it came."""

    id: str
    name: str
    input: msgspec.Raw = msgspec.Raw(b"{}")


class _BlockType(msgspec.Struct):
    type: str = ""


_BLOCKS: Final = msgspec.json.Decoder(list[_BlockType])
_CALL: Final = msgspec.json.Decoder(ToolCall)


def leg_of(answer: Answer) -> Leg:
    """The part of an answer that later legs need."""
    return Leg(
        answer.content,
        answer.text,
        answer.container_id,
        calls_tools=answer.stop_reason == CALLS_TOOLS,
    )


def corrected(leg: Leg, reason: str | None) -> Leg | None:
    """The leg with the user's words that it does not follow its schema, and why.

    `None`: an answer without content is no message that the API takes back.
    """
    if not _ITEMS.decode(leg.content):
        return None
    why = f": {reason}" if reason else ""
    words = (
        f"This does not follow the JSON schema{why}. Answer again, with nothing but JSON that"
        " follows it."
    )
    results = msgspec.json.encode([{"type": "text", "text": words}])
    return replace(leg, results=results, corrected=True)


def tool_calls(content: bytes) -> list[ToolCall] | None:
    """The calls in an answer's content, in order; `None` when one of them cannot be read."""
    try:
        kinds = [block.type for block in _BLOCKS.decode(content)]
        items = _ITEMS.decode(content)
        return [
            _CALL.decode(item)
            for kind, item in zip(kinds, items, strict=True)
            if kind == CALLS_TOOLS
        ]
    except CODEC_ERRORS:
        return None


def continuation_body(body: bytes, legs: Sequence[Leg]) -> bytes:
    """The body of the leg after `legs`: the request's own `body` plus every leg's content.

    Each leg becomes one assistant message, verbatim. One that called tools is followed by a
    user message with nothing but their results, one that did not follow its schema by a user
    message that says so; else no user message is added. The container
    of the last leg that had one is kept. Everything else stays as it was, byte for byte.
    """
    fields = _BODY.decode(body)
    messages = _ITEMS.decode(fields["messages"])
    for leg in legs:
        messages.append(msgspec.Raw(b'{"role":"assistant","content":' + leg.content + b"}"))
        if leg.results is not None:
            messages.append(msgspec.Raw(b'{"role":"user","content":' + leg.results + b"}"))
    fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    containers = [leg.container_id for leg in legs if leg.container_id]
    if containers:
        fields["container"] = msgspec.Raw(msgspec.json.encode(containers[-1]))
    return msgspec.json.encode(fields)


def body_with_max_tokens(body: bytes, max_tokens: int) -> bytes:
    """The same body with another `max_tokens`; every other field keeps its bytes."""
    fields = _BODY.decode(body)
    return msgspec.json.encode(fields | {"max_tokens": msgspec.Raw(b"%d" % max_tokens)})


def body_with_model(body: bytes, model: str) -> bytes:
    """The same body for another model; every other field keeps its bytes."""
    fields = _BODY.decode(body)
    return msgspec.json.encode(fields | {"model": msgspec.Raw(msgspec.json.encode(model))})


def joined_content(legs: Sequence[Leg]) -> str:
    """The content blocks of all legs since the last corrected one in order, as JSON text."""
    blocks = [block for leg in story(legs) for block in _ITEMS.decode(leg.content)]
    return msgspec.json.encode(blocks).decode()


def joined_text(legs: Sequence[Leg]) -> str:
    """The text of the answer, without separators: of all legs since tools were last called."""
    told = story(legs)
    calls = [number for number, leg in enumerate(told[:-1], 1) if leg.calls_tools]
    return "".join(leg.text for leg in told[calls[-1] if calls else 0 :])


def story(legs: Sequence[Leg]) -> Sequence[Leg]:
    """The legs that the answer is made of: those before were not good enough."""
    places = [number for number, leg in enumerate(legs, 1) if leg.corrected]
    return legs[places[-1] :] if places else legs
