"""A table as Parquet: integers, and amounts as decimals with all twelve digits."""

from collections.abc import Sequence
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from batcher.outputs import NOTHING_KEPT, Guard
from batcher.pricing.money import DECIMALS
from batcher.report.render.csv_records import plain_value
from batcher.report.render.delivery import target_file
from batcher.report.render.json_document import REPORT_SCHEMA, TABLE_SCHEMA
from batcher.report.table import Field, Table, Unit

_MONEY: Final = pa.decimal128(38, DECIMALS)
_SHARE: Final = pa.decimal128(38, 6)


def write_parquet(table: Table, target: str, guard: Guard = NOTHING_KEPT) -> None:
    """Write the table to the file `target`, without a total.

    Columns are those of the CSV, each amount once, as decimal128(38, 12). Raises
    `CannotCreate` when the file cannot be written, or `guard` keeps what is there.
    """
    records = (*table.rows, *table.further_records)
    columns = {
        field.names[0]: _column(field, [plain_value(row[place], field.unit) for row in records])
        for place, field in enumerate(table.fields)
        if field.name
    }
    about = {**_schema(table), "notes": table.sentences}
    found = pa.table(columns, metadata={"batcher": msgspec.json.encode(about)})
    with target_file(target, guard, _is_ours) as stream:
        pq.write_table(found, stream, compression="zstd")


def _is_ours(path: Path) -> bool:
    with suppress(pa.ArrowException, OSError):
        return b"batcher" in (pq.read_schema(path).metadata or {})
    return False


def _schema(table: Table) -> dict[str, str]:
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
    match field.unit:
        case Unit.MONEY:
            return pa.array([exact(value) for value in values], _MONEY)
        case Unit.SHARE | Unit.DECIMAL:
            return pa.array([None if n is None else Decimal(n) for n in values], _SHARE)
        case Unit.COUNT | Unit.TIME:
            return pa.array(values, pa.int64())
        case Unit.TEXT:
            return _texts(values)
        case Unit.NUMBER:
            is_number = all(isinstance(value, int | None) for value in values)
            return pa.array(values, pa.int64()) if is_number else _texts(values)


def _texts(values: Sequence[Any]) -> Any:  # noqa: ANN401 - as above
    return pa.array([None if each is None else str(each) for each in values], pa.string())
