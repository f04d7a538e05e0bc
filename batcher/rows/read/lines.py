"""From a text file to its lines: unpacked block by block, split at line feeds only.

Whole finished blocks pass unread, and a cut file never looks complete. Plain, gzip and bzip2
need the standard library only: pyarrow costs 50 MB and is imported for Zstandard alone.
"""

import bz2
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

from batcher.errors import StorageError
from batcher.rows.batch import InputBroken
from batcher.rows.ranges import RowsToRead
from batcher.rows.read.source import SourceFile

MAX_LINE_BYTES: Final = 32 * 1024 * 1024  # the API's limit of a body

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class LineBatch:
    """Consecutive lines without their line feeds, or word that lines were skipped.

    `first_row` numbers the first line, `offset` is where it starts in the unpacked stream.
    `too_long` says that it is one line, not kept, of more than `MAX_LINE_BYTES`. `terminated`
    is false for a last line without a line feed. Where `skipped` is not 0, `lines` is empty
    and that many lines were passed.
    """

    first_row: int
    offset: int
    lines: list[bytes]
    too_long: bool = False
    terminated: bool = True
    skipped: int = 0


class LineSplitter:
    """Splits one stream; `row_number` is that of the line now being read, from 1.

    `are_joined`: a byte order mark may begin any line, where files were put together; it
    counts as blanks.
    """

    def __init__(self, rows: RowsToRead, *, are_joined: bool = False) -> None:
        self._rows = rows
        self._are_joined = are_joined
        self._started = False
        self.row_number = 1
        self.offset = 0
        # The beginning of the line now being read. In one piece: a list of blocks would stay
        # in the heap, where the last one keeps the others from being given back.
        self._tail = bytearray()
        self._tail_bytes = 0

    def split(self, blocks: Iterator[bytes]) -> Iterator[LineBatch]:
        """The lines of `blocks` that are to be read, in order."""
        for block in blocks:
            yield from self._take(block if self._started else self._first_block(block))
        if self._tail_bytes:
            yield from self._last_line()

    def _first_block(self, block: bytes) -> bytes:
        self._started = True
        if block.startswith(_BOM):
            self.offset = len(_BOM)
            return block[len(_BOM) :]
        return block

    def _take(self, block: bytes) -> Iterator[LineBatch]:
        if self._are_joined and b"\xef" in block and _BOM in block:  # the former is fast
            block = block if self._tail_bytes else self._without_mark(block)
            block = block.replace(b"\n" + _BOM, b"\n   ")
        end = block.rfind(b"\n")
        if end < 0:
            self._keep(block)
            return
        last = self.row_number + block.count(b"\n") - 1
        ends_at = self.offset + self._tail_bytes + end + 1
        if self._rows.none_in(self.row_number, last):
            yield self._passed(self.row_number, last)
        else:
            yield from self._chosen(block[:end], last)
        self.row_number, self.offset = last + 1, ends_at
        self._tail, self._tail_bytes = bytearray(), 0
        self._keep(block[end + 1 :])

    def _chosen(self, head: bytes, last: int) -> Iterator[LineBatch]:
        row, offset = self.row_number, self.offset
        if self._tail_bytes:
            first, found, head = head.partition(b"\n")
            length = self._tail_bytes + len(first)
            yield from self._joined(first, length)
            row, offset = row + 1, offset + length + 1
            if not found:
                return
        lines = head.split(b"\n")
        done = 0  # how many of `lines` the offset has moved past
        for start, stop in self._rows.take(row, last):
            if start > row + done:
                yield self._passed(row + done, start - 1)
            chosen = lines[start - row : stop - row + 1]
            offset += sum(map(len, lines[done : start - row])) + start - row - done
            yield LineBatch(first_row=start, offset=offset, lines=chosen)
            offset += sum(map(len, chosen)) + len(chosen)
            done = stop - row + 1
        if row + done <= last:
            yield self._passed(row + done, last)

    def _joined(self, end: bytes, length: int) -> Iterator[LineBatch]:
        """The line whose beginning came in earlier blocks."""
        row, offset = self.row_number, self.offset
        if not self._rows.take_one(row):
            yield self._passed(row, row)
        elif length > MAX_LINE_BYTES:
            yield LineBatch(first_row=row, offset=offset, lines=[b""], too_long=True)
        else:
            self._tail += end
            line = self._without_mark(bytes(self._tail))
            self._tail = bytearray()  # not held beside the line while that is looked at
            yield LineBatch(first_row=row, offset=offset, lines=[line])

    def _without_mark(self, line: bytes) -> bytes:
        is_marked = self._are_joined and line.startswith(_BOM)
        return b"   " + line[len(_BOM) :] if is_marked else line

    def _last_line(self) -> Iterator[LineBatch]:
        for lines in self._joined(b"", self._tail_bytes):
            yield LineBatch(
                first_row=lines.first_row,
                offset=lines.offset,
                lines=lines.lines,
                too_long=lines.too_long,
                terminated=False,
                skipped=lines.skipped,
            )
        self.row_number += 1
        self.offset += self._tail_bytes
        self._tail, self._tail_bytes = bytearray(), 0

    def _passed(self, first: int, last: int) -> LineBatch:
        return LineBatch(
            first_row=first, offset=self.offset, lines=[], skipped=last - first + 1
        )

    def _keep(self, block: bytes) -> None:
        self._tail_bytes += len(block)
        if self._tail_bytes > MAX_LINE_BYTES:
            self._tail = bytearray()  # too long to be of use; only its length is still counted
        else:
            self._tail += block


