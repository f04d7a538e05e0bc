"""Real proxies and TLS servers on loopback, for names that no name server knows."""

import asyncio
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

CERTIFICATES = Path(__file__).with_name("certificates")
AUTHORITY = CERTIFICATES / "authority.pem"
CLIENT = CERTIFICATES / "client.pem"
ANSWER = (
    b'{"id":"m","type":"message","role":"assistant","model":"m","content":[{"type":"text",'
    b'"text":"yes"}],"stop_reason":"end_turn","usage":{"input_tokens":1,"output_tokens":1}}'
)


@dataclass
class Seen:
    """What a proxy or a server was asked, a head each; `port` is where it listens."""

    port: int = 0
    heads: list[bytes] = field(default_factory=list)


def server_tls(*, wants_certificate: bool = False) -> ssl.SSLContext:
    """A server's context, for api.example.test, proxy.example.test and this machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATES / "server.pem")
    if wants_certificate:
        context.load_verify_locations(AUTHORITY)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


@asynccontextmanager
async def listening(serve, tls: ssl.SSLContext | None = None) -> AsyncIterator[Seen]:
    """A server whose connections `serve(seen, reader, writer)` handles; it keeps them open."""
    seen, tasks = Seen(), []

    async def connected(reader, writer):
        tasks.append(asyncio.current_task())
        try:
            await serve(seen, reader, writer)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, ssl=tls)
    seen.port = server.sockets[0].getsockname()[1]
    try:
        yield seen
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def answer_messages(seen: Seen, reader, writer) -> None:
    """A Messages server: the same answer to whatever it is asked."""
    while True:
        head = await reader.readuntil(b"\r\n\r\n")
        seen.heads.append(head)
        lengths = [
            line for line in head.lower().split(b"\r\n") if line.startswith(b"content-l")
        ]
        await reader.readexactly(int(lengths[0].split(b":")[1]))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(ANSWER), ANSWER))
        await writer.drain()


def connecting_to(port: int):
    """A proxy that tunnels to `port`, whatever name it is asked for."""

    async def serve(seen: Seen, reader, writer) -> None:
        seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(pour(reader, far_writer), pour(far_reader, writer))
        finally:
            far_writer.close()

    return serve


def refusing(*answers: bytes):
    """A proxy that refuses, with each answer once and the last one for ever."""

    async def serve(seen: Seen, reader, writer) -> None:
        seen.heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(answers[min(len(seen.heads), len(answers)) - 1])
        await writer.drain()

    return serve


async def pour(reader, writer) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()
    writer.close()


@contextmanager
def certificate_demanding_server(version: ssl.TLSVersion):
    """A server of one connection that says in TLS why it refuses it, as asyncio's does not."""
    context = server_tls(wants_certificate=True)
    context.minimum_version = context.maximum_version = version
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(30)  # for a test that never comes

    def serve() -> None:
        with suppress(OSError):
            connection, _ = listener.accept()
            connection.settimeout(30)
            raw = connection.dup()
            with suppress(OSError):
                context.wrap_socket(connection, server_side=True).close()
            raw.shutdown(socket.SHUT_WR)  # a reset would overtake what was said
            while raw.recv(2**16):
                pass
            raw.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        thread.join()
        listener.close()


@asynccontextmanager
async def proxied_server(proxy_tls: ssl.SSLContext | None = None):
    """(what the Messages server saw, what the proxy before it saw)."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(listening(answer_messages, server_tls()))
        serve = connecting_to(server.port)
        yield server, await stack.enter_async_context(listening(serve, proxy_tls))
