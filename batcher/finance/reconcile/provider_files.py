"""The provider's files: saved responses of its two reports, and the Console's CSV exports."""

import csv
import io
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from itertools import compress
from typing import Any, Final

import msgspec

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
from batcher.messages.codec import CODEC_ERRORS
from batcher.pricing.money import PICO, parse_decimal

_CENTS: Final = 100
# The token_type of a cost result.
_TOKEN_TYPES: Final = {
    "uncached_input_tokens": "input",
    "cache_creation.ephemeral_5m_input_tokens": "cache_write_5m",
    "cache_creation.ephemeral_1h_input_tokens": "cache_write_1h",
    "cache_read_input_tokens": "cache_read",
    "output_tokens": "output",
}
# Where the count of a kind stands in a usage result.
_KINDS: Final = {**_TOKEN_TYPES, "server_tool_use.web_search_requests": "web_search"}

# Names of a result that are no dimension.
_NO_DIMENSIONS: Final = frozenset({"amount", "currency", "cost_type", "token_type"})


def read_json(content: bytes, name: str) -> list[BillPage]:
    """One response, or a list of pages; raises `UsageError` naming `name`."""
    try:
        document = msgspec.json.Decoder(float_hook=str).decode(content)
    except CODEC_ERRORS as exc:
        raise UsageError(f"{name}: is no JSON: {exc}") from exc
    pages = document if isinstance(document, list) else [document]
    try:
        read = [
            part for number, page in enumerate(pages, 1)
            for part in _parts(page, name, number, len(pages))
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, AttributeError) as exc:
        raise UsageError(
            f"{name}: is no saved usage or cost report: give a response with data, starting_at,"
            f" ending_at and results ({type(exc).__name__}: {exc})"
        ) from exc
    for page in read[:-1]:
        page.has_more = False  # the next one is here
    return read


def _parts(page: dict[str, Any], file: str, number: int, of: int) -> Iterator[BillPage]:
    """The page; what it says again, as pages put together by hand do, as a page of its own."""
    buckets: list[Any] = page["data"]
    again = ""
    while True:
        times = [(bucket["starting_at"], bucket["ending_at"]) for bucket in buckets]
        first = [times.index(time) == place for place, time in enumerate(times)]
        part = _page({**page, "data": [*compress(buckets, first)]}, file, number, of)
        part.name += again
        yield part
        buckets = [*compress(buckets, [not each for each in first])]
        again += " again"
        if not buckets:
            return


def _page(page: dict[str, Any], file: str, number: int, of: int) -> BillPage:
    results = [result for bucket in page["data"] for result in bucket["results"]]
    is_cost = any("amount" in result for result in results)
    measure = Measure.COST if is_cost else Measure.USAGE if results else None
    name = f"{file} (page {number})" if of > 1 else file
    found = BillPage(name=name, file=file, form="json", measure=measure)
    found.has_more = bool(page.get("has_more"))
    whole_cents = not any("." in str(result.get("amount")) for result in results)
    for bucket in page["data"]:
        start, end = (
            datetime.fromisoformat(bucket[key]).astimezone(UTC)
            for key in ("starting_at", "ending_at")
        )
        found.cover(start, end)
        time = f"{start.isoformat()}/{end.isoformat()}"
        for result in bucket["results"]:
            if is_cost:
                found.figures.append(_cost(result, start.date(), time, whole_cents=whole_cents))
            else:
                found.figures += _usage(result, start.date(), time)
    return found


def _usage(result: dict[str, Any], day: date, bucket: str) -> Iterator[Figure]:
    told = told_of(result, _NO_DIMENSIONS)
    counts = dict.fromkeys(_KINDS.values(), 0)
    for path, count in _counts(result):
        kind = _KINDS.get(path, path)
        if kind in counts or count:
            counts[kind] = count
    for kind, count in counts.items():
        yield Figure(
            measure=Measure.USAGE, place=_place(result, day, kind), amount=Fraction(count),
            bucket=bucket, told=told,
        )  # fmt: skip


