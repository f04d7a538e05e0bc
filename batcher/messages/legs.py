"""The next leg of a paused request, and what all legs say together (messages-api, 3.3)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from batcher.messages.answer import Answer

_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ITEMS: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Leg:
    """What an answered leg left: its content (JSON text), its text, its container."""

    content: bytes
    text: str
    container_id: str | None


def leg_of(answer: Answer) -> Leg:
    """The part of an answer that later legs need."""
    return Leg(answer.content, answer.text, answer.container_id)


def continuation_body(body: bytes, legs: Sequence[Leg]) -> bytes:
    """The body of the leg after `legs`: the request's own `body` plus every leg's content.

    Each leg becomes one assistant message, verbatim; no user message is added; the container
    of the last leg that had one is kept. Everything else stays as it was, byte for byte.
    """
    fields = _BODY.decode(body)
    messages = _ITEMS.decode(fields["messages"])
    messages += [
        msgspec.Raw(b'{"role":"assistant","content":' + leg.content + b"}") for leg in legs
    ]
    fields["messages"] = msgspec.Raw(msgspec.json.encode(messages))
    containers = [leg.container_id for leg in legs if leg.container_id]
    if containers:
        fields["container"] = msgspec.Raw(msgspec.json.encode(containers[-1]))
    return msgspec.json.encode(fields)


def joined_content(legs: Sequence[Leg]) -> str:
    """The content blocks of all legs in order, as JSON text."""
    blocks = [block for leg in legs for block in _ITEMS.decode(leg.content)]
    return msgspec.json.encode(blocks).decode()


def joined_text(legs: Sequence[Leg]) -> str:
    """The text of all legs in order, without separators."""
    return "".join(leg.text for leg in legs)
