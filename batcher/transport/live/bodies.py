"""Bodies of answers: read as far as they are wanted, and unpacked in bounds.

`accept-encoding: identity` goes with every request; gateways pack all the same, and some label
plain JSON as packed.
"""

import asyncio
import io
import zlib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final, Protocol

import aiohttp

from batcher.messages.codec import ANSWER_LIMIT
from batcher.transport.live.connections import TROUBLES, SendError
from batcher.transport.room import HeldRoom

_PIECE_BYTES: Final = 2**18
_GZIP_OR_ZLIB: Final = 32 + zlib.MAX_WBITS  # zlib tells the two apart by their first bytes
_PLAIN: Final = (
    b"{",
    b"[",
    b"event:",
    b"data:",
    b":",
    b"<",
    b"\xef\xbb\xbf",
    b" ",
    b"\n",
    b"\r",
)
BODY_LIMIT: Final = ANSWER_LIMIT
_REST_BYTES: Final = 64 * 2**10  # what may follow the end of a message
_REST_SECONDS: Final = 1


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """How a streamed answer ended: status and headers, and what broke it, if anything did."""

    status: int
    headers: Mapping[str, str]
    broken_by: SendError | None
    held: HeldRoom | None = None


class _Unpacker(Protocol):
    """Bytes in, bytes out; raises `ValueError` for what is not packed so."""

    def feed(self, chunk: bytes) -> bytes:
        """What the next bytes unpack to, as far as it is known."""

    def finish(self) -> bytes:
        """What is left when no more bytes come."""


class Unpacked:
    """The body of one answer, unpacked as it comes; raises `SendError` beyond `limit` bytes.

    A body that is not packed as its label says is passed on as it is.
    """

    def __init__(self, headers: Mapping[str, str], limit: int) -> None:
        self._unpackers = [_UNPACKERS[name](limit) for name in reversed(_labels(headers))]
        self._limit = limit
        self._size = 0
        self._begun = False

    def feed(self, chunk: bytes) -> bytes:
        """The next bytes of the body, unpacked as far as they are whole."""
        if not self._begun and chunk:
            self._begun = True
            if chunk.startswith(_PLAIN):
                self._unpackers = []
        if not self._unpackers:
            return chunk
        try:
            for unpacker in self._unpackers:
                chunk = unpacker.feed(chunk)
        except ValueError:
            self._unpackers = []
            return chunk
        return self._counted(chunk)

    def finish(self) -> bytes:
        """The rest, once no more bytes come."""
        rest = b""
        try:
            for unpacker in self._unpackers:
                rest = unpacker.feed(rest) + unpacker.finish()
        except ValueError:
            return b""
        return self._counted(rest)

    def _counted(self, chunk: bytes) -> bytes:
        self._size += len(chunk)
        if self._size > self._limit:
            message = (
                f"the answer is larger than {self._limit // 2**20} MiB when it is unpacked"
            )
            raise SendError("answer_too_large", message, left=True)
        return chunk


def unpacked(body: bytes, headers: Mapping[str, str], limit: int) -> bytes:
    """A whole body, unpacked; as it came where that cannot be done."""
    unpacking = Unpacked(headers, limit)
    return unpacking.feed(body) + unpacking.finish() or body


def _labels(headers: Mapping[str, str]) -> list[str]:
    names = headers.get("content-encoding", "").lower().split(",")
    known = [_SPELLINGS.get(name.strip(), name.strip()) for name in names]
    return known if all(name in _UNPACKERS for name in known) else []


class _Zlib:
    """gzip and deflate; the latter also without its header, as some servers write it."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._unpacking = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._first = True

    def feed(self, chunk: bytes) -> bytes:
        try:
            whole = self._unpacking.decompress(chunk, self._limit + 1)
        except zlib.error as exc:
            if not self._first:
                raise ValueError(str(exc)) from exc
            self._unpacking = zlib.decompressobj(-zlib.MAX_WBITS)
            whole = self._raw(chunk)
        self._first = self._first and not whole
        return whole

    def finish(self) -> bytes:
        return self._unpacking.flush() if not self._unpacking.unconsumed_tail else b""

    def _raw(self, chunk: bytes) -> bytes:
        try:
            return self._unpacking.decompress(chunk, self._limit + 1)
        except zlib.error as exc:
            raise ValueError(str(exc)) from exc


class _Arrow:
    """br and zstd, by pyarrow's codecs; known only when the whole body is there."""

    def __init__(self, name: str, limit: int) -> None:
        self._name = name
        self._limit = limit
        self._packed = bytearray()

    def feed(self, chunk: bytes) -> bytes:
        self._packed += chunk
        return b""

    def finish(self) -> bytes:
        import pyarrow as pa  # noqa: PLC0415 - 40 MB for what hardly ever comes

        whole = bytearray()
        try:
            with pa.CompressedInputStream(io.BytesIO(self._packed), self._name) as stream:
                while len(whole) <= self._limit and (piece := stream.read(_PIECE_BYTES)):
                    whole += piece
        except OSError as exc:
            raise ValueError(str(exc)) from exc
        return bytes(whole)


_SPELLINGS: Final = {"x-gzip": "gzip", "zst": "zstd", "": "identity"}
_UNPACKERS: Final[Mapping[str, Callable[[int], _Unpacker]]] = {
    "gzip": _Zlib,
    "deflate": _Zlib,
    "br": lambda limit: _Arrow("brotli", limit),
    "zstd": lambda limit: _Arrow("zstd", limit),
}


async def read_whole(content: aiohttp.StreamReader) -> bytes:
    """The body, at most `BODY_LIMIT` bytes of it also when compressed or of unknown length."""
    whole = bytearray()
    async for chunk in content.iter_any():
        if content.at_eof() and not whole and len(chunk) <= BODY_LIMIT:
            return chunk  # most answers come in one piece
        whole += chunk
        if len(whole) > BODY_LIMIT:
            raise too_large()
    return bytes(whole)


def too_large() -> SendError:
    """Why nothing more of a body is read."""
    message = f"the answer is larger than {BODY_LIMIT // 2**20} MiB"
    return SendError("answer_too_large", message, left=True)


async def let_end(content: aiohttp.StreamReader) -> None:
    """Read the rest of a finished stream, so that its connection can be used again."""
    left = _REST_BYTES
    with suppress(*TROUBLES):
        async with asyncio.timeout(_REST_SECONDS):
            async for chunk in content.iter_any():
                left -= len(chunk)
                if left < 0:
                    return
