"""How large Parquet becomes when it is decoded, told before that is done.

A value that occurs often is written once, so that a file of 1 kB may hold gigabytes; and what
is much alike packs well. How many records are read at a time follows from what they can become.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet as pq

from batcher.rows.read.pages import footer_without_arrow, pages
from batcher.rows.read.source import SourceFile

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
