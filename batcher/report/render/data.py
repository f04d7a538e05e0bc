"""A report for programs: CSV and versioned JSON. Amounts are exact decimal text, no floats."""

import csv
import io
from typing import Any, Final

import msgspec

from batcher.pricing.money import usd_text
from batcher.report.figures import COUNT_NAMES, USD, Counts, Report, ReportLine
from batcher.report.query import moment_of
from batcher.report.sentences import sentences
from batcher.report.words import csv_text

SCHEMA: Final = "batcher.report/1"
_MONEY: Final = ("in_doubt_low", "in_doubt_high")
# The last column of CSV and Parquet, and what it says.
ENTRY: Final = "entry"
CHARGES: Final = "charges"
ADJUSTMENTS: Final = "adjustments"
_NUMBERS: Final = tuple(name for name in COUNT_NAMES if name not in _MONEY)


def render_csv(report: Report) -> str:
    """A header, then one record per line of the report; no total, so that sums come out right.

    The last column tells `charges` from `adjustments`, whose records come last and hold nothing
    but a key and USD. Costs are decimal text, once in the currency and once in pico-units. An
    `in_doubt_high` is empty where there is no upper bound, costs where no answer has a price.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    dimensions = [csv_text(dimension.name) for dimension in report.query.by]
    costs = [name for each in report.currencies for name in cost_names(each)]
    writer.writerow([*dimensions, *_NUMBERS, *costs, *_doubt_names(), ENTRY])
    for line in report.lines:
        writer.writerow([*_record(line, report.currencies), CHARGES])
    for line in adjusted_lines(report):
        writer.writerow([*_record(line, report.currencies), ADJUSTMENTS])
    return stream.getvalue()


def render_json(report: Report) -> str:
    """One object, see `docs/reports.md`; ends with a newline."""
    query = report.query
    names = [dimension.name for dimension in query.by]
    document = {
        "schema": SCHEMA,
        "by": names,
        "since": _moment(query.since),
        "until": _moment(query.until),
        "timezone": query.timezone,
        "run_id": query.run,
        "lines": [
            {"key": dict(zip(names, line.key, strict=True)), **_figures(line)}
            for line in report.lines
        ],
        "total": _figures(report.total),
        "unpriced": [msgspec.to_builtins(reason) for reason in report.unpriced],
        "assumed": [msgspec.to_builtins(reason) for reason in report.assumed],
        "price_books": list(report.price_books),
        "adjusted": _adjusted(report),
        "simulated_left_out": report.simulated_left_out,
        "simulated_only": report.simulated_only,
        "notes": list(sentences(report)),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def _adjusted(report: Report) -> dict[str, Any] | None:
    """What reconciliations recorded, `None` for a run; the total is the cost with it."""
    found = report.adjusted
    if found is None:
        return None
    names = [dimension.name for dimension in report.query.by]
    at, name = found.last or (None, None)
    return {
        "entries": found.entries,
        "cost": {USD: money(found.amount)},
        "total": {USD: money(report.adjusted_total)},
        "lines": [
            {"key": dict(zip(names, line.key, strict=True)), "entries": line.entries,
             "cost": {USD: money(line.amount)}}
            for line in found.lines
        ],
        "causes": [
            {"cause": cause, "entries": entries, "cost": {USD: money(amount)}}
            for cause, entries, amount in found.causes
        ],
        "reconciled_days": list(found.days),
        "reconciled_at": _moment(at),
        "reconciled_by": name,
    }  # fmt: skip


def money(pico: int) -> dict[str, str]:
    """An amount for JSON: exact decimal text, and the integer of pico-units as text."""
    return {"amount": usd_text(pico), "pico": str(pico)}


def in_doubt_high(counts: Counts) -> int | None:
    """The most that what is in doubt may have cost, `None` when there is no bound."""
    return None if counts.in_doubt_unbounded else counts.in_doubt_high


def _figures(line: ReportLine) -> dict[str, Any]:
    counts, high = line.counts, in_doubt_high(line.counts)
    costs = () if line.is_unpriced else ((USD, 0), *line.costs)
    return {
        **{name: getattr(counts, name) for name in _NUMBERS},
        "cost": {currency: money(pico) for currency, pico in costs},
        "in_doubt_low": money(counts.in_doubt_low),
        "in_doubt_high": None if high is None else money(high),
    }


def _record(line: ReportLine, currencies: tuple[str, ...]) -> list[str | int | None]:
    keys = [csv_text(part) if isinstance(part, str) else part for part in line.key]
    numbers = [getattr(line.counts, name) for name in _NUMBERS]
    unknown = line.is_unpriced
    costs = [
        text for each in currencies for text in _both(None if unknown else line.cost(each))
    ]
    high = in_doubt_high(line.counts)
    return [*keys, *numbers, *costs, *_both(line.counts.in_doubt_low), *_both(high)]


def adjusted_lines(report: Report) -> tuple[ReportLine, ...]:
    """The adjustments as lines of a report, which count nothing and cost something."""
    found = report.adjusted.lines if report.adjusted else ()
    return tuple(
        ReportLine(key=each.key, label=(), counts=Counts(), costs=((USD, each.amount),))
        for each in found
    )


def _both(pico: int | None) -> tuple[str, str]:
    return ("", "") if pico is None else (usd_text(pico), str(pico))


def cost_names(currency: str) -> tuple[str, str]:
    """The columns of a currency's costs: decimal text, and the integer of pico-units."""
    word = "".join(char if char.isalnum() else "_" for char in currency.lower())
    return f"cost_{word}", f"cost_pico_{word}"


def _doubt_names() -> list[str]:
    return [name for each in _MONEY for name in (f"{each}_usd", f"{each}_pico_usd")]


def _moment(moment_us: int | None) -> str | None:
    return (
        None if moment_us is None else moment_of(moment_us).isoformat().replace("+00:00", "Z")
    )
