"""What goes on the wire, and what comes of it."""

import asyncio
import gzip
import json
import traceback

import pytest

from batcher.transport.endpoint import Auth
from batcher.transport.live import client as client_module
from batcher.transport.live.client import BODY_LIMIT
from batcher.transport.live.connections import SendError
from tests.simulator.asking import asynchronous
from tests.transport.servers import (
    KEY,
    PROMPT,
    Hand,
    client,
    free_port,
    hang,
    http,
    raw_server,
    reset,
)

OK = http(200, b"{}")


@asynchronous
async def test_a_body_is_posted_byte_for_byte_with_its_uid_and_version():
    body = b'{"model": "m",  "x":"\\u00e4"}'
    async with raw_server(OK) as raw, client(raw.url) as http_client:
        reply = await http_client.post_message(body, "db-1-1", ())
    assert (reply.status, reply.body) == (200, b"{}")
    assert raw.requests[0].startswith(b"POST /v1/messages HTTP/1.1\r\n")
    assert raw.requests[0].endswith(b"\r\n\r\n" + body)
    headers = raw.headers()
    assert headers["x-client-request-id"] == "db-1-1"
    assert headers["anthropic-version"] == "2023-06-01"
    assert headers["content-type"] == headers["accept"] == "application/json"


@pytest.mark.parametrize(
    ("auth", "expected"),
    [
        (Auth.X_API_KEY, {"x-api-key": KEY}),
        (Auth.BEARER, {"authorization": f"Bearer {KEY}"}),
        (Auth.NONE, {}),
    ],
)
@asynchronous
async def test_the_key_travels_in_the_one_header_of_its_scheme(auth, expected):
    async with raw_server(OK) as raw, client(raw.url, auth=auth) as http_client:
        await http_client.post_message(b"{}", "u", ())
    shown = {name: value for name, value in raw.headers().items() if KEY in value}
    assert shown == expected


@asynchronous
async def test_without_a_key_no_header_pretends_to_be_one():
    async with raw_server(OK) as raw, client(raw.url, key=None) as http_client:
        await http_client.post_message(b"{}", "u", ())
    assert not {"x-api-key", "authorization"} & raw.headers().keys()


@asynchronous
async def test_betas_of_the_endpoint_and_the_row_are_joined_once_each():
    async with raw_server(OK) as raw, client(raw.url, betas=("a", "b")) as http_client:
        await http_client.post_message(b"{}", "u", ())
        await http_client.post_message(b"{}", "u", ("b", "c"))
    assert [raw.headers(n)["anthropic-beta"] for n in (0, 1)] == ["a,b", "a,b,c"]


@asynchronous
async def test_the_uid_header_can_be_renamed_or_left_out():
    async with raw_server(OK) as raw:
        async with client(raw.url, attempt_uid_header="x-my-id") as http_client:
            await http_client.post_message(b"{}", "db-1-1", ())
        async with client(raw.url, attempt_uid_header=None) as http_client:
            await http_client.post_message(b"{}", "db-1-1", ())
    assert raw.headers(0)["x-my-id"] == "db-1-1"
    assert b"db-1-1" not in raw.requests[1]


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@asynchronous
async def test_a_redirect_is_never_followed_so_nobody_else_sees_key_or_prompt(status):
    async with raw_server(OK) as other:
        elsewhere = http(status, b"", f"location: {other.url}/v1/messages")
        async with raw_server(elsewhere) as raw, client(raw.url) as http_client:
            reply = await http_client.post_message(PROMPT.encode(), "u", ())
    assert (reply.status, other.requests) == (status, [])


@asynchronous
async def test_cookies_of_a_server_are_not_kept():
    cookie = http(200, b"{}", "set-cookie: tracked=1; Path=/")
    async with raw_server(cookie) as raw, client(raw.url) as http_client:
        for _ in range(2):
            await http_client.post_message(b"{}", "u", ())
    assert "cookie" not in raw.headers(1)


@asynchronous
async def test_a_proxy_of_the_environment_is_not_used(monkeypatch):
    async with raw_server(OK) as proxy, raw_server(OK) as raw:
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        monkeypatch.setenv("http_proxy", proxy.url)
        async with client(raw.url) as http_client:
            await http_client.post_message(PROMPT.encode(), "u", ())
    assert (len(proxy.requests), len(raw.requests)) == (0, 1)


# --- No whole answer


async def broken(*answers, **fields) -> SendError:
    async with raw_server(*answers) as raw, client(raw.url, **fields) as http_client:
        with pytest.raises(SendError) as caught:
            await http_client.post_message(PROMPT.encode(), "u", ())
    return caught.value


@asynchronous
async def test_a_refused_connection_means_that_nothing_left():
    address = f"127.0.0.1:{free_port()}"
    async with client(f"http://{address}") as http_client:
        with pytest.raises(SendError) as caught:
            await http_client.post_message(b"{}", "u", ())
    assert (caught.value.error_type, caught.value.left) == ("unreachable", False)
    assert caught.value.message == (
        f"{address}: Connection refused; start the server (batcher simulate --port"
        f" {address.rpartition(':')[2]}, if it is that)"
    )


