"""What one answer consumed, as the provider reported it: nothing added, nothing assumed."""

from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS

MAX_TOKENS_PLAUSIBLE: Final = 1_000_000_000  # a count outside 0..10^9 is a broken server

_KNOWN_TOOLS: Final = frozenset({"web_search_requests", "web_fetch_requests"})
_LONG_NAME: Final = 40
_OPENAI_NAMES: Final = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
}


class Usage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Token counts of one answer or one iteration of it; `None` means not reported.

    `input_tokens` counts what was neither read from nor written to a cache.
    `cache_write_tokens` is the total written; the 5-minute and 1-hour parts are `None` when the
    server did not split it. `output_tokens` includes `thinking_tokens`. `speed`,
    `service_tier` and `inference_geo` are verbatim. `model` is set on iterations only.
    `other_tools` are the names of further counters of server tools that are above zero; web
    fetches are free and not among them.
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
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    model: str | None = None
    kind: str | None = None
    iterations: tuple["Usage", ...] = ()
    provider_reported_cost: str | None = None

    @property
    def is_known(self) -> bool:
        """Whether both sides were reported, so that the answer can be priced."""
        return self.input_tokens is not None and self.output_tokens is not None


def parse_usage(raw: bytes | None) -> Usage | None:
    """Usage from the JSON text of a `usage` field; `None` when absent, null or no object.

    Counts may be integers, integral floats or numeric strings; OpenAI names are understood
    too. A count that is negative, above 10^9 or no number raises `ValueError`,
    and so do iterations nested too deeply.
    """
    if raw is None or raw == b"null":
        return None
    try:
        fields = msgspec.json.decode(raw)
    except CODEC_ERRORS as exc:
        raise ValueError(f"usage cannot be read: {exc}") from exc
    try:
        return _usage(fields) if isinstance(fields, dict) and fields else None
    except RecursionError as exc:
        raise ValueError(f"usage cannot be read: {exc}") from exc


def _usage(fields: dict[str, Any]) -> Usage:
    for foreign, ours in _OPENAI_NAMES.items():
        if foreign in fields and fields.get(ours) is None:
            fields[ours] = fields[foreign]
    split = _object(fields, "cache_creation")
    details = _object(fields, "output_tokens_details")
    tools = _object(fields, "server_tool_use")
    five, hour = (
        _count(split, "ephemeral_5m_input_tokens"),
        _count(split, "ephemeral_1h_input_tokens"),
    )
    written = _count(fields, "cache_creation_input_tokens")
    return Usage(
        input_tokens=_count(fields, "input_tokens"),
        cache_write_tokens=(five or 0) + (hour or 0) if written is None and split else written,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        cache_read_tokens=_count(fields, "cache_read_input_tokens"),
        output_tokens=_count(fields, "output_tokens"),
        thinking_tokens=_count(details, "thinking_tokens"),
        web_search_requests=_count(tools, "web_search_requests"),
        other_tools=_other_tools(tools) if tools else (),
        service_tier=_text(fields, "service_tier"),
        inference_geo=_text(fields, "inference_geo"),
        speed=_text(fields, "speed"),
        model=_text(fields, "model"),
        kind=_text(fields, "type"),
        iterations=_iterations(fields.get("iterations")),
        provider_reported_cost=_cost(fields.get("cost")),
    )


def _iterations(entries: object) -> tuple[Usage, ...]:
    if not isinstance(entries, list):
        return ()
    return tuple(_usage(entry) for entry in entries if isinstance(entry, dict))


def _other_tools(tools: dict[str, Any]) -> tuple[str, ...]:
    """At most three; a name that is no plain word is not repeated."""
    used = sorted(
        name if name.isidentifier() and name.isascii() and len(name) < _LONG_NAME else "other"
        for name, count in tools.items()
        if name not in _KNOWN_TOOLS and type(count) in {int, float} and count > 0
    )
    return tuple(dict.fromkeys(used))[:3]


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = fields.get(name)
    return value if isinstance(value, dict) else {}


def _text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.get(name)
    return value.replace("\0", "\ufffd") if isinstance(value, str) else None


def _cost(value: object) -> str | None:
    """A cost the server states (OpenRouter's `usage.cost`), verbatim as text."""
    return str(value).replace("\0", "\ufffd") if isinstance(value, (int, float, str)) else None


def _count(fields: dict[str, Any], name: str) -> int | None:
    value = fields.get(name)
    if value is None or (type(value) is int and 0 <= value <= MAX_TOKENS_PLAUSIBLE):
        return value
    return _foreign_count(name, value)


def _foreign_count(name: str, value: object) -> int:
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
        raise ValueError(f"usage.{name} is {value!r:.40}, not a token count")
    return int(number)
