"""From a streamed answer, or what came instead of it, to an outcome."""

import asyncio
import json

import pytest

from batcher.messages.failure import Verdict
from batcher.messages.request import (
    Answered,
    NotSent,
    Partial,
    Rejected,
    StreamMode,
    Unknown,
    Unusable,
)
from tests.making_runs import message, simulating
from tests.messages.stream_making import (
    FIXTURE,
    MESSAGES,
    STOP,
    begun,
    block,
    delta,
    ended,
    meaning,
    sse,
    stream_of,
    whole,
)
from tests.simulator.asking import asynchronous, body_of
from tests.transport.servers import Hand, free_port, hang, http, raw_server, reset, send

EVENTS = "content-type: text/event-stream"
TEXT = [block(0, type="text", text=""), delta(0, "text_delta", text="half of what was meant")]
OPEN = sse(begun(), *TEXT)


async def outcome_of(answer, **fields):
    """What the lane makes of an answer to a request that asks for a stream."""
    async with raw_server(answer) as raw:
        return await send(raw.url, b'{"a": 1}', stream=StreamMode.ALWAYS, **fields)


def error(kind):
    return {"type": "error", "error": {"type": kind, "message": "no"}}


def begin(*parts, then=None):
    """A server that sends a stream in pieces, and ends it well unless something else comes."""

    async def answer(writer):
        writer.write(
            b"HTTP/1.1 200 OK\r\nrequest-id: req_1\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        for part in parts:
            await write(writer, part)
            await asyncio.sleep(0.01)
        if then:
            await then(writer)
        else:
            await write(writer, b"")

    return answer


async def write(writer, part):
    writer.write(b"%x\r\n%b\r\n" % (len(part), part))
    await writer.drain()


async def close(_):
    """Close without the last chunk."""


SILENCE = begin(then=hang)


# --- complete


@pytest.mark.parametrize("name", sorted(MESSAGES))
@asynchronous
async def test_a_stream_is_answered_with_the_message_it_adds_up_to(name):
    outcome = await outcome_of(
        http(200, stream_of(MESSAGES[name]), EVENTS, "request-id: req_1")
    )
    assert isinstance(outcome, Answered)
    assert meaning(outcome.answer) == meaning(whole(MESSAGES[name]))
    assert outcome.exchange.provider_request_id == "req_1"


@asynchronous
async def test_the_moment_of_the_first_content_is_recorded():
    outcome = await outcome_of(begin(sse(begun()), sse(*TEXT), sse(ended(), STOP)))
    exchange = outcome.exchange
    assert 0 < exchange.first_token_us < exchange.settled_at - exchange.sent_at


@asynchronous
async def test_a_stream_without_content_has_no_first_token():
    outcome = await outcome_of(http(200, sse(begun(), ended(), STOP), EVENTS))
    assert isinstance(outcome, Answered)
    assert outcome.exchange.first_token_us is None


@pytest.mark.parametrize("headers", [[], [EVENTS], ["content-type: application/json"]])
@asynchronous
async def test_plain_json_instead_of_a_stream_is_an_answer(headers):
    outcome = await outcome_of(http(200, message("plain"), *headers))
    assert isinstance(outcome, Answered)
    assert outcome.answer.text == "plain"


@pytest.mark.parametrize("headers", [[], ["content-type: application/json"]])
@asynchronous
async def test_a_stream_is_known_by_what_it_holds(headers):
    assert isinstance(await outcome_of(http(200, FIXTURE, *headers)), Answered)


@pytest.mark.parametrize("then", [hang, reset], ids=["silence", "reset"])
@asynchronous
async def test_an_answer_is_over_with_its_last_event_whatever_the_connection_does(then):
    outcome = await outcome_of(begin(OPEN, sse(ended(), STOP), then=then))
    assert isinstance(outcome, Answered)


@asynchronous
async def test_a_stop_reason_is_enough_when_the_connection_breaks():
    outcome = await outcome_of(begin(OPEN, sse(ended()), then=reset))
    assert isinstance(outcome, Answered)


# --- refused


@pytest.mark.parametrize(
    ("kind", "verdict"),
    [
        ("overloaded_error", Verdict.OVERLOADED),
        ("rate_limit_error", Verdict.PAUSE_QUOTA),
        ("api_error", Verdict.RETRY_ROW),
        ("timeout_error", Verdict.RETRY_ROW),
        ("invalid_request_error", Verdict.FAIL_ROW),
        ("authentication_error", Verdict.STOP_ACCESS),
        ("not_found_error", Verdict.STOP_CONFIGURATION),
        ("something_new", Verdict.RETRY_ROW),
    ],
)
@asynchronous
async def test_an_error_event_is_classed_like_its_status(kind, verdict):
    early = await outcome_of(http(200, sse(error(kind)), EVENTS))
    late = await outcome_of(http(200, OPEN + sse(error(kind)), EVENTS))
    assert isinstance(early, Rejected)
    assert isinstance(late, Partial)
    for outcome in (early, late):
        assert (outcome.failure.verdict, outcome.failure.error_type) == (verdict, kind)
        assert outcome.exchange.http_status == 200


@pytest.mark.parametrize("status", [400, 429, 529])
@asynchronous
async def test_a_status_counts_before_anything_in_the_stream(status):
    body = json.dumps(error("x")).encode()
    outcome = await outcome_of(http(status, body, "retry-after: 7"))
    assert isinstance(outcome, Rejected)
    assert outcome.failure.retry_after_seconds == 7


@asynchronous
async def test_an_unreachable_server_means_not_sent():
    outcome = await send(f"http://127.0.0.1:{free_port()}", b"{}", stream=StreamMode.ALWAYS)
    assert isinstance(outcome, NotSent)


# --- broken


@pytest.mark.parametrize(
    ("answer", "error_type"),
    [
        (http(200, OPEN, EVENTS), "broken_stream"),
        (begin(OPEN), "broken_stream"),
        (begin(OPEN, then=close), "broken_answer"),
        (begin(OPEN, then=reset), "broken_answer"),
        (begin(OPEN, b"data: {oops}\n\n", then=hang), "broken_stream"),
        (begin(OPEN, b"x" * (9 * 2**20), then=hang), "broken_stream"),
        (http(200, OPEN, EVENTS)[:-4], "broken_answer"),
    ],
    ids=["end", "last chunk", "close", "reset", "nonsense", "long line", "short body"],
)
@asynchronous
async def test_a_break_leaves_what_came_and_its_usage(answer, error_type):
    outcome = await outcome_of(answer)
    assert isinstance(outcome, Partial)
    assert outcome.answer.text in {"half of what was meant", ""}
    assert outcome.answer.usage.input_tokens == 10
    assert outcome.failure.verdict is Verdict.RETRY_ROW
    assert outcome.failure.error_type == error_type


@asynchronous
async def test_a_silent_stream_is_given_up_with_what_it_brought():
    clock = Hand()
    silent = begin(OPEN, then=clock.hang)
    outcome = await outcome_of(
        silent, clock=clock, stream_idle_seconds=30, request_timeout_seconds=60
    )
    assert isinstance(outcome, Partial)
    assert outcome.failure.error_type == "timeout"
    assert outcome.exchange.provider_request_id == "req_1"


@asynchronous
async def test_a_stream_that_never_ends_is_given_up():
    async def ping(writer):
        while True:
            await write(writer, b": ping\n\n")
            await asyncio.sleep(0.01)

    outcome = await outcome_of(begin(OPEN, then=ping), stream_timeout_seconds=0.2)
    assert isinstance(outcome, Partial)
    assert "longer than 0.2 s" in outcome.failure.message


@asynchronous
async def test_a_long_stream_is_not_held_to_the_time_of_a_plain_answer():
    slow = begin(*[sse(begun()), *[b": ping\n\n"] * 60, sse(ended(), STOP)])
    outcome = await outcome_of(slow, request_timeout_seconds=0.1)
    assert isinstance(outcome, Answered)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (b"", Unknown),
        (reset, Unknown),
        (begin(b"event: message_start\nda", then=reset), Unknown),
        (SILENCE, Unknown),
        (http(200, b""), Unusable),
        (http(200, b"<html>hi</html>"), Unusable),
        (http(200, b": ping\n\n", EVENTS), Unusable),
        (http(200, sse(ended(), STOP), EVENTS), Unusable),
        (http(502, b"<html>"), Unknown),
    ],
    ids=[
        "closed", "reset", "half an event", "silence", "empty", "page", "pings", "no start",
        "gateway",
    ],
)  # fmt: skip
@asynchronous
async def test_without_a_message_nothing_is_known_or_the_bytes_are_kept(answer, kind):
    patience = {"stream_idle_seconds": 0.1} if answer is SILENCE else {}
    outcome = await outcome_of(answer, **patience)
    assert isinstance(outcome, kind)
    if kind is Unusable and isinstance(answer, bytes) and b"message_start" not in answer:
        assert answer.endswith(outcome.body)


