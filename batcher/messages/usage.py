"""What one answer consumed, as the provider reported it: nothing added, nothing assumed."""

from typing import Annotated, Any, Final

import msgspec
from msgspec.structs import replace

from batcher.messages.codec import CODEC_ERRORS, MOST_ITERATIONS, USAGE_LIMIT

MAX_TOKENS_PLAUSIBLE: Final = 1_000_000_000  # a count outside 0..10^9 is a broken server

_KNOWN_TOOLS: Final = frozenset({"web_search_requests", "web_fetch_requests"})
_KNOWN_LIFETIMES: Final = frozenset({"ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"})
_KNOWN_FIELDS: Final = frozenset(
    {"input_tokens", "cache_creation_input_tokens", "cache_read_input_tokens", "output_tokens"}
    | {"prompt_tokens", "completion_tokens", "total_tokens", "cache_creation", "type", "model"}
    | {"output_tokens_details", "server_tool_use", "service_tier", "inference_geo", "speed"}
    | {"iterations", "prompt_tokens_details", "completion_tokens_details", "cost"}
)
_LONG_NAME: Final = 40
_PARTS: Final = ("prompt_tokens_details", "input_tokens_details")


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Token counts of one answer or one iteration of it; `None` means not known.

    `input_tokens` counts what was neither read from nor written to a cache.
    `cache_write_tokens` is the total written; the 5-minute and 1-hour parts are `None` when the
    server did not split it. `output_tokens` includes `thinking_tokens`. `speed`,
    `service_tier` and `inference_geo` are verbatim. `model` is set on iterations only.
    `other_tools` are the names of further counters of server tools, and of lifetimes of cache
    writes, that are above zero; web fetches are free and not among them. `other_tokens` are
    those of counts whose names nobody knows.

    `odd` names the counts that no number could be made of; they are not known. `input_at_most`
    and `output_at_most` are set where two spellings disagree, or the counts and their total;
    the counts are then the lower reading. `holds_whole_prompt`: the prompt was told as one
    number, which cached tokens are part of, so that none can be beside it.
    """

    input_tokens: int | None = None
    cache_write_tokens: int | None = None
    cache_write_5m_tokens: int | None = None
    cache_write_1h_tokens: int | None = None
    cache_read_tokens: int | None = None
    output_tokens: int | None = None
    thinking_tokens: int | None = None
    web_search_requests: int | None = None
    other_tools: tuple[str, ...] = ()
    other_tokens: int = 0
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    model: str | None = None
    kind: str | None = None
    iterations: tuple["Usage", ...] = ()
    provider_reported_cost: str | None = None
    odd: tuple[str, ...] = ()
    input_at_most: int | None = None
    output_at_most: int | None = None
    holds_whole_prompt: bool = False

    @property
    def is_known(self) -> bool:
        """Whether both sides were reported, so that the answer can be priced."""
        return self.input_tokens is not None and self.output_tokens is not None


def parse_usage(raw: bytes | None) -> Usage | None:
    """Usage from the JSON text of a `usage` field; `None` when absent, null or not readable.

    Counts may be integers, integral floats or numeric strings; OpenAI names are understood
    too. A count that is negative, above 10^9 or no number is not known, and named in `odd`:
    what a server says of its own work never costs an answer. Usage that is too large, or has
    too many iterations, raises `ValueError`.
    """
    if raw is None or raw == b"null":
        return None
    if len(raw) > USAGE_LIMIT:
        raise ValueError(f"usage has {len(raw):,} bytes, more than {USAGE_LIMIT:,}")
    try:
        plain = _PLAIN.decode(raw)
    except CODEC_ERRORS:
        return _parsed(raw)
    split, details, tools = (
        plain.cache_creation,
        plain.output_tokens_details,
        plain.server_tool_use,
    )
    written = plain.cache_creation_input_tokens
    if (split and written is None) or plain.input_tokens is None or rb"\u0000" in raw:
        return _parsed(raw)
    return Usage(
        input_tokens=plain.input_tokens,
        cache_write_tokens=written,
        cache_write_5m_tokens=split.ephemeral_5m_input_tokens if split else None,
        cache_write_1h_tokens=split.ephemeral_1h_input_tokens if split else None,
        cache_read_tokens=plain.cache_read_input_tokens,
        output_tokens=plain.output_tokens,
        thinking_tokens=details.thinking_tokens if details else None,
        web_search_requests=tools.web_search_requests if tools else None,
        service_tier=plain.service_tier,
        inference_geo=plain.inference_geo,
        speed=plain.speed,
    )


# --- Usage with nothing in it but what is documented, as most is: its types say all there is to
# say of it. Whatever else there is goes the long way, which says the same of this.

_Plain = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS_PLAUSIBLE)] | None


class _PlainSplit(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    ephemeral_5m_input_tokens: _Plain = None
    ephemeral_1h_input_tokens: _Plain = None


class _PlainDetails(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    thinking_tokens: _Plain = None


class _PlainTools(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    web_search_requests: _Plain = None
    web_fetch_requests: _Plain = None


class _PlainUsage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    input_tokens: _Plain = None
    cache_creation_input_tokens: _Plain = None
    cache_creation: _PlainSplit | None = None
    cache_read_input_tokens: _Plain = None
    output_tokens: _Plain = None
    output_tokens_details: _PlainDetails | None = None
    server_tool_use: _PlainTools | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    iterations: None = None


_PLAIN: Final = msgspec.json.Decoder(_PlainUsage)


def _parsed(raw: bytes) -> Usage | None:
    try:
        fields = msgspec.json.decode(raw)
        usage = _usage(fields) if isinstance(fields, dict) and fields else None
    except (*CODEC_ERRORS, RecursionError):
        return None
    if usage is not None and len(usage.iterations) > MOST_ITERATIONS:
        count = len(usage.iterations)
        raise ValueError(f"usage has {count:,} iterations, more than {MOST_ITERATIONS:,}")
    return usage


def _usage(fields: dict[str, Any]) -> Usage:
    odd: list[str] = []
    split = _object(fields, "cache_creation", odd)
    details = _object(fields, "output_tokens_details", odd)
    tools = _object(fields, "server_tool_use", odd)
    five = _count(split, "ephemeral_5m_input_tokens", odd)
    hour = _count(split, "ephemeral_1h_input_tokens", odd)
    written = _count(fields, "cache_creation_input_tokens", odd)
    if written is None and split and not odd:
        written = (five or 0) + (hour or 0)
    usage = Usage(
        input_tokens=_count(fields, "input_tokens", odd),
        cache_write_tokens=written,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        cache_read_tokens=_count(fields, "cache_read_input_tokens", odd),
        output_tokens=_count(fields, "output_tokens", odd),
        thinking_tokens=_count(details, "thinking_tokens", odd),
        web_search_requests=_count(tools, "web_search_requests", odd),
        other_tools=_others(tools, _KNOWN_TOOLS) + _others(split, _KNOWN_LIFETIMES),
        other_tokens=_other_tokens(fields, odd) if fields.keys() - _KNOWN_FIELDS else 0,
        service_tier=_text(fields, "service_tier"),
        inference_geo=_text(fields, "inference_geo"),
        speed=_text(fields, "speed"),
        model=_text(fields, "model"),
        kind=_text(fields, "type"),
        iterations=_iterations(fields.get("iterations"), odd),
        provider_reported_cost=stated_cost(fields.get("cost")),
        odd=tuple(odd),
    )
    usage = usage if _FOREIGN.isdisjoint(fields) else _translated(usage, fields)
    return _with_total(usage, fields.get("total_tokens")) if "total_tokens" in fields else usage


def _with_total(usage: Usage, total: object) -> Usage:
    """Tokens of the total that no count tells of may have been output, the dearest there is.

    A total below the counts is a stale one: a stream begins with it.
    """
    fresh, output = usage.input_tokens, usage.output_tokens
    if type(total) is not int or fresh is None or output is None:
        return usage
    cached = (usage.cache_read_tokens or 0) + (usage.cache_write_tokens or 0)
    if not max(fresh, usage.input_at_most or 0) + cached + output < total <= _MOST_TOTAL:
        return usage
    return replace(usage, output_at_most=max(total - fresh, usage.output_at_most or 0))


_MOST_TOTAL: Final = 5 * MAX_TOKENS_PLAUSIBLE


def _iterations(entries: object, odd: list[str]) -> tuple[Usage, ...]:
    if entries is None:
        return ()
    if not isinstance(entries, list):
        odd.append("iterations")
        return ()
    found = tuple(_usage(entry) for entry in entries if isinstance(entry, dict))
    if len(found) < len(entries):
        odd.append("iterations")
    return found


# --- OpenAI's names, in which cached tokens are part of the prompt's (and thinking of the
# completion's), alone or beside Anthropic's.

_FOREIGN: Final = frozenset({"prompt_tokens", "completion_tokens", *_PARTS})
_WRITTEN: Final = ("cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens")


def _translated(usage: Usage, fields: dict[str, Any]) -> Usage:
    odd = list(usage.odd)
    parts: dict[str, Any] = {}
    for name in _PARTS:
        parts |= _object(fields, name, odd)
    read = _either(usage.cache_read_tokens, _count(parts, "cached_tokens", odd), odd)
    usage = _with_lifetimes(usage, parts, odd)
    written: int | None = usage.cache_write_tokens
    for name in _WRITTEN:
        written = _either(written, _count(parts, name, odd), odd)
    prompt = _count(fields, "prompt_tokens", odd)
    own: int | None = usage.input_tokens
    if prompt is None and own is not None and _PARTS[1] in fields:
        prompt, own = own, None  # the Responses API calls the whole prompt so
    elif prompt is None and own is not None and parts and read:
        odd.append("prompt")  # whole, or without what was read: nobody says
    low, high = _uncached(prompt, own, read or 0, written or 0, odd)
    completion = _count(fields, "completion_tokens", odd)
    said = _object(fields, "completion_tokens_details", odd)
    thinking = usage.thinking_tokens
    outputs = [n for n in (usage.output_tokens, completion) if n is not None]
    return replace(
        usage,
        input_tokens=low,
        input_at_most=high if high != low else None,
        cache_read_tokens=read,
        cache_write_tokens=written,
        output_tokens=min(outputs, default=None),
        output_at_most=max(outputs) if len(set(outputs)) > 1 else None,
        thinking_tokens=_count(said, "reasoning_tokens", odd) if thinking is None else thinking,
        holds_whole_prompt=prompt is not None and "prompt" not in odd,
        odd=tuple(odd),
    )


def _with_lifetimes(usage: Usage, parts: dict[str, Any], odd: list[str]) -> Usage:
    """How long what was written is kept, where LiteLLM tells it among the prompt's details."""
    split = _object(parts, "cache_creation_token_details", odd)
    five = _count(split, "ephemeral_5m_input_tokens", odd)
    hour = _count(split, "ephemeral_1h_input_tokens", odd)
    if five is None and hour is None:
        return usage
    own = usage.cache_write_5m_tokens, usage.cache_write_1h_tokens
    if own != (None, None):
        if own != (five, hour):
            odd.append("cache_creation")
        return usage
    written = usage.cache_write_tokens
    return replace(
        usage,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        cache_write_tokens=(five or 0) + (hour or 0) if written is None else written,
    )


