"""What a Parquet file says of itself, byte by byte: nothing is unpacked.

A page is unpacked whole, whatever few records are asked of it. Its header tells what it
becomes: a structure in Thrift's compact form, before each page
(https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift).
The footer tells Parquet's types, and in a note those of Arrow, which may be more than this
program's Arrow knows.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import SEEK_END
from typing import Any, Final

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
