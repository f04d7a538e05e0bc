"""The bytes of a text file, unpacked, block by block; a cut file never looks complete.

Plain, gzip and bzip2 need the standard library only: pyarrow costs 50 MB and is imported for
Zstandard alone.
"""

import bz2
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, Protocol

from batcher.errors import StorageError
from batcher.rows.read.source import SourceFile
from batcher.rows.reasons import InputBroken

BLOCK_BYTES: Final = 2**18
_PACKED_BYTES: Final = 64 * 1024
# A decompression bomb: 1 GiB of zeros fits in 33 kB of zstd (reliability, 4).
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
                yield from _plain(source.path)
            case "zst":
                yield from _zstd(source.path)
            case "gz":
                yield from _packed(source.path, lambda: zlib.decompressobj(wbits=31))
            case "bz2":
                yield from _packed(source.path, bz2.BZ2Decompressor)
    except OSError as exc:
        raise StorageError(f"{source.name}: reading failed: {exc.strerror or exc}") from exc


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK_BYTES):
            yield block


class _Member(Protocol):
    """What zlib and bz2 objects have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


def _packed(path: Path, new_member: Callable[[], _Member]) -> Iterator[bytes]:
    """The content of one or more members; zero bytes between or after them are padding."""
    with path.open("rb", buffering=0) as file:
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


def _zstd(path: Path) -> Iterator[bytes]:
    """The content of all frames, everything before the damage included.

    A failing read loses what it had unpacked: the place is approached again in smaller steps.
    """
    delivered = 0
    problem = ""
    if not path.stat().st_size:
        raise InputBroken("the packed file is empty")
    for block_bytes in (BLOCK_BYTES, 4096, 1):
        stream = _zstd_blocks(path, delivered, block_bytes)
        try:
            for block in stream:
                delivered += len(block)
                yield block
        except InputBroken as exc:
            problem = exc.args[0]
        else:
            return
    raise InputBroken(problem)


def _zstd_blocks(path: Path, skip: int, block_bytes: int) -> Iterator[bytes]:
    import pyarrow as pa  # noqa: PLC0415 - 50 MB and 100 ms that other formats do not pay

    guard = _BombGuard()
    with pa.OSFile(str(path)) as file, pa.CompressedInputStream(file, "zstd") as stream:
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