def _either(first: int | None, second: int | None, odd: list[str]) -> int | None:
    if first is not None and second is not None and first != second:
        odd.append("cache_spelling")
        return min(first, second)
    return second if first is None else first


def _uncached(
    prompt: int | None, own: int | None, read: int, written: int, odd: list[str]
) -> tuple[int | None, int | None]:
    """What of the prompt was neither read nor written, at least and at most.

    Some count what was written as part of the prompt, others beside it.
    """
    if prompt is None:
        return own, own
    readings = [n for n in (prompt - read - written, prompt - read) if n >= 0]
    if own is not None and own in readings:
        return own, own
    if own is not None and own != prompt:
        odd.append("prompt")  # two spellings, and no way to read both
        readings += [own, prompt]
    if not readings:
        odd.append("prompt")  # more was read from the cache than there was
        return 0, prompt
    return min(readings), max(readings)


def _others(counts: dict[str, Any], known: frozenset[str]) -> tuple[str, ...]:
    """At most three; a name that is no plain word is not repeated."""
    if known.issuperset(counts):
        return ()
    used = sorted(
        name if name.isidentifier() and name.isascii() and len(name) < _LONG_NAME else "other"
        for name, count in counts.items()
        if name not in known and type(count) in {int, float} and count > 0
    )
    return tuple(dict.fromkeys(used))[:3]


