"""Rows on their way to Parquet: declared columns as Arrow, others as they came."""

import contextlib
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from batcher.rows.out.spooled import ByteStream, Shape, SpooledRows, as_text, scalar
from batcher.rows.out.typed import (
    GROUP_ROWS,
    CellKind,
    TypedColumn,
    arrow_schema,
    write_batches,
)

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH_BYTES: Final = 2 * 2**20
_MOST_ROWS: Final = 1_000
_FEW_ROWS: Final = 16  # of the first batch: how long rows are is not known yet


class TypedRows:
    """Takes rows into nameless files in `folder`, and makes one Parquet file of all."""

    def __init__(self, folder: Path | None, shape: Shape) -> None:
        import pyarrow as pa  # noqa: PLC0415 - 50 MB that other formats do not pay

        self._shape = shape
        wanted = shape.declared if shape.columns is None else shape.columns
        self._declared = [
            TypedColumn(name, shape.declared[name]) for name in wanted if name in shape.declared
        ]
        self._others = SpooledRows(folder)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._schema = arrow_schema(self._declared)
        self._batches = pa.ipc.new_stream(self._file, self._schema)
        self._lengths: list[int] = []  # of the batches: without columns they do not know it
        self._held: list[Mapping[str, Any]] = []
        self._most, self._rows = _FEW_ROWS, 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep `rows`; raises `OSError`."""
        for row in rows:
            self._held.append(row)
            if len(self._held) >= self._most:
                self._keep()

    def write(self, stream: ByteStream) -> None:
        """All rows as Parquet, zstd inside, in row groups of 20,000 rows at most.

        A declared column has its type; another one that of all its values, text where they
        differ.
        """
        import pyarrow as pa  # noqa: PLC0415 - see above

        if self._held:
            self._keep()
        self._batches.close()
        self._file.seek(0)
        names = self._shape.names(self._others.columns)
        kinds = {name: self._others.kind_of(name) for name in names}
        kinds |= {column.name: column.kind for column in self._declared}
        schema = arrow_schema([TypedColumn(name, kinds[name]) for name in names])
        with pa.ipc.open_stream(self._file) as kept:
            write_batches(schema, self._joined(schema, kinds, kept), stream)

    def close(self) -> None:
        """Forget the rows; what a full disk did not take of them is of no use to anybody."""
        self._others.close()
        for each in (self._batches, self._file):
            with contextlib.suppress(OSError, ValueError):
                each.close()

    def _keep(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - see above

        rows, self._held = self._held, []
        batch = pa.record_batch(
            [
                _array(_cells(rows, column.name), column.kind, wanted)
                for column, wanted in zip(self._declared, self._schema.types, strict=True)
            ],
            schema=self._schema,
        )
        self._batches.write_batch(batch)
        self._lengths.append(len(rows))
        before, known = self._others.size_bytes, frozenset(self._schema.names)
        self._others.add({name: row[name] for name in row if name not in known} for row in rows)
        each = 1 + (batch.nbytes + self._others.size_bytes - before) // len(rows)
        self._rows += len(rows)
        left = GROUP_ROWS - self._rows % GROUP_ROWS  # a batch ends where a row group does
        self._most = max(1, min(_BATCH_BYTES // each, _MOST_ROWS, left))

    def _joined(
        self,
        schema: "pa.Schema",
        kinds: Mapping[str, CellKind],
        kept: Iterable["pa.RecordBatch"],
    ) -> Iterator["pa.RecordBatch"]:
        import pyarrow as pa  # noqa: PLC0415 - see above

        rows = self._others.rows()
        for batch, length in zip(kept, self._lengths, strict=True):
            cells = dict(
                zip(
                    self._others.columns,
                    zip(*islice(rows, length), strict=True),
                    strict=False,
                )
            )
            found = {
                each.name: _array(cells[each.name], kinds[each.name], each.type)
                for each in schema
                if each.name in cells
            }
            found |= dict(zip(batch.schema.names, batch.columns, strict=True))
            nothing = pa.nulls(length)
            arrays = [found.get(each.name, nothing.cast(each.type)) for each in schema]
            yield pa.record_batch(arrays, schema=schema)


def _cells(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    try:
        return list(map(itemgetter(name), rows))
    except KeyError:
        return [row.get(name) for row in rows]


def _array(cells: Sequence[Any], kind: CellKind, wanted: "pa.DataType") -> "pa.Array":
    """The cells of one column; amounts and times come as texts."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    match kind:
        case CellKind.JSON:
            return pa.array([as_text(scalar(cell)) for cell in cells], wanted)
        case CellKind.TEXT:
            try:
                return pa.array(cells, wanted)
            except (pa.ArrowTypeError, pa.ArrowInvalid):  # not all of them are texts
                return pa.array([as_text(scalar(cell)) for cell in cells], wanted)
        case CellKind.MONEY | CellKind.TIME:
            return pa.array(cells, pa.string()).cast(wanted)
        case _:
            return pa.array(cells, wanted)
