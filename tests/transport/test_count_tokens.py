"""The endpoint's own count of tokens, over the wire."""

import pytest

from batcher.transport.live.connections import SendError
from tests.simulator.asking import asynchronous
from tests.transport.servers import KEY, client, raw_server

COUNT = b'{"input_tokens":21}'


def reply(status, body):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


@asynchronous
async def test_the_count_is_asked_for_beside_the_messages():
    async with raw_server(reply(200, COUNT)) as raw, client(raw.url) as asking:
        answer = await asking.count_tokens(b'{"model":"m"}', ("beta-1",))
    assert (answer.status, answer.body) == (200, COUNT)
    assert raw.seen.startswith(b"POST /v1/messages/count_tokens HTTP/1.1\r\n")
    assert raw.headers()["anthropic-beta"] == "beta-1"
    assert raw.headers()["x-api-key"] == KEY


@asynchronous
async def test_a_server_without_a_count_says_so_by_its_status():
    async with raw_server(reply(404, b"not found")) as raw, client(raw.url) as asking:
        assert (await asking.count_tokens(b"{}", ())).status == 404


@asynchronous
async def test_a_server_that_hangs_up_is_no_count():
    async with raw_server(b"") as raw, client(raw.url) as asking:
        with pytest.raises(SendError):
            await asking.count_tokens(b"{}", ())
