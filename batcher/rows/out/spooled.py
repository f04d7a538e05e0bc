"""Rows kept in a nameless file until all are there: then columns and types are known.

For Parquet the declared columns are kept as Arrow, others as they came.
"""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import msgspec

from batcher.outputs import no_formula
from batcher.rows.out.lines import WrittenRow
from batcher.rows.out.typed import (
    GROUP_BYTES,
    GROUP_ROWS,
    CellKind,
    TypedColumn,
    arrow_schema,
    write_batches,
)

if TYPE_CHECKING:
    import pyarrow as pa


Scalar = bool | int | float | str | None

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(tuple[int, list[list[bool | int | float | str | None]]])
_OF_NOTHING: Final = {type(None)}
_OF_TEXT: Final = {str}
_INT64: Final = 2**63
_SPECIAL: Final = re.compile(r"[\",\r\n]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


_BATCH_BYTES: Final = 2 * 2**20
_MOST_ROWS: Final = 1_000
_FEW_ROWS: Final = 16  # of the first batch: how long rows are is not known yet


class ByteStream(Protocol):
    """What a writer needs of a stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""

    def flush(self) -> None:
        """Pass on what is held back."""

    def close(self) -> None:
        """End the stream."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Which columns a file of rows has, and in which order.

    `columns` are those to write, `None`: all. `declared` are there in every file, with their
    types, after the ones that rows bring along.
    """

    columns: Sequence[str] | None = None
    declared: Mapping[str, CellKind] = field(default_factory=dict)

    def names(self, seen: Iterable[str]) -> list[str]:
        """The columns of a file whose rows had the columns `seen`."""
        if self.columns is not None:
            return list(self.columns)
        return [*(name for name in seen if name not in self.declared), *self.declared]

    def split(self, row: Mapping[str, Any]) -> WrittenRow:
        """The row's own columns, and its cells of the declared ones."""
        if not self.declared:
            return row, ()
        own = {name: row[name] for name in row if name not in self.declared}
        return own, [row.get(name) for name in self.declared]

    def wanted(self) -> dict[str, int]:
        """The declared columns that are written, and where their cells are."""
        places = {name: place for place, name in enumerate(self.declared)}
        if self.columns is None:
            return places
        return {name: places[name] for name in self.columns if name in places}


class SpooledRows:
    """Rows of scalars: `columns` in order of first appearance, with the types seen in each.

    Objects, lists and raw JSON become JSON text, and so do integers beyond 64 bits.
    """

    def __init__(self, folder: Path | None, shape: Shape) -> None:
        self._places = shape.wanted()
        self._only = None if shape.columns is None else frozenset(shape.columns)
        self.columns: dict[str, set[type]] = {name: set() for name in self._places}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._read_bytes = 0

    def add(self, rows: Sequence[WrittenRow]) -> None:
        """Keep `rows` as one block; raises `OSError`."""
        own = [row[0] for row in rows]
        for name in dict.fromkeys(chain.from_iterable(own)):
            if name not in self.columns and (self._only is None or name in self._only):
                self.columns[name] = set()
        block = [
            self._cells(
                [each.get(name) for each in own]
                if place is None
                else [cells[place] for _, cells in rows],
                name,
            )
            for name in self.columns
            for place in (self._places.get(name),)
        ]
        self._file.write(_ENCODER.encode((len(rows), block)) + b"\n")

    @property
    def size_bytes(self) -> int:
        """Of the rows so far, as they are kept."""
        return self._file.tell()

    def kind_of(self, name: str) -> CellKind:
        """What the column is, by all of its values so far."""
        types = self.columns.get(name, set())
        if types == {bool}:
            return CellKind.BOOLEAN
        if types and types <= {int, _Wide}:
            return CellKind.INTEGER
        return CellKind.NUMBER if types and types <= {int, float} else CellKind.TEXT

    def blocks(self) -> Iterator[tuple[int, list[list[Scalar]]]]:
        """How many rows were added together, and their cells column by column."""
        self._file.seek(0)
        self._read_bytes = 0
        for line in self._file:
            self._read_bytes += len(line)
            length, block = _DECODER.decode(line)
            yield length, block + [[None] * length] * (len(self.columns) - len(block))

    def rows(self) -> Iterator[Sequence[Scalar]]:
        """All rows so far, each with a cell per column."""
        for length, block in self.blocks():
            yield from zip(*block, strict=True) if block else repeat((), length)

    def batches(self) -> Iterator[list[Sequence[Scalar]]]:
        """All rows so far, in batches of at most 20,000 rows and about 16 MB."""
        batch: list[Sequence[Scalar]] = []
        start = 0
        for row in self.rows():
            batch.append(row)
            if len(batch) >= GROUP_ROWS or self._read_bytes - start > GROUP_BYTES:
                yield batch
                batch, start = [], self._read_bytes
        if batch:
            yield batch

    def close(self) -> None:
        """Forget the rows; what a full disk did not take of them is of no use to anybody."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _cells(self, cells: list[Any], name: str) -> list[Scalar]:
        types = set(map(type, cells)) - _OF_NOTHING
        if not types <= _OF_TEXT:
            cells = list(map(scalar, cells))
            types = {_kind(cell) for cell in cells if cell is not None}
        self.columns[name] |= types
        return cells


def write_csv(spooled: SpooledRows, shape: Shape, stream: ByteStream) -> None:
    """The rows as CSV, UTF-8, lines ended by a line feed, empty cells for null.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, and control
    characters other than tabs and line ends become visible signs.
    """
    names = shape.names(spooled.columns)
    _write_lines([[_safe(name) for name in names]], stream)
    chosen = _choosing(spooled, names)
    for batch in spooled.batches():
        _write_lines(([_csv_cell(cell) for cell in chosen(row)] for row in batch), stream)


def as_text(cell: Scalar) -> str | None:
    """The cell in a column of texts."""
    if cell is None or isinstance(cell, str):
        return cell
    return _ENCODER.encode(cell).decode()


def _choosing(
    spooled: SpooledRows, names: Sequence[str]
) -> Callable[[Sequence[Scalar]], list[Scalar]]:
    """Takes the cells of `names` out of a row as it is kept."""
    place = {name: number for number, name in enumerate(spooled.columns)}
    places = [place.get(name) for name in names]
    return lambda row: [None if at is None else row[at] for at in places]


def scalar(value: object) -> Scalar:
    """The value as a cell: what is none becomes JSON text."""
    if value is None or type(value) in {str, bool, float}:
        return value  # type: ignore[return-value]  # narrowed by the set of types
    if isinstance(value, int):
        return value if -_INT64 <= value < _INT64 else str(value)
    if isinstance(value, msgspec.Raw):
        return bytes(value).decode()
    return _ENCODER.encode(value).decode()


class _Wide(int):
    """The type of integers that a double cannot hold exactly."""


def _kind(cell: Scalar) -> type:
    return _Wide if type(cell) is int and abs(cell) > 2**53 else type(cell)


def _safe(text: str) -> str:
    if not text.isprintable():
        text = _CONTROL.sub(_picture, text)
    return no_formula(text)


def _picture(control: re.Match[str]) -> str:
    """A visible sign for a character that would steer a terminal."""
    number = ord(control[0])
    return chr(0x2400 + number) if number < 0x20 else "\u2421" if number == 0x7F else "\ufffd"


def _csv_cell(cell: Scalar) -> str | int | float:
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return _safe(cell) if isinstance(cell, str) else cell


def _write_lines(rows: Iterable[Sequence[object]], stream: ByteStream) -> None:
    # the csv module leaves a carriage return bare when lines end in a line feed only
    lines = [",".join(map(_quoted, row)) or '""' for row in rows]
    stream.write("\n".join([*lines, ""]).encode())


def _quoted(cell: object) -> str:
    text = str(cell)
    return '"' + text.replace('"', '""') + '"' if _SPECIAL.search(text) else text


class TypedRows:
    """Takes rows into nameless files in `folder`, and makes one Parquet file of all."""

    def __init__(self, folder: Path | None, shape: Shape) -> None:
        import pyarrow as pa  # noqa: PLC0415 - 50 MB that other formats do not pay

        self._shape = shape
        self._places = shape.wanted()
        self._declared = [TypedColumn(name, shape.declared[name]) for name in self._places]
        own = None if shape.columns is None else set(shape.columns) - self._places.keys()
        self._others = SpooledRows(folder, Shape(columns=None if own is None else sorted(own)))
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._schema = arrow_schema(self._declared)
        self._batches = pa.ipc.new_stream(self._file, self._schema)
        self._held: list[WrittenRow] = []
        self._most, self._rows = _FEW_ROWS, 0

    def add(self, rows: Iterable[WrittenRow]) -> None:
        """Keep `rows`; raises `OSError`."""
        self._held += rows
        while len(self._held) >= self._most:
            self._keep(self._most)

    def write(self, stream: ByteStream) -> None:
        """All rows as Parquet, zstd inside, in row groups of 20,000 rows at most.

        A declared column has its type; another one that of all its values, text where they
        differ.
        """
        import pyarrow as pa  # noqa: PLC0415 - see above

        if self._held:
            self._keep(len(self._held))
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

    def _keep(self, count: int) -> None:
        import pyarrow as pa  # noqa: PLC0415 - see above

        rows, self._held = self._held[:count], self._held[count:]
        columns = list(zip(*(cells for _, cells in rows), strict=True))
        batch = pa.record_batch(
            [
                _array(columns[place], column.kind, wanted)
                for column, place, wanted in zip(
                    self._declared, self._places.values(), self._schema.types, strict=True
                )
            ],
            schema=self._schema,
        )
        self._batches.write_batch(batch)
        before = self._others.size_bytes
        self._others.add([(own, ()) for own, _ in rows])
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

        for batch, (length, block) in zip(kept, self._others.blocks(), strict=True):
            cells = dict(zip(self._others.columns, block, strict=True))
            found = {
                each.name: _array(cells[each.name], kinds[each.name], each.type)
                for each in schema
                if each.name in cells
            }
            found |= dict(zip(batch.schema.names, batch.columns, strict=True))
            nothing = pa.nulls(length)
            arrays = [found.get(each.name, nothing.cast(each.type)) for each in schema]
            yield pa.record_batch(arrays, schema=schema)


def _json_text(cell: object) -> str | bytes | None:
    return bytes(cell) if type(cell) is msgspec.Raw else as_text(scalar(cell))


def _array(cells: Sequence[Any], kind: CellKind, wanted: "pa.DataType") -> "pa.Array":
    """The cells of one column; amounts and times come as texts."""
    import pyarrow as pa  # noqa: PLC0415 - see above

    match kind:
        case CellKind.JSON:
            return pa.array([_json_text(cell) for cell in cells], wanted)
        case CellKind.TEXT:
            try:
                return pa.array(cells, wanted)
            except (pa.ArrowTypeError, pa.ArrowInvalid):  # not all of them are texts
                return pa.array([as_text(scalar(cell)) for cell in cells], wanted)
        case CellKind.MONEY | CellKind.TIME:
            return pa.array(cells, pa.string()).cast(wanted)
        case _:
            return pa.array(cells, wanted)
