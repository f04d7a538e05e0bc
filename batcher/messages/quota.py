"""What a server says about its rate limits with every answer."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_PREFIX: Final = "anthropic-ratelimit-"
_PLAUSIBLE: Final = 10**12  # per minute; anything above is a broken server


@dataclass(frozen=True, slots=True)
class Window:
    """One bucket: its limit per minute and what was left when the headers were written.

    Token counts are rounded to thousands by the server. `None` means not said.
    """

    limit: int | None
    remaining: int | None


@dataclass(frozen=True, slots=True)
class QuotaReading:
    """The buckets of one model class; `None` for a bucket that was not named.

    `input_tokens` does not count what was read from a cache. The family
    `anthropic-ratelimit-tokens-*` only repeats the tighter of the others and is not read.
    """

    requests: Window | None
    input_tokens: Window | None
    output_tokens: Window | None


def read_quota(headers: Mapping[str, str]) -> QuotaReading | None:
    """The reading in `headers` (case-insensitive, or in lower case); `None` when there is none.

    Values that are no whole, plausible numbers count as not said.
    """
    requests = _window(headers, "requests")
    input_tokens = _window(headers, "input-tokens")
    output_tokens = _window(headers, "output-tokens")
    if requests is None and input_tokens is None and output_tokens is None:
        return None
    return QuotaReading(requests, input_tokens, output_tokens)


def _window(headers: Mapping[str, str], family: str) -> Window | None:
    limit = _number(headers.get(f"{_PREFIX}{family}-limit"))
    remaining = _number(headers.get(f"{_PREFIX}{family}-remaining"))
    if limit is None and remaining is None:
        return None
    return Window(limit or None, remaining)  # a limit of 0 would say that nothing ever goes


def _number(value: str | None) -> int | None:
    if value is None or not (value.isascii() and value.isdigit() and len(value) < 14):
        return None
    number = int(value)
    return number if number <= _PLAUSIBLE else None
