"""Exchanges over connections that are used again: whole, apart, and with TLS."""

import asyncio
import ssl
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp.http import HttpProcessingError
from yarl import URL

from batcher.transport.live.wire import NotConnected, Wire, Withheld, header_line
from tests.simulator.asking import asynchronous

# A key and a certificate of 127.0.0.1 that nobody trusts but these tests.
LOOPBACK = Path(__file__).with_name("loopback.pem")
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"


@asynccontextmanager
async def keeping_server(answer, tls=None):
    """A server that keeps its connections; `answer` gets (reader, writer, how many before)."""
    connections: list[int] = []
    serving: list[asyncio.Task[None]] = []

    async def serve(reader, writer):
        connections.append(0)
        serving.append(asyncio.current_task())
        try:
            while True:
                await answer(reader, writer, connections[-1])
                connections[-1] += 1
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "https" if tls else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", connections
    finally:
        server.close()
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)


@asynccontextmanager
async def wire(url, may_send=lambda: True, **connecting):
    connector = aiohttp.TCPConnector(limit=0, **connecting)
    timeout = aiohttp.ClientTimeout(total=None)
    try:
        yield Wire(URL(url), {"x-api-key": "k"}, connector, timeout, may_send)
    finally:
        await connector.close()


async def request(reader) -> bytes:
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head + await reader.readexactly(length)


async def ask(wire_, body=b"{}", headers=None) -> bytes:
    answering = await wire_.post(body, headers or {})
    try:
        return await answering.content.read()
    finally:
        answering.close()


async def echo(reader, writer, _):
    body = (await request(reader)).split(b"\r\n\r\n", 1)[1]
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)


@asynchronous
async def test_nothing_leaves_once_it_may_not_and_the_connection_is_kept():
    answers = iter([True, False, True])
    async with keeping_server(echo) as (url, connections):
        async with wire(url, lambda: next(answers)) as there:
            assert await ask(there, b"1") == b"1"
            with pytest.raises(Withheld):
                await ask(there, b"2")
            assert await ask(there, b"3") == b"3"
        assert connections == [2]


@asynchronous
async def test_one_connection_carries_many_exchanges():
    async with keeping_server(echo) as (url, connections), wire(url) as there:
        assert [await ask(there, b"%d" % n) for n in range(3)] == [b"0", b"1", b"2"]
    assert connections == [3]


@asynchronous
async def test_an_answer_over_tls_is_read_whole():
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(LOOPBACK)
    trusted = ssl.create_default_context(cafile=LOOPBACK)
    async with (
        keeping_server(echo, served) as (url, connections),
        wire(url, ssl=trusted) as there,
    ):
        assert [await ask(there, b"a" * 3_000_000), await ask(there)] == [
            b"a" * 3_000_000,
            b"{}",
        ]
    assert connections == [2]


@asynchronous
async def test_a_certificate_that_nobody_vouches_for_gets_no_byte():
    served = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    served.load_cert_chain(LOOPBACK)
    async with keeping_server(echo, served) as (url, connections), wire(url) as there:
        with pytest.raises(NotConnected) as refused:
            await ask(there)
    assert isinstance(refused.value.__cause__, aiohttp.ClientConnectorCertificateError)
    assert not any(connections)


@asynchronous
async def test_a_large_body_arrives_whole_and_its_connection_is_used_again():
    body = bytes(range(256)) * 20_000
    async with keeping_server(echo) as (url, connections), wire(url) as there:
        assert await ask(there, body) == body
        assert await ask(there) == b"{}"
    assert connections == [2]


@asynchronous
async def test_what_a_server_adds_after_an_answer_is_not_the_next_answer():
    async def answer_twice(reader, writer, _):
        await request(reader)
        writer.write(OK + OK.replace(b"{}", b"[]"))

    async with keeping_server(answer_twice) as (url, connections), wire(url) as there:
        assert [await ask(there), await ask(there)] == [b"{}", b"{}"]
    assert len(connections) == 2


@asynchronous
async def test_an_answer_before_the_whole_body_was_sent_is_read_and_its_connection_left():
    async def refuse(reader, writer, _):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK.replace(b"200 OK", b"413 Too Large"))
        await asyncio.Event().wait()

    async with keeping_server(refuse) as (url, connections), wire(url) as there:
        for _ in range(2):
            answering = await there.post(b"a" * 50_000_000, {})
            assert (answering.status, await answering.content.read()) == (413, b"{}")
            answering.close()
    assert len(connections) == 2


@asynchronous
async def test_hints_before_the_answer_are_passed_over():
    async def hint(reader, writer, _):
        await request(reader)
        writer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + OK)

    async with keeping_server(hint) as (url, _), wire(url) as there:
        assert await ask(there) == b"{}"


@asynchronous
async def test_an_answer_that_is_not_read_costs_its_connection():
    async def long(reader, writer, _):
        await request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf")

    async with keeping_server(long) as (url, connections), wire(url) as there:
        for _ in range(2):
            (await there.post(b"{}", {})).close()
    assert len(connections) == 2


@asynchronous
async def test_a_header_of_its_own_comes_instead_of_the_common_one():
    seen = []

    async def note(reader, writer, _):
        seen.append(await request(reader))
        writer.write(OK)

    async with keeping_server(note) as (url, _), wire(url) as there:
        await ask(there, headers={"x-api-key": "other", "x-new": "1"})
    assert seen[0].count(b"x-api-key") == 1
    assert b"x-api-key: other\r\n" in seen[0]


@pytest.mark.parametrize("value", ["a\r\nx-evil: 1", "a\nb", "a\0b"])
def test_a_value_that_would_be_two_headers_is_refused(value):
    with pytest.raises(ValueError, match="line break"):
        header_line("anthropic-beta", value)


def with_headers(lines: int, size: int, before: bytes = b""):
    """A server whose answers have so many headers of that size, and `before` hints."""
    head = b"".join(b"x-%d: %s\r\n" % (n, b"v" * size) for n in range(lines))

    async def answer(reader, writer, _):
        await request(reader)
        writer.write(before + b"HTTP/1.1 200 OK\r\n" + head + b"content-length: 2\r\n\r\n{}")
        await writer.drain()

    return answer


@asynchronous
async def test_long_and_many_headers_are_read_and_bounded_together():
    async with keeping_server(with_headers(15, 60_000)) as (url, _), wire(url) as there:
        assert await ask(there) == b"{}"
        assert await ask(there) == b"{}"
    hint = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
    for before in (b"", hint):
        long = with_headers(40, 60_000, before)
        async with keeping_server(long) as (url, _), wire(url) as there:
            with pytest.raises(HttpProcessingError, match="status and headers"):
                await ask(there)


@asynchronous
async def test_the_headers_of_all_answers_share_one_bound_that_comes_free_again():
    async with keeping_server(with_headers(15, 60_000)) as (url, _), wire(url) as there:
        asked = [there.post(b"{}", {}) for _ in range(40)]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        refused = [each for each in answers if isinstance(each, HttpProcessingError)]
        assert 10 < len(refused) < 40
        for answering in set(answers) - set(refused):
            answering.close()
        assert await ask(there) == b"{}"
