"""The Console's CSV exports: tokens per day, and cost per day."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from typing import Final

from batcher.errors import UsageError
from batcher.finance.reconcile.theirs import (
    BillPage,
    BillPlace,
    Figure,
    Measure,
    canonical_model,
    canonical_place,
    named,
    told_of,
)
from batcher.finance.reconcile.theirs_json import slack_of
from batcher.pricing.money import PICO, parse_decimal

_DAY: Final = "usage_date_utc"
_COST: Final = "cost_usd"
_USAGE: Final = {
    "usage_input_tokens_no_cache": "input",
    "usage_input_tokens_cache_write_5m": "cache_write_5m",
    "usage_input_tokens_cache_write_1h": "cache_write_1h",
    "usage_input_tokens_cache_read": "cache_read",
    "usage_output_tokens": "output",
    "web_search_count": "web_search",
}
_TOKEN_TYPES: Final = {
    "input_no_cache": "input",
    "input_cache_write_5m": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
    "input_cache_read": "cache_read",
    "output": "output",
}
_NO_DIMENSIONS: Final = frozenset(
    {_DAY, _COST, "list_price_usd", "cost_type", "token_type", *_USAGE}
)
_TIERS: Final = {"message": "standard"}  # the cost export's word
Line = Mapping[str, str | None]


def read_csv(content: bytes, name: str) -> BillPage:
    """One export; raises `UsageError` naming `name` and the line."""
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8-sig")))
        columns = set(reader.fieldnames or ())
    except (UnicodeDecodeError, csv.Error) as exc:
        raise UsageError(f"{name}: is neither JSON nor CSV: {exc}") from exc
    if _DAY not in columns or not columns & {_COST, *_USAGE}:
        raise UsageError(
            f"{name}: is no known report: save a usage or cost report of the API as JSON, or an"
            f" export of the Console, whose columns are {_DAY} and {_COST} or"
            " usage_input_tokens_no_cache and others"
        )
    measure = Measure.COST if _COST in columns else Measure.USAGE
    page = BillPage(name=name, file=name, form="csv", measure=measure)
    for line in reader:
        try:
            page.figures += [_cost(line)] if measure is Measure.COST else _usage(line)
        except (KeyError, ValueError) as exc:
            raise UsageError(f"{name}: line {reader.line_num} cannot be read: {exc}") from exc
    days = [figure.place.day for figure in page.figures]
    if days:  # an export has no line for a day without any use
        first, last = (datetime.combine(day, time(), UTC) for day in (min(days), max(days)))
        page.cover(first, last + timedelta(days=1))
    return page


def _usage(line: Line) -> Iterator[Figure]:
    for column, kind in _USAGE.items():
        text = (line.get(column) or "0").replace(",", "")
        place = _place(line, "model_version", kind)
        yield Figure(
            measure=Measure.USAGE, place=place, amount=Fraction(int(text)),
            bucket=place.day.isoformat(), told=told_of(line, _NO_DIMENSIONS),
        )  # fmt: skip


def _cost(line: Line) -> Figure:
    text = (line[_COST] or "0").replace(",", "")
    kind = (line.get("cost_type") or "token").strip()
    if kind in {"token", "tokens"}:
        named = line.get("token_type") or "tokens"
        kind = _TOKEN_TYPES.get(named, named)
    place = _place(line, "model", kind)
    return Figure(
        measure=Measure.COST,
        place=place,
        amount=parse_decimal(text) * PICO,
        slack=slack_of(text),
        bucket=place.day.isoformat(),
        told=told_of(line, _NO_DIMENSIONS),
    )


def _place(line: Line, model: str, kind: str) -> BillPlace:
    tier = named(line.get("usage_type"))
    return BillPlace(
        date.fromisoformat((line[_DAY] or "")[:10]),
        canonical_model(line.get(model)),
        tier and _TIERS.get(tier, tier),
        canonical_place(line.get("inference_geo")),
        kind,
    )
