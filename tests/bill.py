"""Reads a simulator's bill and prices it, independently of everything that is shipped.

The prices are a second copy on purpose: USD per million tokens as in the public price list of
November 2026, as exact fractions. A test that compared the ledger with the shipped price book
would only prove that the book agrees with itself.
"""

import json
import re
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

PICO = 10**12

# (input, 5-minute write, 1-hour write, cache read, output) in USD per million tokens
_LISTED = {
    "claude-fable-5-2": ("8", "10", "16", "0.20", "40"),
    "claude-fable-5-1": ("10", "12.50", "20", "0.25", "50"),
    "claude-fable-5": ("10", "12.50", "20", "1", "50"),
    "claude-opus-5-5": ("4", "5", "8", "0.20", "20"),
    "claude-opus-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-8": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-7": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-6": ("5", "6.25", "10", "0.50", "25"),
    "claude-opus-4-5": ("5", "6.25", "10", "0.50", "25"),
    "claude-sonnet-5-5": ("2", "2.50", "4", "0.10", "10"),
    "claude-sonnet-5": ("2", "2.50", "4", "0.20", "10"),
    "claude-sonnet-4-6": ("3", "3.75", "6", "0.30", "15"),
    "claude-sonnet-4-5": ("3", "3.75", "6", "0.30", "15"),
    "claude-haiku-5-5": ("0.10", "0.125", "0.20", "0.01", "0.50"),
    "claude-haiku-4-5": ("1", "1.25", "2", "0.10", "5"),
}
_LONG_PROMPT = {"claude-haiku-5-5": ("0.50", "0.625", "1", "0.05", "2.50")}
_LONG_PROMPT_TOKENS = 100_000  # more than this, caches included, and every token is dearer
_USD_PER_SEARCH = Fraction(10, 1000)
_US_ONLY = Fraction(11, 10)  # all token kinds, Claude 4.6 and later
_FAST = 2
_BATCH = Fraction(1, 2)  # all token kinds; a search costs the same


def read_bill(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a bill file, oldest first; a torn last line is an error."""
    return [json.loads(line) for line in Path(path).read_bytes().splitlines()]


def cost_pico_usd(line: dict[str, Any]) -> int:
    """What one line costs in 10^-12 USD, exactly; an unlisted model raises `KeyError`."""
    if not line["billed"]:
        return 0
    if line["stop_reason"] == "refusal" and line["output_tokens"] == 0:
        return 0
    counts = (
        line["input_tokens"],
        line["cache_creation_5m"],
        line["cache_creation_1h"],
        line["cache_read"],
        line["output_tokens"],
    )
    rates = _rates(line["model"], prompt_tokens=sum(counts[:4]))
    tokens = sum(count * rate for count, rate in zip(counts, rates, strict=True))
    factor = (_US_ONLY if line["inference_geo"] == "us" else 1) * (
        _FAST if line["speed"] == "fast" else 1
    )
    factor *= _BATCH if line.get("service_tier") == "batch" else 1
    factor *= line.get("price_factor", 1)  # of a history in which prices change
    total = (tokens * factor + line["web_search_requests"] * _USD_PER_SEARCH) * PICO
    assert total.denominator == 1, f"{line} costs a fraction of a pico-USD"
    return int(total)


def total_pico_usd(lines: Iterable[dict[str, Any]]) -> int:
    """What all lines cost together."""
    return sum(cost_pico_usd(line) for line in lines)


def _rates(model: str, prompt_tokens: int) -> list[Fraction]:
    """USD per token of each kind; a vendor prefix and a date in the model id do not matter."""
    name = re.sub(r"-\d{8}$", "", model.rpartition("/")[2])
    is_long = prompt_tokens > _LONG_PROMPT_TOKENS and name in _LONG_PROMPT
    listed = _LONG_PROMPT[name] if is_long else _LISTED[name]
    return [Fraction(rate) / 1_000_000 for rate in listed]
