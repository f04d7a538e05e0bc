"""How large Parquet becomes when it is decoded, told before that is done.

A value that occurs often is written once, so that a file of 1 kB may hold gigabytes; and what
is much alike packs well. How many records are read at a time follows from what they can become.

A page is unpacked whole, whatever few records are asked of it. Its header tells what it
becomes: a structure in Thrift's compact form, before each page
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).
The footer tells Parquet's types, and in a note those of Arrow, which may be more than this
program's Arrow knows.
"""

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from io import SEEK_END
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet as pq

from batcher.rows.read.source import SourceFile

_MOST_HEADER: Final = 2**14
_DICTIONARY: Final = 2  # a page's type
_KIND, _UNPACKED, _PACKED = 1, 2, 3  # fields of a page's header
_TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 7, 8, 12  # and no map
_INTEGERS: Final = (4, 5, 6)
_LISTS: Final = (9, 10)
_NESTED: Final = 8  # deeper than any header is
_MAGIC: Final = b"PAR1"
_ARROW_NOTE: Final = b"ARROW:schema"
PASSED_OVER: Final = b"ARROW-schema"  # as long, and nobody reads it


AT_ONCE_BYTES: Final = 2**25  # what the records of one read may become, by all that is known
MOST_ROW_BYTES: Final = 2**26  # twice of what a body may have
_BUFFER_BYTES: Final = 2**16  # of a column
_STORED_BUFFER_BYTES: Final = 2**20
_CHUNK_BYTES: Final = 4 * 2**20
_CHUNK_ROWS: Final = 128  # more of them cost memory and save no time
_LARGE_DICTIONARY: Final = 5 * 2**18  # what writers make of themselves ends at 1 MiB
_PLAIN_RATIO: Final = 20  # what text packs to, with much to spare
_FREE_VALUES: Final = 8_000_000
_MOST_RATIO: Final = 1_000
_MOST_PAGE: Final = 2**27  # of a page that packs as only a bomb does


@dataclass(frozen=True, slots=True)
class ReadingPlan:
    """How a row group is read: so many records at a time, these columns as dictionaries."""

    rows: int
    as_dictionaries: tuple[str, ...] = ()


