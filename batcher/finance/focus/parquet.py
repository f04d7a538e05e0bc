"""A FOCUS file as Parquet: costs, prices and quantities as decimals, times as times."""

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq
from sqlalchemy import Engine

from batcher.finance.focus.columns import columns_of
from batcher.finance.focus.rows import FocusRow
from batcher.finance.focus.write import FocusOptions, give_focus
from batcher.pricing.money import DECIMALS
from batcher.report.query import ReportQuery

_MONEY: Final = pa.decimal128(38, DECIMALS)
_TIME: Final = pa.timestamp("us", tz="UTC")
_ROWS_AT_ONCE: Final = 20_000


def focus_parquet(
    engines: Sequence[Engine],
    query: ReportQuery,
    options: FocusOptions,
    stream: BinaryIO,
    *,
    at_once: int = _ROWS_AT_ONCE,
) -> tuple[str, ...]:
    """Write the rows to `stream`, a bounded number `at_once`.

    Returns and raises like `write_focus`.
    """
    schema = pa.schema([(name, _kind(name)) for name in columns_of(options.version)])
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        rows: list[FocusRow] = []

        def take(row: FocusRow) -> None:
            rows.append(row)
            if len(rows) >= at_once:
                writer.write_table(_table(rows, schema))
                rows.clear()

        said = give_focus(engines, query, options, take)
        if rows:
            writer.write_table(_table(rows, schema))
    return said


def _kind(name: str) -> Any:  # noqa: ANN401 - a type of pyarrow, which has no stubs
    if name.endswith(("Cost", "Quantity", "UnitPrice", "_AssumedAbove")):
        return _MONEY
    is_time = name.endswith(("PeriodStart", "PeriodEnd")) or name == "x_SentAt"
    return _TIME if is_time else pa.string()


def _table(rows: Sequence[FocusRow], schema: Any) -> Any:  # noqa: ANN401 - as above
    columns = [
        pa.array([_value(row.get(name), kind) for row in rows], kind)
        for name, kind in zip(schema.names, schema.types, strict=True)
    ]
    return pa.Table.from_arrays(columns, schema=schema)


def _value(text: str | None, kind: Any) -> Decimal | datetime | str | None:  # noqa: ANN401
    if text is None or kind == pa.string():
        return text
    return Decimal(text) if kind == _MONEY else datetime.fromisoformat(text)
