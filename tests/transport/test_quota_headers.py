"""The lane tells what the headers say, of a stream before its first byte was taken."""

import asyncio

import pytest

from batcher.clock import SystemClock
from batcher.messages.request import StreamMode
from batcher.pacing.limits import read_quota
from batcher.transport.endpoint import Secret
from batcher.transport.live.client import HttpClient
from batcher.transport.live.live_lane import LiveLane
from tests.making_runs import message
from tests.simulator.asking import asynchronous
from tests.transport.servers import KEY, attempt, endpoint, free_port, hang, http, raw_server

LIMIT = "anthropic-ratelimit-requests-limit: 50"
LEFT = "Anthropic-RateLimit-Requests-Remaining: 49"


class Listener:
    def __init__(self) -> None:
        self.heard: list[tuple[str, int, object]] = []
        self.event = asyncio.Event()

    def __call__(self, model, status, headers, now) -> None:
        self.heard.append((model, status, read_quota(headers)))
        self.event.set()


async def listening(url: str, listener: Listener, mode: StreamMode = StreamMode.AUTO):
    clock, where = SystemClock(), endpoint(url, stream=mode)
    lane = LiveLane(HttpClient(where, Secret(KEY), clock), where, clock, listener)
    try:
        return await lane.send(attempt(b'{"a": 1}'))
    finally:
        await lane.close()


@pytest.mark.parametrize("status", [200, 429, 529])
@pytest.mark.parametrize("mode", [StreamMode.AUTO, StreamMode.ALWAYS])
@asynchronous
async def test_the_headers_of_every_answer_are_heard_once(mode, status):
    listener = Listener()
    async with raw_server(http(status, message(), LIMIT, LEFT)) as raw:
        await listening(raw.url, listener, mode)
    ((model, heard_status, reading),) = listener.heard
    assert (model, heard_status) == ("m", status)
    assert (reading.requests.limit, reading.requests.remaining) == (50, 49)


@asynchronous
async def test_the_headers_of_a_stream_are_heard_while_it_is_under_way():
    async def begin(writer) -> None:
        writer.write(
            f"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n{LIMIT}\r\n\r\n".encode()
        )
        await writer.drain()
        await hang(writer)

    listener = Listener()
    async with raw_server(begin) as raw:
        sending = asyncio.create_task(listening(raw.url, listener, StreamMode.ALWAYS))
        await listener.event.wait()
        assert not sending.done()
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    assert len(listener.heard) == 1


@asynchronous
async def test_nothing_is_heard_where_no_answer_came():
    listener = Listener()
    await listening(f"http://127.0.0.1:{free_port()}", listener)
    assert listener.heard == []
