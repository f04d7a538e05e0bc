"""A sheet for programs: CSV and versioned JSON. Amounts are exact decimal text, no floats."""

import csv
import io
from fractions import Fraction
from typing import Any, Final

import msgspec

from batcher.pricing.money import decimal_text, usd_text
from batcher.report.render.data import money
from batcher.report.sheet import Cell, Field, Named, Sheet, Unit
from batcher.report.words import csv_text

SCHEMA: Final = "batcher.sheet/1"
_DECIMALS: Final = {Unit.SHARE: 6, Unit.DECIMAL: 3}


def sheet_csv(sheet: Sheet) -> str:
    """A header, then one record per row; no totals, so that sums come out right.

    An amount is there twice: as decimal text, and as the integer of pico-units. Times are
    whole microseconds, shares fractions of 1. What is not known is empty.
    """
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow([csv_text(name) for each in sheet.fields for name in _names(each)])
    for row in sheet.rows:
        writer.writerow(
            text
            for each, cell in zip(sheet.fields, row, strict=True)
            for text in _csv(each, cell)
        )
    return stream.getvalue()


def sheet_json(sheet: Sheet) -> str:
    """One object, see `docs/reports.md`; ends with a newline."""
    document = {
        "schema": SCHEMA,
        "view": sheet.name,
        "query": dict(sheet.query),
        "rows": [_members(sheet, row) for row in sheet.rows],
        "totals": [_members(sheet, row) for row in sheet.totals],
        "notes": list(sheet.sentences),
    }
    return msgspec.json.format(msgspec.json.encode(document), indent=2).decode() + "\n"


def plain_number(cell: Cell, unit: Unit) -> str | int | None:
    """A cell that is no amount, for programs: an integer, or text."""
    if isinstance(cell, Named):
        return cell.value
    if isinstance(cell, str) or cell is None:
        return cell
    if unit in _DECIMALS:
        scale: int = 10 ** _DECIMALS[unit]
        return decimal_text(Fraction(round(Fraction(cell) * scale), scale))
    return round(cell)


def _names(field: Field) -> tuple[str, ...]:
    match field.unit:
        case Unit.MONEY:
            return field.name, f"{field.name}_pico"
        case Unit.TIME:
            return (f"{field.name}_us",)
        case _:
            return (field.name,)


def _csv(field: Field, cell: Cell) -> tuple[str | int | None, ...]:
    if field.unit is Unit.MONEY and isinstance(cell, int | Fraction):
        return usd_text(round(cell)), str(round(cell))
    found = plain_number(cell, field.unit)
    found = csv_text(found) if isinstance(found, str) and field.unit is Unit.TEXT else found
    return (None, None) if field.unit is Unit.MONEY else (found,)


def _members(sheet: Sheet, row: tuple[Cell, ...]) -> dict[str, Any]:
    return {
        _names(field)[0]: (
            money(round(cell))
            if field.unit is Unit.MONEY and isinstance(cell, int | Fraction)
            else plain_number(cell, field.unit)
        )
        for field, cell in zip(sheet.fields, row, strict=True)
    }