# --- what is sent


async def sent(mode, body):
    async with raw_server(http(200, message())) as raw:
        await send(raw.url, body, stream=mode)
        return raw.requests[0].partition(b"\r\n\r\n")[2]


@asynchronous
async def test_an_ordinary_request_leaves_as_it_is():
    body = b' {"model": "m",  "n": 1.50} '
    assert await sent(StreamMode.AUTO, body) == body
    assert await sent(StreamMode.NEVER, body) == body


@asynchronous
async def test_always_adds_stream_and_never_takes_it_away():
    assert await sent(StreamMode.ALWAYS, b'{"n": 1.50}') == b'{"stream":true,"n": 1.50}'
    assert await sent(StreamMode.NEVER, b'{"stream": true, "n": 1.50}') == b'{"n":1.50}'


# --- the simulator, which shares no code with us


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("stream_refused", Rejected),
        ("stream_error", Partial),
        ("200_cut", Partial),
        ("reset_after_headers", Partial),
        ("reset_before", Unknown),
        ("close", Unknown),
        ("hang", Unknown),
        ("200_empty", Unusable),
        ("200_error", Rejected),
        ("429", Rejected),
        ("502_html", Unknown),
        ("slow_trickle", Answered),
    ],
)
def test_every_way_of_the_simulator_to_fail_a_stream_is_told_apart(fault, kind):
    @asynchronous
    async def ask():
        body = json.dumps(body_of(f"[[fault:{fault}]]")).encode()
        modes = {"stream": StreamMode.ALWAYS}
        patience = {"stream_idle_seconds": 0.3} if fault == "hang" else {}
        assert isinstance(await send(simulator.base_url, body, **modes, **patience), kind)

    with simulating(trickle_ms=0) as simulator:
        ask()
