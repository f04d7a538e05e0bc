"""Splits blocks of bytes into lines, at line feeds only; passes whole blocks unread."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from batcher.rows.ranges import RowsToRead

MAX_LINE_BYTES: Final = 32 * 1024 * 1024  # the API's limit of a body (messages-api, 2.4)

_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lines:
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
    """Splits one stream; `row_number` is that of the line now being read, from 1."""

    def __init__(self, rows: RowsToRead) -> None:
        self._rows = rows
        self._started = False
        self.row_number = 1
        self.offset = 0
        # The beginning of the line now being read. In one piece: a list of blocks would stay
        # in the heap, where the last one keeps the others from being given back.
        self._tail = bytearray()
        self._tail_bytes = 0

    def split(self, blocks: Iterator[bytes]) -> Iterator[Lines]:
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

    def _take(self, block: bytes) -> Iterator[Lines]:
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

    def _chosen(self, head: bytes, last: int) -> Iterator[Lines]:
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
            yield Lines(first_row=start, offset=offset, lines=chosen)
            offset += sum(map(len, chosen)) + len(chosen)
            done = stop - row + 1
        if row + done <= last:
            yield self._passed(row + done, last)

    def _joined(self, end: bytes, length: int) -> Iterator[Lines]:
        """The line whose beginning came in earlier blocks."""
        row, offset = self.row_number, self.offset
        if not self._rows.take_one(row):
            yield self._passed(row, row)
        elif length > MAX_LINE_BYTES:
            yield Lines(first_row=row, offset=offset, lines=[b""], too_long=True)
        else:
            self._tail += end
            line = bytes(self._tail)
            self._tail = bytearray()  # not held beside the line while that is looked at
            yield Lines(first_row=row, offset=offset, lines=[line])

    def _last_line(self) -> Iterator[Lines]:
        for lines in self._joined(b"", self._tail_bytes):
            yield Lines(
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

    def _passed(self, first: int, last: int) -> Lines:
        return Lines(first_row=first, offset=self.offset, lines=[], skipped=last - first + 1)

    def _keep(self, block: bytes) -> None:
        self._tail_bytes += len(block)
        if self._tail_bytes > MAX_LINE_BYTES:
            self._tail = bytearray()  # too long to be of use; only its length is still counted
        else:
            self._tail += block
