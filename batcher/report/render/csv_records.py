"""A table as CSV, for programs. Amounts are exact decimal text, no floats."""

import csv
import io
from decimal import Decimal
from fractions import Fraction
from typing import Final

from batcher.pricing.money import DECIMALS, decimal_text, usd_text
from batcher.report.table import Cell, Field, Named, Table, Unit
from batcher.report.words import csv_text

_DECIMALS: Final = {Unit.SHARE: 6, Unit.DECIMAL: 3}


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
        return Decimal(value).scaleb(-DECIMALS)
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
