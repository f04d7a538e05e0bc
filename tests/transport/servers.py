"""Servers that answer with exactly these bytes, or not at all."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from batcher.clock import Clock, SystemClock
from batcher.messages.request import Attempt, Outcome, Purpose, Request
from batcher.transport.endpoint import Endpoint, Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.live_lane import LiveLane

KEY = "sk-ant-very-secret-0123456789abcdef"
PROMPT = "a prompt that nobody else may read"


@dataclass
class Raw:
    """What a raw server saw: each request as its bytes."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def seen(self) -> bytes:
        return b"".join(self.requests)

    def headers(self, number: int = 0) -> dict[str, str]:
        """The headers of one request; of a repeated one, all values."""
        lines = self.requests[number].split(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        found: dict[str, str] = {}
        for line in lines:
            name, _, value = line.partition(": ")
            name = name.lower()
            found[name] = f"{found[name]}, {value}" if name in found else value
        return found


Answer = bytes | Callable[[asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def raw_server(*answers: Answer) -> AsyncIterator[Raw]:
    """Gives its answers in turn, the last one for ever, and closes each connection."""
    raw = Raw()
    serving: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving.append(asyncio.current_task())
        try:
            raw.requests.append(await _request(reader))
            raw.asked.set()
            answer = answers[min(len(raw.requests), len(answers)) - 1]
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    raw.port = server.sockets[0].getsockname()[1]
    try:
        yield raw
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


async def _request(reader: asyncio.StreamReader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [
        int(line.split(b":")[1])
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return head + await reader.readexactly(sum(lengths[:1]))


def http(status: int, body: bytes, *headers: str) -> bytes:
    lines = [
        f"HTTP/1.1 {status} X",
        f"content-length: {len(body)}",
        "connection: close",
        *headers,
    ]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


async def hang(_: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


async def reset(writer: asyncio.StreamWriter) -> None:
    """Break off so that the client's kernel says "connection reset"."""
    linger = b"\x01\0\0\0\0\0\0\0"
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)


def free_port() -> int:
    """A port at which nobody listens, nor will: it stays bound to a socket that never does."""
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    port = sock.getsockname()[1]
    sock.detach()  # open as long as this process
    return port


class Hand(SystemClock):
    """Stands still until it is moved by hand."""

    def __init__(self) -> None:
        self._now = 1_000.0

    def monotonic(self) -> float:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += seconds

    async def hang(self, _: asyncio.StreamWriter) -> None:
        """Say nothing more, for an hour; what was said before has been read by then."""
        for _ in range(10):  # client and server are of one loop
            await asyncio.sleep(0)
        self.move(3600)
        await asyncio.Event().wait()


def endpoint(url: str, **fields: object) -> Endpoint:
    return Endpoint(name="here", base_url=url, **fields)


@asynccontextmanager
async def client(
    url: str, key: str | None = KEY, clock: Clock | None = None, **fields: object
) -> AsyncIterator[HttpClient]:
    secret = Secret(key) if key else None
    made = HttpClient(endpoint(url, **fields), secret, clock or SystemClock())
    try:
        yield made
    finally:
        await made.close()


def attempt(body: bytes = b"{}", betas: tuple[str, ...] = ()) -> Attempt:
    request = Request(
        source_id=1, row_number=1, byte_offset=0, custom_id=None, params_hash=b"h" * 16,
        model="m", max_tokens=9, body=body, betas=betas,
    )  # fmt: skip
    return Attempt(
        attempt_id=1, uid="db-1-1", request_id=1, request=request, number=1, leg=1,
        purpose=Purpose.FIRST, body=body, opened_at=0, cost_high=None,
    )  # fmt: skip


async def send(
    url: str, body: bytes = PROMPT.encode(), clock: Clock | None = None, **fields: object
) -> Outcome:
    """What the live lane makes of one attempt."""
    clock = clock or SystemClock()
    where = endpoint(url, **fields)
    lane = LiveLane(HttpClient(where, Secret(KEY), clock), where, clock)
    try:
        return await lane.send(attempt(body))
    finally:
        await lane.close()
