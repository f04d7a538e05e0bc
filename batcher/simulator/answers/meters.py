"""What an answer consumed, and the many forms in which servers report it."""

from dataclasses import dataclass
from typing import Any, Final, Protocol

import msgspec

from batcher.simulator.answers.models import generation, speed_of
from batcher.simulator.wire.checks import IN_BLOCKS, Fields, blocks
from batcher.simulator.wire.requests import Body

_IMAGE_TOKENS: Final = 1_568
_PDF_TOKENS: Final = 3_000
_TOOLS_TOKENS: Final = 346  # the hidden system prompt that comes with tools
_SEARCH_TOKENS: Final = 2_400  # what the results of one search add to the prompt
_CANONICAL: Final = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meters:
    """Token counts as billed; `output` includes `thinking`, `input` excludes cache counts."""

    input: int
    write_5m: int
    write_1h: int
    read: int
    output: int
    thinking: int
    web_searches: int
    inference_geo: str
    speed: str

    @property
    def rate_limited_input(self) -> int:
        """What counts against the input quota: cache reads do not."""
        return self.input + self.write_5m + self.write_1h


class Cached(Protocol):
    """What of a prompt is written to the cache and read from it, in tokens."""

    @property
    def write_5m(self) -> int:
        """Written for five minutes."""

    @property
    def write_1h(self) -> int:
        """Written for an hour."""

    @property
    def read(self) -> int:
        """Read."""


def measure(body: Body, cache: Cached, *, output: int, searches: int) -> Meters:
    """The meters of an answer with `output` tokens and `searches` web searches."""
    prompt = prompt_tokens(body)
    if body.markers.usage == "cache":
        cached = prompt * 3 // 4
        write_5m, write_1h, read = cached // 4, cached // 4, cached - 2 * (cached // 4)
    else:
        write_5m, write_1h, read = cache.write_5m, cache.write_1h, cache.read
        cached = write_5m + write_1h + read
    plain = body.markers.input
    if plain is None:
        plain = max(prompt - cached, 0) + searches * _SEARCH_TOKENS
    return Meters(
        input=plain,
        write_5m=write_5m,
        write_1h=write_1h,
        read=read,
        output=output,
        thinking=output // 3 if _thinks(body) else 0,
        web_searches=searches,
        inference_geo=body.fields.get("inference_geo") or "global",
        speed=speed_of(body.model, body.fields.get("speed") or "standard") or "standard",
    )


def prompt_tokens(body: Body) -> int:
    """Tokens of the whole prompt, a quarter of its bytes and never more than its bytes.

    The tokenizer of Claude 4.7 and later gives 30 % more; pictures and documents count by
    piece. Where the cache is to be used counts for nothing.
    """
    binary_bytes, binary_tokens = _binaries(body)
    size = len(body.canonical)
    if b'"cache_control"' in body.canonical:
        size = len(_CANONICAL.encode(_without_marks(body.fields)))
    tokens = text_tokens(size - binary_bytes, body.model)
    return tokens + binary_tokens + (_TOOLS_TOKENS if body.fields.get("tools") else 0)


def text_tokens(size: int, model: str) -> int:
    """Tokens of so many bytes of JSON text."""
    return size // 4 * 13 // 10 if generation(model) >= (4, 7) else size // 4


def block_tokens(block: Fields) -> tuple[int, int]:
    """Of one block: the bytes that count as text, and the tokens of what does not."""
    data = _base64(block)
    tokens = (_IMAGE_TOKENS if block.get("type") == "image" else _PDF_TOKENS) if data else 0
    return len(_CANONICAL.encode(block)) - len(data), tokens


def _without_marks(fields: Fields) -> Fields:
    """The same request as it would be written if nothing of it were to be cached."""
    plain: Fields = _unmarked(fields)
    plain.pop("stream", None)
    if "system" in plain:
        plain["system"] = _shortest(plain["system"])
    for message in plain["messages"]:
        message["content"] = _shortest(message["content"])
    return plain


def _shortest(content: Any) -> Any:  # noqa: ANN401 - a string or blocks
    match content:
        case [{"type": "text", "text": text, **rest}] if not rest:
            return text
        case _:
            return content


def _unmarked(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A copy without breakpoints; what a tool or its schema may call so stays."""
    if isinstance(value, list):
        return [_unmarked(each) for each in value]
    if not isinstance(value, dict):
        return value
    kept = {name: each for name, each in value.items() if name != "cache_control"}
    return {name: _unmarked(each) if name in IN_BLOCKS else each for name, each in kept.items()}


def usage_object(
    meters: Meters, form: str | None, tier: str = "standard"
) -> dict[str, Any] | None:
    """The `usage` field in one of the `USAGE_FORMS`, `None` for the first party's."""
    two = {"input_tokens": meters.input, "output_tokens": meters.output}
    match form:
        case "null" | "none":
            return None
        case "two_fields":
            return two
        case "openai":
            prompt, completion = meters.input, meters.output
            return {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            }
        case "nulls":
            return dict.fromkeys(_full_usage(meters, tier)) | two
        case _:
            return _full_usage(meters, tier)


def _full_usage(meters: Meters, tier: str) -> dict[str, Any]:
    searched = {"web_search_requests": meters.web_searches, "web_fetch_requests": 0}
    return {
        "input_tokens": meters.input,
        "cache_creation_input_tokens": meters.write_5m + meters.write_1h,
        "cache_read_input_tokens": meters.read,
        "cache_creation": {
            "ephemeral_5m_input_tokens": meters.write_5m,
            "ephemeral_1h_input_tokens": meters.write_1h,
        },
        "output_tokens": meters.output,
        "output_tokens_details": {"thinking_tokens": meters.thinking},
        "server_tool_use": searched if meters.web_searches else None,
        "service_tier": tier,
        "inference_geo": meters.inference_geo,
        "speed": meters.speed,
    }


def _thinks(body: Body) -> bool:
    thinking = body.fields.get("thinking") or {}
    return thinking.get("type") in ("enabled", "adaptive")


def _binaries(body: Body) -> tuple[int, int]:
    if b'"base64"' not in body.canonical:
        return 0, 0
    size = tokens = 0
    for message in body.fields["messages"]:
        for block in blocks(message):
            data = _base64(block)
            size += len(data)
            tokens += (
                (_IMAGE_TOKENS if block["type"] == "image" else _PDF_TOKENS) if data else 0
            )
    return size, tokens


def _base64(block: Fields) -> str:
    source = block.get("source")
    is_base64 = isinstance(source, dict) and source.get("type") == "base64"
    return str(source.get("data", "")) if is_base64 and isinstance(source, dict) else ""
