"""Rows kept in a nameless file until all are there: then columns and types are known."""

import contextlib
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from batcher.outputs import no_formula
from batcher.rows.out.typed import GROUP_BYTES, GROUP_ROWS, CellKind

Scalar = bool | int | float | str | None

_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(list[bool | int | float | str | None])
_INT64: Final = 2**63
_SPECIAL: Final = re.compile(r"[\",\r\n]")
_CONTROL: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


class ByteStream(Protocol):
    """What a writer needs of a stream."""

    def write(self, data: bytes, /) -> object:
        """Take all of `data`."""

    def flush(self) -> None:
        """Pass on what is held back."""

    def close(self) -> None:
        """End the stream."""


class SpooledRows:
    """Rows of scalars: `columns` in order of first appearance, with the types seen in each.

    Objects, lists and raw JSON become JSON text, and so do integers beyond 64 bits.
    """

    def __init__(self, folder: Path | None) -> None:
        self.columns: dict[str, set[type]] = {}
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by close()
        self._read_bytes = 0

    def add(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Keep `rows`; raises `OSError`."""
        self._file.writelines(_ENCODER.encode(self._cells(row)) + b"\n" for row in rows)

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

    def rows(self) -> Iterator[list[Scalar]]:
        """All rows so far, each with a cell per column."""
        width = len(self.columns)
        self._file.seek(0)
        self._read_bytes = 0
        for line in self._file:
            self._read_bytes += len(line)
            cells = _DECODER.decode(line)
            yield cells + [None] * (width - len(cells))

    def batches(self) -> Iterator[list[list[Scalar]]]:
        """All rows so far, in batches of at most 20,000 rows and about 16 MB."""
        batch: list[list[Scalar]] = []
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

    def _cells(self, row: Mapping[str, Any]) -> list[Scalar]:
        for name in row:
            if name not in self.columns:
                self.columns[name] = set()
        cells = [scalar(row.get(name)) for name in self.columns]
        for types, cell in zip(self.columns.values(), cells, strict=True):
            if cell is not None:
                types.add(_kind(cell))
        return cells


def write_csv(spooled: SpooledRows, shape: "Shape", stream: ByteStream) -> None:
    """The rows as CSV, UTF-8, lines ended by a line feed, empty cells for null.

    Text that a spreadsheet would take for a formula gets an apostrophe in front, and control
    characters other than tabs and line ends become visible signs.
    """
    names = shape.names(spooled.columns)
    _write_lines([[_safe(name) for name in names]], stream)
    chosen = _choosing(spooled, names)
    for batch in spooled.batches():
        _write_lines(([_csv_cell(cell) for cell in chosen(row)] for row in batch), stream)


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


def as_text(cell: Scalar) -> str | None:
    """The cell in a column of texts."""
    if cell is None or isinstance(cell, str):
        return cell
    return _ENCODER.encode(cell).decode()


def _choosing(
    spooled: SpooledRows, names: Sequence[str]
) -> Callable[[list[Scalar]], list[Scalar]]:
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
