"""A report, or any other table, for programs: as records, CSV, versioned JSON and Parquet.

Amounts are exact: decimal text, integers of pico-units, decimals with all twelve digits; no
floats.
"""

import csv
import io
from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from typing import Any, BinaryIO, Final

import msgspec

from batcher.pricing.money import DECIMALS, decimal_text, usd_text
from batcher.report.figures import COUNT_NAMES, USD, Report, ReportLine
from batcher.report.table import Cell, Field, Named, Table, Unit
from batcher.report.words import csv_text, moment_words, sentences

_DECIMALS: Final = {Unit.SHARE: 6, Unit.DECIMAL: 3}
REPORT_SCHEMA: Final = "batcher.report/1"
TABLE_SCHEMA: Final = "batcher.sheet/1"
_MONEY: Final = (
    "in_doubt_low", "in_doubt_high", "assumed_low", "assumed_high", "maybe_billed_high",
)  # fmt: skip
_NUMBERS: Final = tuple(name for name in COUNT_NAMES if name not in _MONEY)


def csv_records(table: Table) -> str:
    """A header, then one record per row; no totals, so that sums come out right.

    An amount is there twice: as decimal text, and as the integer of pico-units. Times are
    whole microseconds, shares fractions of 1. What is not known is empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_text(name) for each in _named(table) for name in each.names])
    for row in (*table.rows, *table.further_records):
        writer.writerow(
            text
            for each, cell in zip(table.fields, row, strict=True)
            if each.name
            for text in _texts(each, cell)
        )
    return stream.getvalue()


def records(table: Table) -> list[dict[str, str | int | Decimal | None]]:
    """A dict per row, with the names of the CSV; each amount once, as an exact decimal."""
    return [
        {
            each.names[0]: _exact(plain_value(cell, each.unit), each.unit)
            for each, cell in zip(table.fields, row, strict=True)
            if each.name
        }
        for row in (*table.rows, *table.further_records)
    ]


def _exact(value: str | int | None, unit: Unit) -> str | int | Decimal | None:
    if value is None:
        return None
    if unit is Unit.MONEY:
        return exact(int(value))
    return Decimal(value) if unit in _DECIMALS else value


def plain_value(cell: Cell, unit: Unit) -> str | int | None:
    """A cell for programs that is no amount: an integer, or text."""
    if isinstance(cell, Named):
        return cell.value
    if isinstance(cell, str) or cell is None:
        return cell
    if unit in _DECIMALS:
        scale: int = 10 ** _DECIMALS[unit]
        return decimal_text(Fraction(round(Fraction(cell) * scale), scale))
    return round(cell)


def _named(table: Table) -> list[Field]:
    return [field for field in table.fields if field.name]


def _texts(field: Field, cell: Cell) -> tuple[str | int | None, ...]:
    if field.unit is Unit.MONEY:
        pico = plain_value(cell, field.unit)
        return (usd_text(pico), str(pico)) if isinstance(pico, int) else (None, None)
    found = plain_value(cell, field.unit)
    return (csv_text(found) if isinstance(found, str) and field.unit.is_text else found,)


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
        "since": moment_words(query.since),
        "until": moment_words(query.until),
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
        "reconciled_at": moment_words(at),
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


def write_parquet(table: Table, stream: BinaryIO) -> None:
    """Write the table to `stream`, without a total.

    Columns are those of the CSV, each amount once, as decimal128(38, 12).
    """
    import pyarrow as pa  # noqa: PLC0415 - 50 MB that other formats do not pay
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    records = (*table.rows, *table.further_records)
    columns = {
        field.names[0]: _column(field, [plain_value(row[place], field.unit) for row in records])
        for place, field in enumerate(table.fields)
        if field.name
    }
    about = {**_schema_of(table), "notes": table.sentences}
    found = pa.table(columns, metadata={"batcher": msgspec.json.encode(about)})
    pq.write_table(found, stream, compression="zstd")


def is_our_parquet(path: Path) -> bool:
    """A file of ours says so in its metadata."""
    import pyarrow as pa  # noqa: PLC0415 - as above
    import pyarrow.parquet as pq  # noqa: PLC0415 - as above

    with suppress(pa.ArrowException, OSError):
        return b"batcher" in (pq.read_schema(path).metadata or {})
    return False


def _schema_of(table: Table) -> dict[str, str]:
    if table.name == "report":
        return {"schema": REPORT_SCHEMA}
    return {"schema": TABLE_SCHEMA, "view": table.name}


def exact(pico: int | None) -> Decimal | None:
    """The amount as a decimal with twelve places; never rounded."""
    if pico is None:
        return None
    digits = tuple(int(digit) for digit in str(abs(pico)))
    return Decimal((int(pico < 0), digits, -DECIMALS))


def _column(field: Field, values: Sequence[Any]) -> Any:  # noqa: ANN401 - pyarrow has no stubs
    import pyarrow as pa  # noqa: PLC0415 - as above

    match field.unit:
        case Unit.MONEY:
            return pa.array([exact(value) for value in values], pa.decimal128(38, DECIMALS))
        case Unit.SHARE | Unit.DECIMAL:
            return pa.array(
                [None if n is None else Decimal(n) for n in values],
                pa.decimal128(38, _DECIMALS[Unit.SHARE]),
            )
        case Unit.COUNT | Unit.TIME:
            return pa.array(values, pa.int64())
        case Unit.TEXT:
            return _text_array(values)
        case Unit.NUMBER:
            is_number = all(isinstance(value, int | None) for value in values)
            return pa.array(values, pa.int64()) if is_number else _text_array(values)


def _text_array(values: Sequence[Any]) -> Any:  # noqa: ANN401 - as above
    import pyarrow as pa  # noqa: PLC0415 - as above

    return pa.array([None if each is None else str(each) for each in values], pa.string())
