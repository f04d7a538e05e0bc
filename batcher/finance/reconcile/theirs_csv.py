"""The Console's CSV exports: tokens per day, and cost per day."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import date
from fractions import Fraction
from typing import Final

from batcher.errors import UsageError
from batcher.finance.reconcile.theirs import (
    BillPlace,
    Figure,
    Measure,
    Theirs,
    canonical_model,
    canonical_place,
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
_TIERS: Final = {"message": "standard"}  # the cost export's word
Line = Mapping[str, str | None]


def read_csv(content: bytes, name: str, found: Theirs) -> None:
    """Put one export into `found`; raises `UsageError` naming `name` and the line."""
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
    days: list[date] = []
    for line in reader:
        try:
            figures = list(_cost(line) if measure is Measure.COST else _usage(line))
        except (KeyError, ValueError) as exc:
            raise UsageError(f"{name}: line {reader.line_num} cannot be read: {exc}") from exc
        found.figures += figures
        days += [figure.place.day for figure in figures]
    if days:  # an export has no line for a day without any use
        found.cover(measure, min(days), max(days))


def _usage(line: Line) -> Iterator[Figure]:
    for column, kind in _USAGE.items():
        text = (line.get(column) or "0").replace(",", "")
        place = _place(line, "model_version", kind)
        yield Figure(measure=Measure.USAGE, place=place, amount=Fraction(int(text)))


def _cost(line: Line) -> Iterator[Figure]:
    text = (line[_COST] or "0").replace(",", "")
    kind = (line.get("cost_type") or "token").strip()
    if kind in {"token", "tokens"}:
        kind = _TOKEN_TYPES[line["token_type"] or ""]
    yield Figure(
        measure=Measure.COST,
        place=_place(line, "model", kind),
        amount=parse_decimal(text) * PICO,
        slack=slack_of(text),
    )


def _place(line: Line, model: str, kind: str) -> BillPlace:
    tier = line.get("usage_type") or None
    return BillPlace(
        date.fromisoformat((line[_DAY] or "")[:10]),
        canonical_model(line.get(model)),
        tier and _TIERS.get(tier, tier),
        canonical_place(line.get("inference_geo")),
        kind,
    )
