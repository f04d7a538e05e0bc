"""What stands between a run and the simulator's batches, and meddles with what is said."""

import asyncio
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
from aiohttp import web

LARGEST: Final = 2**28


@dataclass(frozen=True)
class Instead:
    """The server is not asked; this is said."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Afterwards:
    """The server is asked, and this is said in place of its answer."""

    status: int
    body: bytes = b""


@dataclass(frozen=True)
class Changed:
    """What the server says, otherwise."""

    change: Callable[[bytes], bytes]


@dataclass(frozen=True)
class Dropped:
    """The connection is cut: before the server is asked, after it, or within its answer."""

    asked: bool = False
    part: float = 0.0


Meddling = Instead | Afterwards | Changed | Dropped


def kind_of(method: str, path: str) -> str:
    """Which of its words a request is; the paths are those of Message Batches."""
    rest = path.partition("/messages/batches")[2].strip("/").split("/")
    if rest == [""]:
        return {"POST": "create", "GET": "list"}[method]
    return rest[1] if len(rest) > 1 else "look"


class _Between:
    def __init__(self, url: str, scripts: Mapping[str, Sequence[Meddling]], times: int) -> None:
        self._url = url
        self._scripts = {
            kind: [meddling for meddling in script for _ in range(times)]
            for kind, script in scripts.items()
        }

    async def handle(self, request: web.Request) -> web.StreamResponse:
        script = self._scripts.get(kind_of(request.method, request.path))
        meddling = script.pop(0) if script else None
        match meddling:
            case Instead(status, body, headers):
                return web.Response(status=status, body=body, headers=headers)
            case Dropped(asked=False):
                return _cut(request)
        status, body = await self._ask(request)
        match meddling:
            case Afterwards(other, said):
                return web.Response(status=other, body=said)
            case Changed(change):
                return web.Response(status=status, body=change(body))
            case Dropped(part=part):
                return await _cut_within(request, body, part) if part else _cut(request)
        return web.Response(status=status, body=body, content_type="application/json")

    async def _ask(self, request: web.Request) -> tuple[int, bytes]:
        names = ("x-api-key", "anthropic-version", "anthropic-beta", "content-type")
        headers = {name: request.headers[name] for name in names if name in request.headers}
        async with aiohttp.request(
            request.method,
            f"{self._url}{request.path_qs}",
            data=await request.read() or None,
            headers=headers,
        ) as answer:
            return answer.status, await answer.read()


def _cut(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _cut_within(request: web.Request, body: bytes, part: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"content-length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: int(len(body) * part)])
    _cut(request)
    return response


@contextmanager
def standing_between(
    url: str, scripts: Mapping[str, Sequence[Meddling]], times: int = 1
) -> Iterator[str]:
    """The address of a server that passes everything on, but for what scripts meddle with."""
    started, address, ends = threading.Event(), list[str](), list[Any]()

    async def serve() -> None:
        app = web.Application(client_max_size=LARGEST)
        app.router.add_route("*", "/{rest:.*}", _Between(url, scripts, times).handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        over = asyncio.Event()
        address.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        ends.append((asyncio.get_running_loop(), over))
        started.set()
        await over.wait()
        await runner.cleanup()

    thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
    thread.start()
    assert started.wait(60)
    try:
        yield address[0]
    finally:
        loop, over = ends[0]
        loop.call_soon_threadsafe(over.set)
        thread.join()
