"""Answers as gateways pack, label and wrap them: read, or kept as they came."""

import gzip
import zlib

import pyarrow as pa
import pytest

from batcher.messages.request import Answered, Rejected, Unknown, Unusable
from tests.simulator.asking import asynchronous
from tests.transport.proxies import ANSWER
from tests.transport.servers import http, raw_server, send

STREAM = b"".join(
    b"event: %b\ndata: %b\n\n" % (name, data)
    for name, data in [
        (
            b"message_start",
            b'{"type":"message_start","message":{"id":"m","type":"message","role":"assistant",'
            b'"model":"m","content":[],"stop_reason":null,"usage":{"input_tokens":1,'
            b'"output_tokens":1}}}',
        ),
        (
            b"content_block_start",
            b'{"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}',
        ),
        (
            b"content_block_delta",
            b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"yes"}}',
        ),
        (b"content_block_stop", b'{"type":"content_block_stop","index":0}'),
        (
            b"message_delta",
            b'{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":'
            b'{"output_tokens":2}}',
        ),
        (b"message_stop", b'{"type":"message_stop"}'),
    ]
)


def packed(name: str, body: bytes) -> bytes:
    match name:
        case "gzip" | "x-gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case "raw deflate":
            packing = zlib.compressobj(wbits=-15)
            return packing.compress(body) + packing.flush()
        case "br" | "zstd":
            codec = pa.Codec({"br": "brotli"}.get(name, name))
            return codec.compress(body, asbytes=True)
    raise ValueError(name)


async def answered(body: bytes, *headers: str, **fields: object):
    async with raw_server(http(200, body, *headers)) as server:
        return await send(server.url, **fields)


@asynchronous
@pytest.mark.parametrize("name", ["gzip", "x-gzip", "deflate", "raw deflate", "br", "zstd"])
async def test_a_packed_answer_is_read_although_none_was_asked_for(name):
    label = f"content-encoding: {name.removeprefix('raw ')}"
    outcome = await answered(packed(name, ANSWER), label)
    assert isinstance(outcome, Answered), outcome
    assert outcome.answer.text == "yes"


@asynchronous
async def test_an_answer_that_is_packed_twice_is_unpacked_twice():
    twice = packed("br", packed("gzip", ANSWER))
    assert isinstance(await answered(twice, "content-encoding: gzip, br"), Answered)


@asynchronous
@pytest.mark.parametrize("name", ["gzip", "deflate", "br", "zstd", "nonsense", "identity", ""])
async def test_plain_json_is_read_whatever_its_label_says(name):
    assert isinstance(await answered(ANSWER, f"content-encoding: {name}"), Answered)


@asynchronous
@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
async def test_what_cannot_be_unpacked_keeps_its_bytes(name):
    body = packed(name, ANSWER)[:-12] + b"\0" * 9
    outcome = await answered(b"\x99" + body, f"content-encoding: {name}")
    assert isinstance(outcome, Unusable)
    assert outcome.body == b"\x99" + body


@asynchronous
@pytest.mark.parametrize("name", ["gzip", "br", "zstd"])
async def test_a_bomb_is_refused_before_it_is_large(name):
    bomb = packed(name, b" " * (65 * 2**20))
    outcome = await answered(bomb, f"content-encoding: {name}")
    assert isinstance(outcome, Unknown)
    assert outcome.failure.error_type == "answer_too_large"


@asynchronous
@pytest.mark.parametrize("name", ["gzip", "br"])
async def test_an_error_is_read_when_it_is_packed(name):
    error = b'{"type":"error","error":{"type":"invalid_request_error","message":"no"}}'
    async with raw_server(
        http(400, packed(name, error), f"content-encoding: {name}")
    ) as server:
        outcome = await send(server.url)
    assert isinstance(outcome, Rejected)
    assert outcome.failure.message == "no"


@asynchronous
@pytest.mark.parametrize("name", ["", "gzip", "br", "zstd"])
async def test_a_stream_is_read_when_it_is_packed(name):
    body = packed(name, STREAM) if name else STREAM
    outcome = await answered(
        body, "content-type: text/event-stream", f"content-encoding: {name}", stream="always"
    )
    assert isinstance(outcome, Answered), outcome
    assert outcome.answer.text == "yes"


@asynchronous
@pytest.mark.parametrize("before", [b"", b"\xef\xbb\xbf"])
async def test_a_stream_that_nobody_asked_for_is_folded(before):
    outcome = await answered(before + STREAM, "content-type: text/event-stream")
    assert isinstance(outcome, Answered), outcome
    assert (outcome.answer.text, outcome.answer.stop_reason) == ("yes", "end_turn")


@asynchronous
async def test_an_error_in_a_stream_that_nobody_asked_for_is_an_error():
    error = b'{"type":"error","error":{"type":"overloaded_error","message":"x"}}'
    event = b"event: error\ndata: %b\n\n" % error
    outcome = await answered(event, "content-type: text/event-stream")
    assert isinstance(outcome, Rejected)
    assert outcome.failure.error_type == "overloaded_error"


@asynchronous
async def test_a_byte_order_mark_before_json_is_passed_over():
    assert isinstance(await answered(b"\xef\xbb\xbf" + ANSWER), Answered)


@asynchronous
async def test_headers_may_be_long_and_many():
    long = f"x-long: {'a' * 60_000}"
    assert isinstance(await answered(ANSWER, long), Answered)
    many = [f"x-{number}: {'a' * 100}" for number in range(300)]
    assert isinstance(await answered(ANSWER, *many), Answered)
