"""What an answer consumed, and the many forms in which servers report it.

The prompt cache goes by the provider's rules: breakpoints, look-back, lifetimes, a minimum
length. An entry is the hash of everything up to a breakpoint. It can be read once the answer to
the request that wrote it has begun, until its lifetime is over, which counts from the start of
the last request that wrote or read it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from batcher.simulator.answers.models import generation, speed_of
from batcher.simulator.wire.checks import IN_BLOCKS, Fields, blocks, cache_marks
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


@dataclass(frozen=True, slots=True)
class PromptCut:
    """A place where the prompt may be cut: what is before it, and how many tokens that is.

    `lifetime` is that of the breakpoint here, `None` where there is none.
    """

    key: bytes
    tokens: int
    lifetime: str | None


@dataclass(frozen=True, slots=True)
class CachedPrefix:
    """What one request reads and writes, in tokens; `breakpoints` are those long enough."""

    write_5m: int = 0
    write_1h: int = 0
    read: int = 0
    breakpoints: tuple[PromptCut, ...] = ()
    hit: bytes = b""


def measure(body: Body, cache: CachedPrefix, *, output: int, searches: int) -> Meters:
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


LOOK_BACK: Final = 20  # positions in total, the breakpoint's own among them
_LIFETIMES_US: Final = {"5m": 300_000_000, "1h": 3_600_000_000}
_SWEEP_ENTRIES: Final = 10_000
_TERMS: Final = "terms"
# By what the id says, the first that fits; what no line names needs the most.
_MINIMUMS: Final = (
    (re.compile(r"opus-4[-.]7|mythos-preview|haiku-3|3-5-haiku|3-haiku"), 2_048),
    (re.compile(r"opus-4[-.][56]|haiku-4[-.]5"), 4_096),
    (re.compile(r"opus-4|sonnet-4|sonnet-5(?![-.]5)|3-7-sonnet"), 1_024),
    (re.compile(r"opus-5|(?:sonnet|haiku)-5[-.]5|fable-5|mythos-5"), 512),
)
_MOST_MINIMUM: Final = 4_096


@dataclass(slots=True)
class _Entry:
    lifetime_us: int
    readable_us: int
    until_us: int

    def is_readable(self, now_us: int) -> bool:
        return self.readable_us <= now_us < self.until_us


class PromptCache:
    """The entries of one workspace; batches have another one than live requests."""

    def __init__(self) -> None:
        self._entries: dict[bytes, _Entry] = {}

    def look(self, body: Body, now_us: int) -> CachedPrefix:
        """What a request that starts now reads, and what it will have written."""
        if not has_breakpoints(body):
            return CachedPrefix()
        least = minimum_tokens(body.model)
        positions = list(_positions(body))
        places = [n for n, each in enumerate(positions) if each.lifetime]
        hits = (self._hit(positions, place, now_us) for place in places)
        hit = max(filter(None, hits), key=lambda each: each.tokens, default=None)
        long_enough = [positions[n] for n in places if positions[n].tokens >= least]
        read = hit.tokens if hit else 0
        hour = max((each.tokens for each in long_enough if each.lifetime == "1h"), default=0)
        last = max((each.tokens for each in long_enough), default=0)
        return CachedPrefix(
            write_5m=max(last - max(read, hour), 0),
            write_1h=max(hour - read, 0),
            read=read,
            breakpoints=tuple(long_enough),
            hit=hit.key if hit else b"",
        )

    def keep(self, use: CachedPrefix, started_us: int, begun_us: int) -> None:
        """The answer began at `begun_us`: what the request wrote can be read from then on."""
        for key in {use.hit, *(each.key for each in use.breakpoints)} & self._entries.keys():
            entry = self._entries[key]
            if entry.is_readable(started_us):
                entry.until_us = max(entry.until_us, started_us + entry.lifetime_us)
        for each in use.breakpoints:
            known = self._entries.get(each.key)
            if each.tokens > use.read and (known is None or not known.is_readable(begun_us)):
                lifetime = _LIFETIMES_US[each.lifetime or "5m"]
                self._entries[each.key] = _Entry(lifetime, begun_us, started_us + lifetime)
        if len(self._entries) > _SWEEP_ENTRIES:
            self._entries = {
                key: entry for key, entry in self._entries.items() if entry.until_us > begun_us
            }

    def _hit(self, positions: list[PromptCut], place: int, now_us: int) -> PromptCut | None:
        for each in positions[max(place - LOOK_BACK + 1, 0) : place + 1][::-1]:
            entry = self._entries.get(each.key)
            if entry is not None and entry.is_readable(now_us):
                return each
        return None


def minimum_tokens(model: str) -> int:
    """The shortest prefix that is cached; a shorter one is not, without a word."""
    found = (least for pattern, least in _MINIMUMS if pattern.search(model))
    return next(found, _MOST_MINIMUM)


def has_breakpoints(body: Body) -> bool:
    """Whether anything of it is to be cached; a prompt that only says so is not enough."""
    if b'"cache_control":{' not in body.canonical:
        return False
    return any(True for _ in cache_marks(body.fields))


def _positions(body: Body) -> Iterator[PromptCut]:
    """Every place of the prompt, in the order in which it is cached."""
    size, extra, key = 0, 0, b""
    found: list[PromptCut] = []
    for part, block in _parts(body):
        plain = {name: value for name, value in block.items() if name != "cache_control"}
        key = blake2b(_CANONICAL.encode([part, plain]), key=key, digest_size=16).digest()
        if part == _TERMS:
            continue
        bytes_of, tokens_of = block_tokens(plain)
        size, extra = size + bytes_of, extra + tokens_of
        found.append(PromptCut(key, text_tokens(size, body.model) + extra, _lifetime(block)))
    whole = body.fields.get("cache_control")
    if whole and found and found[-1].lifetime is None:
        last = found.pop()
        found.append(PromptCut(last.key, last.tokens, whole.get("ttl") or "5m"))
    yield from found


def _parts(body: Body) -> Iterator[tuple[str, Fields]]:
    """Where each block stands, and the block; between them what the following depend on."""
    fields = body.fields
    yield _TERMS, {name: fields.get(name) for name in ("model", "speed", "output_config")}
    for tool in fields.get("tools") or ():
        yield "tools", tool
    system = fields.get("system") or []
    system = [{"type": "text", "text": system}] if isinstance(system, str) else system
    for block in system:
        yield "system", block
    terms = {name: fields.get(name) for name in ("tool_choice", "thinking")}
    yield _TERMS, {**terms, "images": b'"type":"image"' in body.canonical}
    for message in fields["messages"]:
        for block in blocks(message):
            yield message["role"], block


def _lifetime(block: Fields) -> str | None:
    mark = block.get("cache_control")
    return str(mark.get("ttl") or "5m") if mark else None
