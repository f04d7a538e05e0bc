"""A report, or any other table, as versioned JSON. Amounts are exact decimal text."""

from fractions import Fraction
from typing import Any, Final

import msgspec

from batcher.clock import moment_of
from batcher.pricing.money import usd_text
from batcher.report.figures import COUNT_NAMES, USD, Report, ReportLine
from batcher.report.render.csv_records import plain_value
from batcher.report.sentences import sentences
from batcher.report.table import Cell, Table, Unit

REPORT_SCHEMA: Final = "batcher.report/1"
TABLE_SCHEMA: Final = "batcher.sheet/1"
_MONEY: Final = (
    "in_doubt_low", "in_doubt_high", "assumed_low", "assumed_high", "maybe_billed_high",
)  # fmt: skip
_NUMBERS: Final = tuple(name for name in COUNT_NAMES if name not in _MONEY)


def json_text(document: dict[str, Any]) -> str:
    """The text of a document; ends with a newline."""
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def table_json(table: Table) -> str:
    """One object, see `docs/reports.md`; ends with a newline."""
    document = {
        "schema": TABLE_SCHEMA,
        "view": table.name,
        "query": dict(table.query),
        "rows": [_members(table, row) for row in table.rows],
        "totals": [_members(table, row) for row in table.totals],
        "notes": list(table.sentences),
    }
    return json_text(document)


def report_json(report: Report) -> str:
    """One object, see `docs/reports.md`; ends with a newline."""
    query = report.query
    names = [dimension.name for dimension in query.by]
    document = {
        "schema": REPORT_SCHEMA,
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
    return json_text(document)


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


def _figures(line: ReportLine) -> dict[str, Any]:
    counts, high = line.counts, line.counts.in_doubt_at_most
    billed = counts.maybe_billed_at_most
    costs = () if line.is_unpriced else ((USD, 0), *line.costs)
    return {
        **{name: getattr(counts, name) for name in _NUMBERS},
        "cost": {currency: money(pico) for currency, pico in costs},
        "in_doubt_low": money(counts.in_doubt_low),
        "in_doubt_high": None if high is None else money(high),
        "assumed_low": money(counts.assumed_low),
        "assumed_high": money(counts.assumed_high),
        "maybe_billed_high": None if billed is None else money(billed),
    }


def _members(table: Table, row: tuple[Cell, ...]) -> dict[str, Any]:
    return {
        field.names[0]: (
            money(round(cell))
            if field.unit is Unit.MONEY and isinstance(cell, int | Fraction)
            else plain_value(cell, field.unit)
        )
        for field, cell in zip(table.fields, row, strict=True)
    }


def _moment(moment_us: int | None) -> str | None:
    return (
        None if moment_us is None else moment_of(moment_us).isoformat().replace("+00:00", "Z")
    )