@asynchronous
async def test_a_server_without_tls_means_that_nothing_left():
    seen: list[bytes] = []

    async def plain(reader, writer):
        writer.write(b"HTTP/1.1 400 plain\r\n\r\n")
        seen.append(await reader.read(10_000))
        writer.close()

    server = await asyncio.start_server(plain, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with client(f"https://127.0.0.1:{port}") as http_client:
        with pytest.raises(SendError) as caught:
            await http_client.post_message(PROMPT.encode(), "u", ())
    server.close()
    assert not caught.value.left
    assert PROMPT.encode() not in b"".join(seen)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 OK\r\ncontent-le",
        b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZZ\r\n",
        b"\0\0garbage\0\r\n\r\n",
        reset,
    ],
    ids=[
        "closed",
        "half a head",
        "short",
        "cut chunk",
        "bad chunk",
        "noise",
        "reset",
    ],
)
@asynchronous
async def test_an_answer_that_breaks_off_leaves_the_request_in_doubt(answer):
    assert (await broken(answer)).left


@asynchronous
@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (b"HTTP/1.1 200 OK\r\nx-half: of a head", "the server closed the connection before"),
        (b"nonsense\r\n\r\n", "Bad status line"),
    ],
)
async def test_what_broke_is_said_without_a_status_that_nobody_sent(answer, says):
    message = (await broken(answer)).message
    assert message.startswith(says)
    assert "40" not in message
    assert "x-half" not in message


@asynchronous
async def test_a_server_that_hangs_is_left_when_the_time_is_over():
    clock = Hand()
    error = await broken(clock.hang, clock=clock, request_timeout_seconds=30)
    assert (error.error_type, error.left) == ("timeout", True)
    assert "30 s" in error.message


@asynchronous
async def test_a_server_that_trickles_is_left_when_the_time_is_over():
    clock = Hand()

    async def trickle(writer):
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"1\r\n \r\n")
            await writer.drain()
            await asyncio.sleep(0.01)
            clock.move(0.1)

    error = await broken(trickle, clock=clock, request_timeout_seconds=1)
    assert (error.error_type, error.left) == ("timeout", True)


@asynchronous
async def test_a_timed_out_request_does_not_harm_the_next_one_of_its_task():
    clock = Hand()
    async with (
        raw_server(clock.hang, OK) as raw,
        client(raw.url, clock=clock, request_timeout_seconds=30) as http_client,
    ):
        with pytest.raises(SendError):
            await http_client.post_message(b"{}", "u", ())
        assert (await http_client.post_message(b"{}", "u", ())).status == 200
    assert asyncio.current_task().cancelling() == 0


@asynchronous
async def test_a_cancelled_request_stays_cancelled():
    async with raw_server(hang) as raw, client(raw.url) as http_client:
        task = asyncio.create_task(http_client.post_message(b"{}", "u", ()))
        await raw.asked.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@asynchronous
async def test_an_answer_as_long_as_allowed_is_read_and_one_byte_more_is_not(monkeypatch):
    monkeypatch.setattr(client_module, "BODY_LIMIT", 1000)
    async with raw_server(http(200, b"x" * 1000)) as raw, client(raw.url) as http_client:
        assert len((await http_client.post_message(b"{}", "u", ())).body) == 1000
    error = await broken(http(200, b"x" * 1001))
    assert (error.error_type, error.left) == ("answer_too_large", True)


@asynchronous
async def test_an_endless_answer_is_cut_off_at_the_limit(monkeypatch):
    monkeypatch.setattr(client_module, "BODY_LIMIT", 100_000)

    async def endless(writer):
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            writer.write(b"x" * 10_000)
            await writer.drain()

    assert (await broken(endless)).error_type == "answer_too_large"


@asynchronous
async def test_a_gzip_bomb_is_cut_off_at_the_limit():
    bomb = gzip.compress(bytes(BODY_LIMIT + 1), 9)
    error = await broken(http(200, bomb, "content-encoding: gzip"))
    assert (error.error_type, error.left) == ("answer_too_large", True)


@asynchronous
async def test_a_compressed_answer_is_unpacked():
    packed = http(200, gzip.compress(b'{"a":1}'), "content-encoding: gzip")
    async with raw_server(packed) as raw, client(raw.url) as http_client:
        assert (await http_client.post_message(b"{}", "u", ())).body == b'{"a":1}'


@pytest.mark.parametrize("answer", [b"", b"\0 noise\r\n\r\n"])
@asynchronous
async def test_the_key_is_in_no_error_nor_in_its_traceback(answer):
    error = await broken(answer)
    told = "".join(traceback.format_exception(error)) + repr(error) + str(error)
    assert KEY not in told
    assert PROMPT not in told


@asynchronous
async def test_models_are_asked_for_with_the_key_and_come_as_they_are():
    models = json.dumps({"data": []}).encode()

    async def answer(writer):
        writer.write(http(200, models))

    server = await asyncio.start_server(
        lambda reader, writer: _get(reader, writer, answer), "127.0.0.1", 0
    )
    port = server.sockets[0].getsockname()[1]
    async with client(f"http://127.0.0.1:{port}") as http_client:
        assert (await http_client.get_models()).body == models
    server.close()


async def _get(reader, writer, answer):
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"GET /v1/models HTTP/1.1\r\n")
    assert KEY.encode() in head
    await answer(writer)
    writer.close()
