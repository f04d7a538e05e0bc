# ruff: noqa: T201 - it says on which port it listens
"""A proxy that tunnels to one port, whatever name it is asked for, until its input ends.

python -m tests.benchmarks.tunnel PORT
"""

import asyncio
import contextlib
import socket
import sys

from tests.benchmarks.fixed_server import allow_many_connections


class Pipe(asyncio.Protocol):
    """One side of a tunnel; what comes goes to the other side."""

    def __init__(self, port: int, other: asyncio.Transport | None = None) -> None:
        self._port = port
        self._other = other
        self._head = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)
            return
        self._head += data
        if self._task is None and b"\r\n\r\n" in self._head:
            self._task = asyncio.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        far, _ = await loop.create_connection(
            lambda: Pipe(self._port, self._transport), "127.0.0.1", self._port
        )
        self._transport.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        rest = self._head.partition(b"\r\n\r\n")[2]
        if rest:
            far.write(rest)
        self._other = far

    def connection_lost(self, _: Exception | None) -> None:
        if self._other is not None:
            self._other.close()


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
    server = await loop.create_server(lambda: Pipe(port), sock=listener, backlog=4096)
    print(listener.getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    async with server:
        await ended.wait()


def main() -> None:
    allow_many_connections()
    run = asyncio.run
    with contextlib.suppress(ImportError):
        import uvloop

        run = uvloop.run
    run(serve(int(sys.argv[1])))


if __name__ == "__main__":
    main()