def reading_plan(source: SourceFile, group: Any, names: list[str]) -> ReadingPlan:  # noqa: ANN401  a RowGroupMetaData
    """How to read the columns `names` of a row group in bounded memory.

    Raises `ValueError` where a list has so many values, or a page is packed so well, that only
    a bomb does.
    """
    columns = [group.column(number) for number in range(group.num_columns)]
    chosen = [each for each in columns if each.path_in_schema.split(".")[0] in names]
    unpacked = sum(each.total_uncompressed_size for each in chosen)
    packed = sum(each.total_compressed_size for each in chosen)
    rows = max(1, min(_CHUNK_ROWS, _CHUNK_BYTES // (unpacked // group.num_rows + 1)))
    if unpacked > max(AT_ONCE_BYTES, _PLAIN_RATIO * packed):
        rows = min(rows, 2)  # of 32 MB each, perhaps
    nested: list[str] = []
    for column in chosen:
        _check_pages(source, column)
        shared = _dictionary_bytes(source, column)
        if "." not in column.path_in_schema:
            rows = max(1, min(rows, AT_ONCE_BYTES // max(shared, 1)))
            continue
        _check_values(column, group.num_rows)
        little_else = column.total_uncompressed_size <= 4 * shared + _LARGE_DICTIONARY
        if column.num_values * shared > AT_ONCE_BYTES and (
            shared > _LARGE_DICTIONARY or little_else
        ):
            nested.append(column.path_in_schema)
    return ReadingPlan(rows, tuple(nested))


def decoded_bytes(column: pa.Array) -> int:
    """What a column's values take when each stands for itself."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        if not (pa.types.is_string(kind.value_type) or pa.types.is_binary(kind.value_type)):
            return int(column.indices.nbytes)
        lengths = pc.binary_length(column.dictionary).cast(pa.int64())
        return int(pc.sum(lengths.take(column.indices)).as_py() or 0)
    if pa.types.is_struct(kind):
        return sum(map(decoded_bytes, column.flatten()))
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return decoded_bytes(column.flatten())
    return int(column.nbytes)


def pieces(batch: pa.RecordBatch) -> list[pa.RecordBatch]:
    """The same records, as few at a time as their values take little memory; in order."""
    if batch.num_rows < 2 or not any(map(_shares, batch.schema.types)):
        return [batch]  # as they are, they are decoded
    if row_bytes(batch) <= AT_ONCE_BYTES:
        return [batch]
    half = batch.num_rows // 2
    return [*pieces(batch.slice(0, half)), *pieces(batch.slice(half))]


def _shares(kind: pa.DataType) -> bool:
    """Whether values of that type may be written once and occur often."""
    if pa.types.is_dictionary(kind):
        return True
    return any(_shares(kind.field(number).type) for number in range(kind.num_fields))


def row_bytes(batch: pa.RecordBatch) -> int:
    """What its records take when they are decoded."""
    return sum(map(decoded_bytes, batch.columns))


def open_parquet(source: SourceFile, as_dictionaries: Sequence[str] = ()) -> pq.ParquetFile:
    """The file, opened so that these columns stay dictionaries; raises what pyarrow does.

    Each column that is read has a buffer; in a store a reading costs a request. Where Arrow's
    own types are none that pyarrow knows, those of Parquet are taken.
    """
    try:
        return _opened(source, as_dictionaries)
    except pa.ArrowNotImplementedError:
        footer = pq.read_metadata(io.BytesIO(footer_without_arrow(source)))
        return _opened(source, as_dictionaries, footer)


def _opened(
    source: SourceFile, as_dictionaries: Sequence[str], footer: pq.FileMetaData | None = None
) -> pq.ParquetFile:
    return pq.ParquetFile(
        source.path or source.open(ahead_bytes=0),
        metadata=footer,
        read_dictionary=list(as_dictionaries),
        page_checksum_verification=True,
        pre_buffer=False,
        buffer_size=_BUFFER_BYTES if source.path else _STORED_BUFFER_BYTES,
    )


def _check_values(column: Any, rows: int) -> None:  # noqa: ANN401  a ColumnChunkMetaData
    most = max(_FREE_VALUES, _MOST_RATIO * column.total_compressed_size)
    if column.num_values - rows > most:
        raise ValueError(
            f"column {column.path_in_schema} unpacks to {column.num_values:,} values from"
            f" {column.total_compressed_size:,} bytes"
        )


def _check_pages(source: SourceFile, column: Any) -> None:  # noqa: ANN401  a ColumnChunkMetaData
    """A page is unpacked whole: pictures make large ones, too, but those pack badly."""
    unpacked, packed = column.total_uncompressed_size, column.total_compressed_size
    if unpacked <= _MOST_PAGE:
        return
    for page in pages(source, column):
        _check_page(column, page.unpacked, page.packed)
        unpacked, packed = unpacked - page.unpacked, packed - page.packed
    _check_page(column, unpacked, packed)  # behind a header that cannot be read


def _check_page(column: Any, unpacked: int, packed: int) -> None:  # noqa: ANN401  a ColumnChunkMetaData
    if unpacked > max(_MOST_PAGE, _PLAIN_RATIO * packed):
        raise ValueError(
            f"column {column.path_in_schema} unpacks a page of {unpacked:,} bytes from"
            f" {packed:,} bytes; write it with smaller pages"
        )


def _dictionary_bytes(source: SourceFile, column: Any) -> int:  # noqa: ANN401  a ColumnChunkMetaData
    """The bytes of a column's dictionary, by the header of its page; 0: it has none."""
    first = next(pages(source, column), None)
    if first is None:
        return int(column.total_uncompressed_size)
    return first.unpacked if first.is_dictionary else 0


@dataclass(frozen=True, slots=True)
class PageSize:
    """One page: its bytes as they are stored, and as they are unpacked."""

    is_dictionary: bool
    packed: int
    unpacked: int


def pages(source: SourceFile, column: Any) -> Iterator[PageSize]:  # noqa: ANN401  a ColumnChunkMetaData
    """The pages of a column chunk in order; ends early at a header that cannot be read."""
    dictionary = column.dictionary_page_offset
    place = column.data_page_offset if dictionary is None else dictionary
    end = place + column.total_compressed_size
    with source.open(ahead_bytes=0) as file:
        while place < end:
            file.seek(place)
            header = _Header(file.read(_MOST_HEADER))
            try:
                fields = header.integers_of_struct()
                page = PageSize(
                    fields[_KIND] == _DICTIONARY, fields[_PACKED], fields[_UNPACKED]
                )
            except (LookupError, ValueError):
                return
            if page.packed < 0 or page.unpacked < 0:
                return
            yield page
            place += header.place + page.packed


def footer_without_arrow(source: SourceFile) -> bytes:
    """A file without records, with the footer of `source` where Arrow's note has another name.

    Raises `OSError`, `StorageError`, or `ValueError` for what is no footer.
    """
    with source.open(ahead_bytes=0) as file:
        size = file.seek(0, SEEK_END)
        file.seek(max(size - 8, 0))
        length = int.from_bytes(file.read(4), "little")
        if length > size - 8:
            raise ValueError("its footer is longer than the file")
        file.seek(size - 8 - length)
        footer = file.read(length + 8)
    return _MAGIC + footer.replace(_ARROW_NOTE, PASSED_OVER)


class _Header:
    """Reads one structure; raises `LookupError` or `ValueError` where there is none."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.place = 0

    def integers_of_struct(self, depth: int = 0) -> dict[int, int]:
        """The structure's integers by the number of their field; all else is passed over."""
        if depth > _NESTED:
            raise ValueError("nested too deep")
        found: dict[int, int] = {}
        field = 0
        while head := self._byte():
            delta, kind = head >> 4, head & 0x0F
            field = field + delta if delta else self._signed()
            if kind in _INTEGERS:
                found[field] = self._signed()
            elif kind not in {_TRUE, _FALSE}:  # whose value is in the head
                self._pass(kind, depth)
        return found

    def _pass(self, kind: int, depth: int) -> None:
        if kind in _INTEGERS:
            self._unsigned()
        elif kind in _LISTS:
            self._pass_list(depth)
        elif kind == _STRUCT:
            self.integers_of_struct(depth + 1)
        else:
            length = self._length(kind)
            self.place += length
            if self.place > len(self._data):
                raise ValueError("cut")

    def _length(self, kind: int) -> int:
        of_kind: dict[int, Callable[[], int]] = {
            _TRUE: lambda: 1,  # in a list, where each has a byte
            _FALSE: lambda: 1,
            _BYTE: lambda: 1,
            _DOUBLE: lambda: 8,
            _BINARY: self._unsigned,
        }
        return of_kind[kind]()

    def _pass_list(self, depth: int) -> None:
        head = self._byte()
        many = head >> 4
        for _ in range(self._unsigned() if many == 0x0F else many):
            self._pass(head & 0x0F, depth + 1)

    def _byte(self) -> int:
        byte = self._data[self.place]
        self.place += 1
        return byte

    def _unsigned(self) -> int:
        value = shift = 0
        while (byte := self._byte()) >= 0x80:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._unsigned()
        return value >> 1 ^ -(value & 1)
