"""One POST over a pooled connection: aiohttp's pool, TLS and parser, without its session.

A session builds a request, a response and a task for every POST, which costs three times what
sending and receiving do. Every POST here has the same address and nearly the same headers, so
they are prepared once. This leans on aiohttp's connector and response protocol, which may
change: pyproject.toml names the versions that were tried.
"""

import asyncio
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, StreamWriter
from yarl import URL

from batcher.transport.endpoint import Proxy

_PIECE_BYTES: Final = 2**18
_PIECEWISE_BYTES: Final = 2**20
_NOT_IN_HEADERS: Final = frozenset("\r\n\0")
# Gateways add headers of their own; aiohttp would give up at 8 kB and 128.
_BUFFERED_BYTES: Final = 2**15  # of each connection, and as much again, while nobody reads
LONGEST_LINE: Final = 2**16
MOST_HEADERS: Final = 1024
_NO_TRACES: Final[list[Any]] = []


class Answering:
    """An answer whose status and headers are there. `close` it, read to its end or not."""

    __slots__ = ("_connection", "_writing", "content", "headers", "status")

    def __init__(
        self,
        connection: Connection,
        message: aiohttp.http.RawResponseMessage,
        content: aiohttp.StreamReader,
        writing: "asyncio.Task[None] | None",
    ) -> None:
        self._connection = connection
        self._writing = writing
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content = content

    def close(self) -> None:
        """Give the connection back; one that is not at the end of an exchange is closed."""
        if self._writing is not None and _was_cut_off(self._writing):
            self._connection.close()
        if self._connection.protocol is not None and self.content.is_eof():
            _forget(self._connection.protocol)
        self._connection.release()


class Withheld(Exception):  # noqa: N818 - it names what happened, not an error
    """Nothing was sent, because `may_send` said no once the connection was there."""


class NotConnected(Exception):  # noqa: N818 - it names what happened, not an error
    """No connection came to be, so nothing was sent; why is its `__cause__`."""


class Wire:
    """Posts to one address with the same headers, over connections that are used again.

    `may_send` is asked last, right before the first byte: a process that was suspended while
    it connected must not send what another one does by now. Raises `Withheld` or `NotConnected`
    before a byte of the request was sent, and what aiohttp raises after it. It follows no
    redirect.
    """

    def __init__(
        self,
        url: URL,
        headers: Mapping[str, str],
        connector: aiohttp.BaseConnector,
        timeout: aiohttp.ClientTimeout,
        may_send: Callable[[], bool] = lambda: True,
        proxy: Proxy | None = None,
    ) -> None:
        self._connector = connector
        self._may_send = may_send
        self._timeout = timeout
        self._loop = asyncio.get_running_loop()
        self._address = aiohttp.ClientRequest(
            "POST",
            url,
            headers=headers,
            loop=self._loop,
            proxy=URL(proxy.url) if proxy else None,
            proxy_headers=proxy_headers(proxy),
        )
        fixed = dict(self._address.headers)
        fixed.pop("Content-Length", None)  # each body has its own
        plain_proxy = proxy is not None and url.scheme == "http"
        target = str(url) if plain_proxy else url.raw_path_qs
        if plain_proxy:
            fixed |= proxy_headers(proxy) or {}
        self._line = f"POST {target} HTTP/1.1\r\n".encode()
        self._fixed = {name.lower(): header_line(name, fixed[name]) for name in fixed}
        self._head = self._line + b"".join(self._fixed.values())

    def set_header(self, name: str, value: str) -> None:
        """From now on every request carries that header with that value."""
        self._fixed[name.lower()] = header_line(name, value)
        self._head = self._line + b"".join(self._fixed.values())

    async def post(self, body: bytes, own_headers: Mapping[str, str]) -> Answering:
        """Send `body`; gives the answer once its headers are there.

        `own_headers`, with names in lower case, come before those that every request carries.
        When this is cancelled, the connection is closed.
        """
        connection = await self._connected()
        if not self._may_send():
            connection.release()
            raise Withheld("it is not certain that the run is still ours")
        writing = None
        try:
            protocol = connection.protocol
            assert protocol is not None  # noqa: S101 - it was just given out
            protocol.set_response_params(
                read_until_eof=True,
                read_bufsize=_BUFFERED_BYTES,
                auto_decompress=False,  # whatever the label says: see `encoding`
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
                max_headers=MOST_HEADERS,
            )
            writing = self._write(protocol, self._head_for(body, own_headers), body)
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    return Answering(connection, message, content, writing)
        except BaseException:
            if writing is not None:
                writing.cancel()
            connection.close()
            raise

    async def _connected(self) -> Connection:
        """A connection on which nothing is left of an earlier answer."""
        while True:
            try:
                connection = await self._connector.connect(
                    self._address, _NO_TRACES, self._timeout
                )
            except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as exc:
                raise NotConnected from exc
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                return connection
            connection.close()

    def _head_for(self, body: bytes, own_headers: Mapping[str, str]) -> bytes:
        head = self._head
        if not self._fixed.keys().isdisjoint(own_headers):
            kept = (line for name, line in self._fixed.items() if name not in own_headers)
            head = self._line + b"".join(kept)
        own = b"".join(header_line(name, value) for name, value in own_headers.items())
        return b"%b%bcontent-length: %d\r\n\r\n" % (head, own, len(body))

    def _write(
        self, protocol: ResponseHandler, head: bytes, body: bytes
    ) -> "asyncio.Task[None] | None":
        transport = protocol.transport
        assert transport is not None  # noqa: S101 - the pool gives out connected ones only
        if len(body) < _PIECEWISE_BYTES:
            transport.write(head + body)
            return None
        transport.write(head)
        return self._loop.create_task(_pour(StreamWriter(protocol, self._loop), body))


def keep_alive_socket(address: tuple[Any, ...]) -> socket.socket:
    """A socket that notices a vanished peer during the minutes in which a model thinks."""
    family, kind, protocol, _, _ = address
    sock = socket.socket(family, kind, protocol)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (("TCP_KEEPIDLE", 60), ("TCP_KEEPINTVL", 60), ("TCP_KEEPCNT", 5)):
        if hasattr(socket, name):
            sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
    return sock


def proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    """What a proxy is shown of whoever uses it."""
    if proxy is None or proxy.authorization is None:
        return None
    return {"Proxy-Authorization": proxy.authorization.reveal()}


def _forget(protocol: ResponseHandler) -> None:
    """While it waits for its next use, a connection would keep 3 kB of its last answer.

    The next use makes a new parser; a connection that got bytes before it is not used again.
    """
    protocol._parser = None  # noqa: SLF001
    protocol._payload = None  # noqa: SLF001


def header_line(name: str, value: str) -> bytes:
    """One line of a request's head; `ValueError` for a value that would be two."""
    if not _NOT_IN_HEADERS.isdisjoint(value):
        raise ValueError(f"the header {name} holds a line break or a NUL")
    return f"{name}: {value}\r\n".encode()


async def _pour(writer: StreamWriter, body: bytes) -> None:
    """Write a large body in pieces, so that it does not hold up everybody else."""
    whole = memoryview(body)
    try:
        for start in range(0, len(body), _PIECE_BYTES):
            await writer.write(whole[start : start + _PIECE_BYTES])
            await writer.drain()
    except (OSError, aiohttp.ClientError):
        pass  # whoever waits for the answer hears of it there


def _was_cut_off(writing: "asyncio.Task[None]") -> bool:
    """Whether the answer come before all of the request was written."""
    return writing.cancel()
