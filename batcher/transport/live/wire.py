"""One POST over a pooled connection: aiohttp's pool, TLS and parser, without its session.

A session builds a request, a response and a task for every POST, which costs three times what
sending and receiving do. Every POST here has the same address and nearly the same headers, so
they are prepared once. This leans on aiohttp's connector and response protocol, which may
change: pyproject.toml names the versions that were tried.

Time limits are kept by one timer for all exchanges.
"""

import asyncio
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, StreamWriter
from multidict import CIMultiDict
from yarl import URL

from batcher.clock import Clock
from batcher.transport.endpoint import Auth, Endpoint, Proxy, Secret

_PIECE_BYTES: Final = 2**18
_PIECEWISE_BYTES: Final = 2**20
_NOT_IN_HEADERS: Final = frozenset("\r\n\0")
# Gateways add headers of their own; aiohttp would give up at 8 kB and 128.
_BUFFERED_BYTES: Final = 2**15  # of each connection, and as much again, while nobody reads
LONGEST_LINE: Final = 2**16
MOST_HEADERS: Final = 1024
_LENGTH: Final = re.compile(rb"\r\ncontent-length:[ \t]*(\d+)[ \t]*(?=\r\n|$)", re.IGNORECASE)
_SMALL_HEAD_BYTES: Final = 2**15  # below that nothing is counted
_MOST_HEAD_BYTES: Final = 2**20
_ALL_HEADS_BYTES: Final = 2**24
_NO_TRACES: Final[list[Any]] = []


class Heads:
    """What larger statuses and headers of answers take together, while they are at work."""

    def __init__(self) -> None:
        self._taken = 0

    def take(self, size: int) -> None:
        """So much more; raises `HttpProcessingError` when it is too much."""
        self._taken += size
        if self._taken > _ALL_HEADS_BYTES:
            raise _too_long(self._taken)

    def free(self, size: int) -> None:
        """So much less."""
        self._taken -= size


class _BoundedHead:
    """aiohttp's parser, which bounds each header and their number, but not their sum."""

    def __init__(self, parser: Any, heads: Heads) -> None:  # noqa: ANN401 - of aiohttp
        self._parser = parser
        self._heads = heads
        self._size = self._taken = 0
        self._is_whole = False
        self.feed_eof = parser.feed_eof
        self.pause_reading = parser.pause_reading

    def feed_data(self, data: bytes) -> Any:  # noqa: ANN401 - messages, whether upgraded, rest
        """See aiohttp's `HttpParser.feed_data`."""
        if self._is_whole:
            return self._parser.feed_data(data)
        self._size += len(data)
        if self._size > _MOST_HEAD_BYTES:
            raise _too_long(self._size)
        if self._size > _SMALL_HEAD_BYTES:
            more, self._taken = self._size - self._taken, self._size
            self._heads.take(more)
        if self._size == len(data):
            data = _said_once(data)
        found = self._parser.feed_data(data)
        for message, _ in found[0]:
            self._is_whole = message.code >= 200
        return found

    def free(self) -> None:
        """Nobody needs the headers any more."""
        if self._taken:
            self._heads.free(self._taken)
            self._taken = 0


def _said_once(data: bytes) -> bytes:
    """A length that an answer's head says twice alike, it says once, as RFC 9110 allows.

    aiohttp's parser refuses both that and lengths that differ, which nobody can read.
    """
    head, end, rest = data.partition(b"\r\n\r\n")
    if head.lower().count(b"content-length") < 2 or len(set(_LENGTH.findall(head))) != 1:
        return data
    return _LENGTH.sub(b"", head, count=len(_LENGTH.findall(head)) - 1) + end + rest


def _too_long(size: int) -> HttpProcessingError:
    return HttpProcessingError(
        code=400, message=f"status and headers of answers have more than {size - 1:,} bytes"
    )


