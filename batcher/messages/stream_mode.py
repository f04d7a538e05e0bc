"""Which requests are streamed, and the bodies that say so."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

import msgspec

# The official SDKs refuse more without streaming: an answer of ten minutes and longer, which
# proxies on the way do not wait for (messages-api, 5.3).
MAX_TOKENS_WITHOUT_STREAM: Final = 21_333

_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE: Final = msgspec.Raw(b"true")


class StreamMode(StrEnum):
    """How an endpoint's answers travel; they are stored alike either way."""

    AUTO = "auto"  # streamed where the request needs it or asks for it
    ALWAYS = "always"
    NEVER = "never"


def needs_stream(params: Mapping[str, Any]) -> bool:
    """Whether a Messages body asks for a stream, or is better off with one.

    Long answers and thinking are silent for minutes otherwise. A pre-warming request
    (`max_tokens: 0`) never is streamed (messages-api, 7).
    """
    max_tokens = params.get("max_tokens")
    if max_tokens == 0:
        return False
    if params.get("stream"):
        return True
    if type(max_tokens) is int and max_tokens > MAX_TOKENS_WITHOUT_STREAM:
        return True
    thinking = params.get("thinking")
    return type(thinking) is dict and thinking.get("type") in {"enabled", "adaptive"}


def streaming_body(body: bytes) -> bytes:
    """The same body with `stream: true`; every other field keeps its bytes."""
    if b'"stream"' in body:
        fields = _BODY.decode(body)
        return msgspec.json.encode(fields | {"stream": _TRUE})
    return b'{"stream":true,' + body.lstrip()[1:]


def plain_body(body: bytes) -> bytes:
    """The same body without `stream`; as it is where it has none."""
    if b'"stream"' not in body:
        return body
    fields = _BODY.decode(body)
    return body if fields.pop("stream", None) is None else msgspec.json.encode(fields)
