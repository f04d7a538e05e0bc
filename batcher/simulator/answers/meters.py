"""What an answer consumed, and the many forms in which servers report it."""

from dataclasses import dataclass
from typing import Any, Final

from batcher.simulator.answers.conversation import Fields, blocks
from batcher.simulator.answers.models import generation, speed_of
from batcher.simulator.wire.body import Body

_IMAGE_TOKENS: Final = 1_568
_PDF_TOKENS: Final = 3_000
_TOOLS_TOKENS: Final = 346  # the hidden system prompt that comes with tools
_SEARCH_TOKENS: Final = 2_400  # what the results of one search add to the prompt


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


def measure(body: Body, *, output: int, searches: int) -> Meters:
    """The meters of an answer with `output` tokens and `searches` web searches."""
    prompt = prompt_tokens(body)
    cached = prompt * 3 // 4 if _is_cached(body) else 0
    write_5m, write_1h, read = _cache_split(body, cached)
    marked = body.markers.input
    plain = prompt - cached + searches * _SEARCH_TOKENS if marked is None else marked
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
    piece.
    """
    binary_bytes, binary_tokens = _binaries(body)
    tokens = (len(body.canonical) - binary_bytes) // 4
    if generation(body.model) >= (4, 7):
        tokens = tokens * 13 // 10
    return tokens + binary_tokens + (_TOOLS_TOKENS if body.fields.get("tools") else 0)


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


def _is_cached(body: Body) -> bool:
    return b'"cache_control":{' in body.canonical or body.markers.usage == "cache"


def _cache_split(body: Body, cached: int) -> tuple[int, int, int]:
    """Cached tokens as (5-minute writes, 1-hour writes, reads).

    Whether a prefix was written before cannot depend on what came before, or the answer would
    not be a function of the body: it is drawn, one write for three reads.
    """
    if body.markers.usage == "cache":
        return cached // 4, cached // 4, cached - 2 * (cached // 4)
    if body.draw(4, 4):
        return 0, 0, cached
    has_hour = b'"ttl":"1h"' in body.canonical
    hour = cached if has_hour and b'"ttl":"5m"' not in body.canonical else cached // 2
    return (cached - hour, hour, 0) if has_hour else (cached, 0, 0)


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