def _other_tokens(fields: dict[str, Any], odd: list[str]) -> int:
    """All tokens under names that nobody knows; what cannot be read is odd.

    An object is no count: it divides what is counted elsewhere.
    """
    odd_before = len(odd)
    unknown = fields.keys() - _KNOWN_FIELDS
    names = [n for n in unknown if n.endswith("_tokens") and not isinstance(fields[n], dict)]
    found = sum(_count(fields, name, odd) or 0 for name in names)
    if len(odd) > odd_before:
        odd[odd_before:] = ["other_tokens"]
    return min(found, MAX_TOKENS_PLAUSIBLE)


def _object(fields: dict[str, Any], name: str, odd: list[str]) -> dict[str, Any]:
    value = fields.get(name)
    if isinstance(value, dict):
        return value
    if value is not None:
        odd.append(name)
    return _NO_FIELDS


_NO_FIELDS: Final[dict[str, Any]] = {}


def _text(fields: dict[str, Any], name: str) -> str | None:
    """What is no text is told as the text that a program would print: nobody knows it."""
    value = fields.get(name)
    if value is None or isinstance(value, str):
        return value.replace("\0", "\ufffd") if value else value
    return str(value)[:_LONG_NAME]


def stated_cost(value: object) -> str | None:
    """A cost the server states (OpenRouter's `usage.cost`), verbatim as text."""
    return str(value).replace("\0", "\ufffd") if isinstance(value, (int, float, str)) else None


def _count(fields: dict[str, Any], name: str, odd: list[str]) -> int | None:
    value = fields.get(name)
    if value is None or (type(value) is int and 0 <= value <= MAX_TOKENS_PLAUSIBLE):
        return value
    return _foreign_count(name, value, odd)


def _foreign_count(name: str, value: object, odd: list[str]) -> int | None:
    try:
        number = float(value) if isinstance(value, (int, float, str)) else None
    except (ValueError, OverflowError):
        number = None
    if (
        type(value) is bool
        or number is None
        or not 0 <= number <= MAX_TOKENS_PLAUSIBLE
        or number != int(number)
    ):
        odd.append(name)
        return None
    return int(number)