class Answering:
    """An answer whose status and headers are there. `close` it, read to its end or not."""

    __slots__ = (
        "_connection",
        "_head",
        "_protocol",
        "_writing",
        "content",
        "headers",
        "status",
    )

    def __init__(
        self,
        connection: Connection,
        protocol: ResponseHandler,
        message: aiohttp.http.RawResponseMessage,
        content: aiohttp.StreamReader,
        writing: "asyncio.Task[None] | None",
        head: _BoundedHead,
    ) -> None:
        self._connection = connection
        self._protocol = protocol
        self._head = head
        self._writing = writing
        self.status: int = message.code
        self.headers: Mapping[str, str] = message.headers
        self.content = content

    def close(self) -> None:
        """Give the connection back; one that is not at the end of an exchange is closed."""
        self._head.free()
        if self._writing is not None and _was_cut_off(self._writing):
            self._connection.close()
        elif self.content.is_eof():
            _forget(self._protocol)
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
        self._heads = Heads()
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
        connection, protocol = await self._connected()
        if not self._may_send():
            connection.release()
            raise Withheld("it is not certain that the run is still ours")
        writing = head = None
        try:
            protocol.set_response_params(
                read_until_eof=True,
                read_bufsize=_BUFFERED_BYTES,
                auto_decompress=False,  # whatever the label says: see `encoding`
                max_line_size=LONGEST_LINE,
                max_field_size=LONGEST_LINE,
                max_headers=MOST_HEADERS,
            )
            head = _bounded(protocol, self._heads)
            writing = self._write(protocol, self._head_for(body, own_headers), body)
            while True:
                message, content = await protocol.read()
                if message.code >= 200 or message.code == 101:
                    return Answering(connection, protocol, message, content, writing, head)
        except BaseException:
            if writing is not None:
                writing.cancel()
            if head is not None:
                head.free()
            connection.close()
            raise

    async def _connected(self) -> tuple[Connection, ResponseHandler]:
        """A connection on which nothing is left of an earlier answer, and its protocol."""
        while True:
            try:
                connection = await self._connector.connect(
                    self._address, _NO_TRACES, self._timeout
                )
            except (aiohttp.ClientError, HttpProcessingError, OSError, TimeoutError) as exc:
                raise NotConnected from exc
            protocol = connection.protocol
            if protocol is not None and not protocol.should_close:
                return connection, protocol
            connection.close()

    def _head_for(self, body: bytes, own_headers: Mapping[str, str]) -> bytes:
        head = self._head
        if not self._fixed.keys().isdisjoint(own_headers):
            kept = (line for name, line in self._fixed.items() if name not in own_headers)
            head = self._line + b"".join(kept)
        for name, value in own_headers.items():
            head += header_line(name, value)
        return b"%bcontent-length: %d\r\n\r\n" % (head, len(body))

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


def endpoint_headers(endpoint: Endpoint, key: Secret | None) -> CIMultiDict[str]:
    """What every request carries. Nothing is left for aiohttp to add, which costs it less."""
    headers = CIMultiDict({"content-type": "application/json", "accept": "application/json"})
    headers["accept-encoding"] = "identity"  # answers are small, and a bomb cannot hide
    headers["user-agent"] = "messages-batcher"
    if endpoint.anthropic_version:
        headers["anthropic-version"] = endpoint.anthropic_version
    if endpoint.betas:
        headers["anthropic-beta"] = ",".join(endpoint.betas)
    if key and endpoint.auth not in {Auth.NONE, Auth.SIGV4}:
        name, value = key_header(endpoint, key)
        headers[name] = value
    for header in endpoint.headers:
        headers[header.name] = header.value.reveal()
    return headers


def key_header(endpoint: Endpoint, key: Secret) -> tuple[str, str]:
    """The header that holds the key, and its value."""
    if endpoint.auth is Auth.BEARER:
        return endpoint.auth_header or "authorization", f"Bearer {key.reveal()}"
    return endpoint.auth_header or "x-api-key", key.reveal()


def proxy_headers(proxy: Proxy | None) -> dict[str, str] | None:
    """What a proxy is shown of whoever uses it."""
    if proxy is None or proxy.authorization is None:
        return None
    return {"Proxy-Authorization": proxy.authorization.reveal()}


def _bounded(protocol: ResponseHandler, heads: Heads) -> _BoundedHead:
    """Put our bound before the parser that the protocol has just made."""
    head = _BoundedHead(protocol._parser, heads)  # noqa: SLF001
    protocol._parser = head  # type: ignore[assignment] # noqa: SLF001
    return head


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


_SWEEP_SECONDS: Final = 0.5


class Deadlines:
    """One timer for all exchanges: a timer each would cost more than the rest of a request.

    All deadlines are equally long, so the oldest exchange is always the first of the dict.
    """

    def __init__(self, seconds: float, clock: Clock) -> None:
        self.seconds = seconds
        self._clock = clock
        self._started: dict[asyncio.Task[Any], float] = {}
        self._blamed: set[asyncio.Task[Any]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def start(self) -> asyncio.Task[Any]:
        """The current task's exchange begins; gives the task."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - post_message is a coroutine
        self._started[task] = self._clock.monotonic()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
        return task

    def touch(self, task: asyncio.Task[Any]) -> None:
        """The exchange of `task` is as good as new; nothing for one that is not under way."""
        if self._started.pop(task, None) is not None:
            self._started[task] = self._clock.monotonic()

    def stop(self, task: asyncio.Task[Any]) -> None:
        """The exchange of `task` has ended."""
        self._started.pop(task, None)
        self._blamed.discard(task)

    def took_the_blame(self, task: asyncio.Task[Any]) -> bool:
        """Whether the cancellation of `task` came from here alone; then it is taken back."""
        return task in self._blamed and task.uncancel() == 0

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.monotonic()
        for task, started in list(self._started.items()):
            if now - started < self.seconds:
                break
            del self._started[task]
            self._blamed.add(task)
            task.cancel()
        if self._started:
            self._timer = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)