BLOCK_BYTES: Final = 2**18
_PACKED_BYTES: Final = 64 * 1024
# A decompression bomb: 1 GiB of zeros fits in 33 kB of zstd.
_FREE_BYTES: Final = 64 * 1024 * 1024
_MAX_RATIO: Final = 1_000


def read_blocks(source: SourceFile) -> Iterator[bytes]:
    """The unpacked content in blocks of at most about 1 MB.

    Raises `InputBroken`, after everything that could be read, when a packed file is cut,
    damaged or a decompression bomb; `StorageError` when the disk fails.
    """
    try:
        match source.compression:
            case None:
                yield from _plain(source)
            case "zst":
                yield from _zstd(source)
            case "gz":
                yield from _packed(source, lambda: zlib.decompressobj(wbits=31))
            case "bz2":
                yield from _packed(source, bz2.BZ2Decompressor)
    except OSError as exc:
        raise StorageError(f"{source.name}: reading failed: {exc.strerror or exc}") from exc


def _plain(source: SourceFile) -> Iterator[bytes]:
    with source.open() as file:
        while block := file.read(BLOCK_BYTES):
            yield block


class _Member(Protocol):
    """What zlib and bz2 objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _packed(source: SourceFile, new_member: Callable[[], _Member]) -> Iterator[bytes]:
    """The content of one or more members; zero bytes between or after them are padding."""
    with source.open() as file:
        guard = _BombGuard()
        data = file.read(_PACKED_BYTES)
        if not data:
            raise InputBroken("the packed file is empty")
        while data:
            member, data = new_member(), data.lstrip(b"\0")
            while data and not member.eof:
                block, data = _step(member, data)
                guard.check(len(block), file.tell())
                while block:
                    yield block
                    block, data = _step(member, data)
                    guard.check(len(block), file.tell())
                if not member.eof and not (data := file.read(_PACKED_BYTES)):
                    raise InputBroken("the packed file is cut off")
            data = member.unused_data or file.read(_PACKED_BYTES)


def _step(member: _Member, data: bytes) -> tuple[bytes, bytes]:
    """The next block, empty when more input is needed, and the input still to be used."""
    if member.eof:
        return b"", b""
    try:
        block = member.decompress(data, BLOCK_BYTES)
    except (zlib.error, OSError, ValueError) as exc:
        raise InputBroken(f"the packed data is damaged: {exc}") from exc
    return block, getattr(member, "unconsumed_tail", b"")  # bz2 keeps its own


def _zstd(source: SourceFile) -> Iterator[bytes]:
    """The content of all frames, everything before the damage included.

    A failing read loses what it had unpacked: the place is approached again in smaller steps.
    """
    delivered = 0
    problem = ""
    if not source.size_bytes():
        raise InputBroken("the packed file is empty")
    for block_bytes in (BLOCK_BYTES, 4096, 1):
        stream = _zstd_blocks(source, delivered, block_bytes)
        try:
            for block in stream:
                delivered += len(block)
                yield block
        except InputBroken as exc:
            problem = exc.args[0]
        else:
            return
    raise InputBroken(problem)


def _zstd_blocks(source: SourceFile, skip: int, block_bytes: int) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415 - 50 MB and 100 ms that other formats do not pay

    guard = _BombGuard()
    path = source.path
    opened = pa.PythonFile(source.open()) if path is None else pa.OSFile(str(path))
    with opened as file, pa.CompressedInputStream(file, "zstd") as stream:
        while True:
            wanted = min(skip, BLOCK_BYTES) or block_bytes
            try:
                block = stream.read(wanted)
            except OSError as exc:
                raise InputBroken(f"the packed file is cut off or damaged: {exc}") from exc
            if not block:
                return
            guard.check(len(block), file.tell())
            if skip:
                skip -= len(block)
            else:
                yield block


class _BombGuard:
    """Refuses what unpacks to more than a thousand times its size, after the first 64 MB."""

    def __init__(self) -> None:
        self._unpacked = 0

    def check(self, unpacked_bytes: int, packed_position: int) -> None:
        self._unpacked += unpacked_bytes
        if self._unpacked > max(_FREE_BYTES, _MAX_RATIO * packed_position):
            raise InputBroken(
                f"the packed data unpacks to more than {_MAX_RATIO:,} times its size"
            )
