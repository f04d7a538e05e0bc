"""A server on a loop of its own that has a special answer for each faulty row."""

import asyncio
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from tests.making_runs import message
from tests.transport.servers import Answer, _request, http

Wanted = tuple[Answer, int | None]  # and how often; None: always
_ROW = re.compile(rb"faulty row (\d+)")
_UID = re.compile(rb"\r\nx-client-request-id: (\S+)\r\n", re.IGNORECASE)


@dataclass
class Server:
    """What a raw server does by the number of a faulty row, and the uids that it saw."""

    wanted: Mapping[int, Wanted]
    url: str = ""
    uids: list[str] = field(default_factory=list)
    _times: dict[int, int] = field(default_factory=dict)
    _serving: set[asyncio.Task] = field(default_factory=set)

    def answer_to(self, request: bytes) -> Answer:
        found = _ROW.search(request)
        number = int(found[1]) if found else 0
        self._times[number] = self._times.get(number, 0) + 1
        answer, most = self.wanted.get(number, (b"", 0))
        is_faulty = most is None or self._times[number] <= most
        return answer if is_faulty else http(200, message())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        try:
            request = await _request(reader)
            self.uids.append(_UID.search(request)[1].decode())
            answer = self.answer_to(request)
            if isinstance(answer, bytes):
                writer.write(answer)
                await writer.drain()
            else:
                await answer(writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client went away, or the test is over
        finally:
            writer.close()

    async def end(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)


def faulty(number: int) -> str:
    """The prompt of the row that meets the fault with this number."""
    return f"faulty row {number}"


@contextmanager
def serving(wanted: Mapping[int, Wanted]) -> Iterator[Server]:
    """Answers faulty rows as wanted, and everything else with a good message."""
    server, started, loops = Server(wanted), threading.Event(), []

    async def listen() -> None:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
        over = asyncio.Event()
        loops.append((asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        listening.close()
        await server.end()

    thread = threading.Thread(target=lambda: asyncio.run(listen()), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield server
    finally:
        loop, over = loops[0]
        loop.call_soon_threadsafe(over.set)
        thread.join()
