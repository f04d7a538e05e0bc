"""Saved responses of the provider's usage report and cost report."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

import msgspec

from batcher.errors import UsageError
from batcher.finance.reconcile.theirs import (
    DAY_US,
    BillPlace,
    Figure,
    Measure,
    Theirs,
    canonical_model,
    canonical_place,
)
from batcher.messages.codec import CODEC_ERRORS
from batcher.pricing.money import PICO, parse_decimal
from batcher.report.query import microseconds

_CENTS: Final = 100
# Where a token count stands in a usage result.
_USAGE: Final = {
    "input": ("uncached_input_tokens",),
    "cache_write_5m": ("cache_creation", "ephemeral_5m_input_tokens"),
    "cache_write_1h": ("cache_creation", "ephemeral_1h_input_tokens"),
    "cache_read": ("cache_read_input_tokens",),
    "output": ("output_tokens",),
    "web_search": ("server_tool_use", "web_search_requests"),
}
# The token_type of a cost result.
TOKEN_TYPES: Final = {
    "uncached_input_tokens": "input",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "cache_read_input_tokens": "cache_read",
    "output_tokens": "output",
}


def read_json(content: bytes, name: str, found: Theirs) -> None:
    """Put one response, or a list of pages, into `found`; raises `UsageError` naming `name`."""
    try:
        document = msgspec.json.Decoder(float_hook=str).decode(content)
    except CODEC_ERRORS as exc:
        raise UsageError(f"{name}: is no JSON: {exc}") from exc
    pages = document if isinstance(document, list) else [document]
    try:
        _read_pages(pages, name, found)
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise UsageError(
            f"{name}: is no saved usage or cost report: give a response with data, starting_at,"
            f" ending_at and results ({type(exc).__name__}: {exc})"
        ) from exc


def _read_pages(pages: list[dict[str, Any]], name: str, found: Theirs) -> None:
    results = [result for page in pages for each in page["data"] for result in each["results"]]
    is_cost = any("amount" in result for result in results)
    measures = [Measure.COST if is_cost else Measure.USAGE]
    for page in pages:
        for bucket in page["data"]:
            day = _cover(bucket, measures[0], found)
            for result in bucket["results"]:
                found.figures += _cost(result, day) if is_cost else _usage(result, day)
    if pages and pages[-1].get("has_more"):
        found.unfinished.append(name)


def _cover(bucket: dict[str, Any], measure: Measure, found: Theirs) -> date:
    """Take note of the bucket's time, which may be days, hours or minutes; its first day."""
    start, end = (
        datetime.fromisoformat(bucket[key]).astimezone(UTC)
        for key in ("starting_at", "ending_at")
    )
    moment = start
    while moment < end:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        until = min(end, midnight + timedelta(days=1))
        key = (measure, moment.date())
        length = microseconds(until) - microseconds(moment)
        found.covered[key] = min(found.covered.get(key, 0) + length, DAY_US)
        moment = until
    return start.date()


def _usage(result: dict[str, Any], day: date) -> Iterator[Figure]:
    for kind, path in _USAGE.items():
        value: Any = result
        for step in path:
            value = (value or {}).get(step)
        place = _place(result, day, kind)
        yield Figure(measure=Measure.USAGE, place=place, amount=Fraction(int(value or 0)))


def _cost(result: dict[str, Any], day: date) -> Iterator[Figure]:
    if result.get("currency", "USD") != "USD":
        raise ValueError(f"currency {result['currency']}")
    kind = str(result.get("cost_type") or "all")
    if kind == "tokens":
        kind = TOKEN_TYPES[result["token_type"]]
    text = str(result["amount"])
    amount = parse_decimal(text) * PICO / _CENTS
    yield Figure(
        measure=Measure.COST,
        place=_place(result, day, kind),
        amount=amount,
        slack=slack_of(text) / _CENTS,
    )


def slack_of(text: str) -> Fraction:
    """Half of the last printed digit of a decimal text, in pico-units."""
    decimals = len(text.partition(".")[2])
    return Fraction(PICO, 2 * 10**decimals) if decimals else Fraction(0)


def _place(result: dict[str, Any], day: date, kind: str) -> BillPlace:
    return BillPlace(
        day,
        canonical_model(result.get("model")),
        result.get("service_tier"),
        canonical_place(result.get("inference_geo")),
        kind,
    )
