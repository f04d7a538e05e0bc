"""Rows whose columns have declared types, as Arrow: what values they hold changes no type."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import pyarrow as pa


GROUP_ROWS: Final = 20_000  # of a row group: its least and largest values let readers skip it
GROUP_BYTES: Final = 16 * 2**20  # or about as much, where rows are long: it is held in memory


class CellKind(StrEnum):
    """What the cells of a column are, whatever stands in them.

    `MONEY` is decimal(38, 12), `TIME` microseconds UTC, `JSON` is text. Cells are what Python
    has for each: `Decimal`, an aware `datetime`, a `date`.
    """

    TEXT = "text"
    JSON = "json"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    MONEY = "money"
    TIME = "time"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class TypedColumn:
    """A column and what its cells are."""

    name: str
    kind: CellKind


def arrow_schema(columns: Sequence[TypedColumn]) -> "pa.Schema":
    """The columns as Arrow has them."""
    import pyarrow as pa  # noqa: PLC0415 - 50 MB that other formats do not pay

    types = {
        CellKind.TEXT: pa.string(),
        CellKind.JSON: pa.string(),
        CellKind.INTEGER: pa.int64(),
        CellKind.NUMBER: pa.float64(),
        CellKind.BOOLEAN: pa.bool_(),
        CellKind.MONEY: pa.decimal128(38, 12),
        CellKind.TIME: pa.timestamp("us", tz="UTC"),
        CellKind.DAY: pa.date32(),
    }
    return pa.schema([(column.name, types[column.kind]) for column in columns])


def arrow_batch(schema: "pa.Schema", rows: Sequence[Sequence[Any]]) -> "pa.RecordBatch":
    """Rows of as many cells as the schema has columns."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    cells = zip(*rows, strict=True) if rows else [()] * len(schema)
    arrays = [pa.array(each, field.type) for each, field in zip(cells, schema, strict=True)]
    return pa.record_batch(arrays, schema=schema)


def arrow_table(
    columns: Sequence[TypedColumn], pages: Iterable[Sequence[Sequence[Any]]]
) -> "pa.Table":
    """All rows of all pages in memory."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    schema = arrow_schema(columns)
    return pa.Table.from_batches([arrow_batch(schema, page) for page in pages], schema)


def write_typed(
    columns: Sequence[TypedColumn],
    pages: Iterable[Sequence[Sequence[Any]]],
    stream: Any,  # noqa: ANN401 - what pyarrow writes to
) -> int:
    """Write the rows of all pages as Parquet; how many they are."""
    schema = arrow_schema(columns)
    return write_batches(schema, (arrow_batch(schema, page) for page in pages), stream)


def write_batches(
    schema: "pa.Schema",
    batches: Iterable["pa.RecordBatch"],
    stream: Any,  # noqa: ANN401 - what pyarrow writes to
) -> int:
    """Write all batches as Parquet; how many rows they have.

    A row group has 20,000 rows at most, or ends with the batch that brings it to 16 MB.
    """
    import pyarrow as pa  # noqa: PLC0415 - see above
    from pyarrow import parquet as pq  # noqa: PLC0415 - see above

    held, written = list[pa.RecordBatch](), 0
    rows = size = 0  # of what is held
    with pq.ParquetWriter(
        stream, schema, compression="zstd", write_page_checksum=True
    ) as writer:
        for batch in batches:
            held.append(batch)
            rows, size = rows + len(batch), size + batch.nbytes
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                writer.write_table(pa.Table.from_batches(held, schema), GROUP_ROWS)
                written += rows
                held, rows, size = [], 0, 0
        if rows or not written:
            writer.write_table(pa.Table.from_batches(held, schema), GROUP_ROWS)
    return written + rows