def _counts(fields: dict[str, Any], before: str = "") -> Iterator[tuple[str, int]]:
    """Every number, by its path; also those of kinds that came after this was written.

    Raises `ValueError` for a known kind that is no number: it would be taken for 0.
    """
    for name, value in fields.items():
        if isinstance(value, dict):
            yield from _counts(value, f"{before}{name}.")
        elif type(value) is int:
            yield before + name, value
        elif value is not None and before + name in _KINDS:
            raise ValueError(f"{before}{name} is {value!r}, which is no count")


def _cost(result: dict[str, Any], day: date, bucket: str, *, whole_cents: bool) -> Figure:
    if (result.get("currency") or "USD") != "USD":
        raise ValueError(f"currency {result['currency']}")
    kind = str(result.get("cost_type") or "all")
    if kind == "tokens":
        named = str(result.get("token_type") or "tokens")
        kind = _TOKEN_TYPES.get(named, named)
    text = str(result["amount"])
    return Figure(
        measure=Measure.COST,
        place=_place(result, day, kind),
        amount=parse_decimal(text) * PICO / _CENTS,
        slack=slack_of(text, rounded=whole_cents) / _CENTS,
        bucket=bucket,
        told=told_of(result, _NO_DIMENSIONS),
    )


def slack_of(text: str, *, rounded: bool = False) -> Fraction:
    """Half of the last printed digit of a decimal text, in pico-units.

    A whole number is exact, but where all of its file are `rounded` to whole ones.
    """
    decimals = len(text.partition(".")[2])
    return Fraction(PICO, 2 * 10**decimals) if decimals or rounded else Fraction(0)


def _place(result: dict[str, Any], day: date, kind: str) -> BillPlace:
    return BillPlace(
        day,
        canonical_model(result.get("model")),
        named(result.get("service_tier")),
        canonical_place(result.get("inference_geo")),
        kind,
    )


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
_CSV_TOKEN_TYPES: Final = {
    "input_no_cache": "input",
    "input_cache_write_5m": "cache_write_5m",
    "input_cache_write_1h": "cache_write_1h",
    "input_cache_read": "cache_read",
    "output": "output",
}
_NO_CSV_DIMENSIONS: Final = frozenset(
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
            page.figures += [_csv_cost(line)] if measure is Measure.COST else _csv_usage(line)
        except (KeyError, ValueError) as exc:
            raise UsageError(f"{name}: line {reader.line_num} cannot be read: {exc}") from exc
    days = [figure.place.day for figure in page.figures]
    if days:  # an export has no line for a day without any use
        first, last = (datetime.combine(day, time(), UTC) for day in (min(days), max(days)))
        page.cover(first, last + timedelta(days=1))
    return page


def _csv_usage(line: Line) -> Iterator[Figure]:
    for column, kind in _USAGE.items():
        text = (line.get(column) or "0").replace(",", "")
        place = _csv_place(line, "model_version", kind)
        yield Figure(
            measure=Measure.USAGE, place=place, amount=Fraction(int(text)),
            bucket=place.day.isoformat(), told=told_of(line, _NO_CSV_DIMENSIONS),
        )  # fmt: skip


def _csv_cost(line: Line) -> Figure:
    text = (line[_COST] or "0").replace(",", "")
    kind = (line.get("cost_type") or "token").strip()
    if kind in {"token", "tokens"}:
        named = line.get("token_type") or "tokens"
        kind = _CSV_TOKEN_TYPES.get(named, named)
    place = _csv_place(line, "model", kind)
    return Figure(
        measure=Measure.COST,
        place=place,
        amount=parse_decimal(text) * PICO,
        slack=slack_of(text),
        bucket=place.day.isoformat(),
        told=told_of(line, _NO_CSV_DIMENSIONS),
    )


def _csv_place(line: Line, model: str, kind: str) -> BillPlace:
    tier = named(line.get("usage_type"))
    return BillPlace(
        date.fromisoformat((line[_DAY] or "")[:10]),
        canonical_model(line.get(model)),
        tier and _TIERS.get(tier, tier),
        canonical_place(line.get("inference_geo")),
        kind,
    )
