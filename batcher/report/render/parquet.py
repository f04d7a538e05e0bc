"""A report as Parquet: integers, and amounts as decimals with all twelve digits."""

from collections.abc import Sequence
from decimal import Decimal
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batcher.pricing.money import DECIMALS
from batcher.report.figures import COUNT_NAMES, Report, ReportLine
from batcher.report.names import OWN_NUMBERS
from batcher.report.render.data import (
    ADJUSTMENTS,
    CHARGES,
    ENTRY,
    SCHEMA,
    adjusted_lines,
    cost_names,
    in_doubt_high,
)
from batcher.report.render.delivery import target_file
from batcher.report.render.sheet_data import SCHEMA as SHEET_SCHEMA
from batcher.report.render.sheet_data import plain_number
from batcher.report.sentences import sentences
from batcher.report.sheet import Cell, Field, Sheet, Unit

MONEY: Final = pa.decimal128(38, DECIMALS)
_SHARE: Final = pa.decimal128(38, 6)
_MONEY_COUNTS: Final = ("in_doubt_low", "in_doubt_high")
_Column = tuple[str, Any, list[Any]]


def write_parquet(found: Report | Sheet, target: str) -> None:
    """Write a report, or any other table, to the file `target`, without a total.

    Columns are those of the CSV, each amount once, as decimal128(38, 12); adjustments of a
    report come last. Raises `CannotCreate` when the file cannot be written.
    """
    if isinstance(found, Sheet):
        _write_sheet(found, target)
    else:
        _write_report(found, target)


def _write_report(report: Report, target: str) -> None:
    adjusted = adjusted_lines(report)
    lines = (*report.lines, *adjusted)
    entry = [CHARGES] * len(report.lines) + [ADJUSTMENTS] * len(adjusted)
    columns = [
        *_keys(report, lines),
        *(
            (name, pa.int64(), [getattr(line.counts, name) for line in lines])
            for name in COUNT_NAMES
            if name not in _MONEY_COUNTS
        ),
        *(
            (cost_names(each)[0], MONEY, [_cost(line, each) for line in lines])
            for each in report.currencies
        ),
        ("in_doubt_low_usd", MONEY, [exact(each.counts.in_doubt_low) for each in lines]),
        ("in_doubt_high_usd", MONEY,
         [exact(in_doubt_high(each.counts)) for each in lines]),
        (ENTRY, pa.string(), entry),
    ]  # fmt: skip
    _write(columns, target, {"schema": SCHEMA, "notes": sentences(report)})


def _write_sheet(sheet: Sheet, target: str) -> None:
    columns = [
        _column(field, [row[place] for row in sheet.rows])
        for place, field in enumerate(sheet.fields)
    ]
    about = {"schema": SHEET_SCHEMA, "view": sheet.name, "notes": sheet.sentences}
    _write(columns, target, about)


def exact(pico: int | None) -> Decimal | None:
    """The amount as a decimal with twelve places; never rounded."""
    if pico is None:
        return None
    digits = tuple(int(digit) for digit in str(abs(pico)))
    return Decimal((int(pico < 0), digits, -DECIMALS))


def _keys(report: Report, lines: Sequence[ReportLine]) -> list[_Column]:
    return [
        _texts_or_numbers(
            dimension.name,
            [line.key[place] for line in lines],
            numbers=dimension.kind in OWN_NUMBERS,
        )
        for place, dimension in enumerate(report.query.by)
    ]


def _texts_or_numbers(name: str, values: list[Any], *, numbers: bool) -> _Column:
    """Runs and invocations are numbers in one database, and text over several."""
    if numbers and all(isinstance(value, int | None) for value in values):
        return name, pa.int64(), values
    return name, pa.string(), [None if value is None else str(value) for value in values]


def _cost(line: ReportLine, currency: str) -> Decimal | None:
    return None if line.is_unpriced else exact(line.cost(currency))


def _column(field: Field, cells: list[Cell]) -> _Column:
    plain = [plain_number(cell, field.unit) for cell in cells]
    match field.unit:
        case Unit.MONEY:
            return field.name, MONEY, [exact(None if n is None else int(n)) for n in plain]
        case Unit.TIME:
            return f"{field.name}_us", pa.int64(), plain
        case Unit.SHARE | Unit.DECIMAL:
            return field.name, _SHARE, [None if n is None else Decimal(n) for n in plain]
        case Unit.COUNT:
            return field.name, pa.int64(), plain
        case _:
            return _texts_or_numbers(field.name, plain, numbers=bool(plain))


def _write(columns: Sequence[_Column], target: str, about: dict[str, Any]) -> None:
    table = pa.table(
        {name: pa.array(values, kind) for name, kind, values in columns},
        metadata={"batcher": msgspec.json.encode(about)},
    )
    with target_file(target) as stream:
        pq.write_table(table, stream, compression="zstd")
