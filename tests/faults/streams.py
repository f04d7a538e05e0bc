"""Faults of a streamed answer, at each of its events."""

import asyncio
import json
from dataclasses import replace
from typing import Any

from batcher.messages.request import StreamMode
from tests.faults.kinds import (
    ASSUMED,
    ASSUMED_IN_PART,
    BROKEN,
    FINE,
    IN_DOUBT,
    MISCONFIGURED,
    NO_ACCESS,
    PAUSED,
    REFUSED,
    RETRIED,
    UNUSABLE,
    Bytes,
    End,
    Follows,
    Order,
    Stage,
    WireFault,
    maybe_billed,
)
from tests.faults.wires import then
from tests.making_runs import MODEL
from tests.transport.servers import Answer, hang, http, reset

STREAMED = {"stream": StreamMode.ALWAYS}
SILENCE = STREAMED | {"stream_idle_seconds": 100.0}  # a second by the fast clock
_TYPE = "content-type: text/event-stream"
_HEAD = (
    b"HTTP/1.1 200 OK\r\n" + _TYPE.encode() + b"\r\ntransfer-encoding: chunked"
    b"\r\nconnection: close\r\n\r\n"
)

# The row is at fault, or the run, but something had been used before it was said.
BROKEN_FOR_GOOD = replace(BROKEN, end=End.FAILED, most=1)
BROKEN_BY_QUOTA = replace(BROKEN, end=End.HELD, most=3)
BROKEN_77 = replace(BROKEN, end=End.TO_DO, exit=77, most=1)
BROKEN_78 = replace(BROKEN, end=End.TO_DO, exit=78, most=1)


def sse(*events: dict[str, Any]) -> bytes:
    return b"".join(
        f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events
    )


def start(**usage: Any) -> dict[str, Any]:
    counts = {"input_tokens": 10, "output_tokens": 1} | usage
    return {
        "type": "message_start",
        "message": {
            "id": "msg_1", "type": "message", "role": "assistant", "model": MODEL,
            "content": [], "stop_reason": None, "usage": counts,
        },
    }  # fmt: skip


def opened(index: int = 0) -> dict[str, Any]:
    block = {"type": "text", "text": ""}
    return {"type": "content_block_start", "index": index, "content_block": block}


def delta(index: int = 0, **fields: Any) -> dict[str, Any]:
    text = {"type": "text_delta", "text": "half"} | fields
    return {"type": "content_block_delta", "index": index, "delta": text}


def closed(index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {
        "type": "message_delta",
        "delta": {"stop_reason": reason, "stop_sequence": None},
        "usage": {"output_tokens": 5} | usage,
    }


STOP = {"type": "message_stop"}
PING = {"type": "ping"}
WHOLE = (start(), opened(), delta(), closed(), ended(), STOP)
OPEN = sse(*WHOLE[:3])


def chunk(part: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(part), part)


def error(kind: str) -> dict[str, Any]:
    return {"type": "error", "error": {"type": kind, "message": "on purpose"}}


def _stream(
    id_: str, follows: Follows, answer: Answer, reason: str | None = None, **more: Any
) -> WireFault:
    return WireFault(
        id=f"stream {id_}", stage=Stage.STREAM, cause=Bytes(answer), follows=follows,
        reason=reason, **{"endpoint": STREAMED} | more,
    )  # fmt: skip


def _events(id_: str, follows: Follows, *events: dict[str, Any]) -> WireFault:
    return _stream(id_, follows, http(200, sse(*events), _TYPE))


def _ordered(id_: str, follows: Follows, prompt: str, times: int | None = None) -> WireFault:
    return WireFault(
        id=f"simulator stream {id_}", stage=Stage.STREAM, cause=Order(prompt), follows=follows,
        times=times, endpoint=STREAMED,
    )  # fmt: skip


async def _pings(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(chunk(sse(PING)))
        await writer.drain()
        await asyncio.sleep(0.005)


def _breaks() -> list[WireFault]:
    """The end, a reset and an error after each event."""
    names = ("start", "block", "text", "end of block")
    found, refusal = [], sse(error("overloaded_error"))
    for count, name in enumerate(names, 1):
        begun = sse(*WHOLE[:count])
        found += [
            _stream(f"FIN after {name}", BROKEN, http(200, begun, _TYPE), "broken_stream"),
            _stream(f"RST after {name}", BROKEN, then(_HEAD + chunk(begun), reset)),
            _stream(f"error after {name}", BROKEN_BY_QUOTA, http(200, begun + refusal, _TYPE)),
        ]
    return found


STREAMS = [
    *_breaks(),
    # Before a message has begun
    _stream("FIN before any event", UNUSABLE, http(200, b"", _TYPE)),
    _stream("RST before any event", IN_DOUBT, then(_HEAD, reset), "broken_answer"),
    _stream(
        "RST of an answer until the end",
        BROKEN,
        then(b"HTTP/1.1 200 OK\r\n\r\n" + OPEN, reset),
        "broken_stream",
    ),
    _stream("RST in the first event", IN_DOUBT, then(_HEAD + chunk(sse(start())[:30]), reset)),
    _stream("pings alone", UNUSABLE, http(200, sse(PING, PING), _TYPE)),
    _stream("an end without a beginning", UNUSABLE, http(200, sse(ended(), STOP), _TYPE)),
    _stream("a page", UNUSABLE, http(200, b"<html>hi</html>", "content-type: text/html")),
    *(
        _stream(
            f"first event {kind}",
            maybe_billed(follows),
            http(200, sse(error(kind)), _TYPE),
            kind,
            **({"times": 2} if follows is PAUSED else {}),
        )
        for kind, follows in (
            ("overloaded_error", PAUSED),
            ("rate_limit_error", PAUSED),
            ("api_error", RETRIED),
            ("invalid_request_error", REFUSED),
            ("authentication_error", NO_ACCESS),
            ("not_found_error", MISCONFIGURED),
        )
    ),
    # After it has begun, an error costs what was used
    *(
        _stream(f"begun, then {kind}", follows, http(200, OPEN + sse(error(kind)), _TYPE), kind)
        for kind, follows in (
            ("api_error", BROKEN),
            ("rate_limit_error", BROKEN_BY_QUOTA),
            ("invalid_request_error", BROKEN_FOR_GOOD),
            ("billing_error", BROKEN_77),
            ("not_found_error", BROKEN_78),
        )
    ),
    # Silence and slowness
    _stream(
        "silence at once", IN_DOUBT, then(_HEAD, hang), "timeout", endpoint=SILENCE, times=1
    ),
    _stream(
        "silence after text",
        BROKEN,
        then(_HEAD + chunk(OPEN), hang),
        "timeout",
        endpoint=SILENCE,
        times=1,
    ),
    _stream(
        "pings for ever",
        BROKEN,
        then(_HEAD + chunk(OPEN), _pings),
        "timeout",
        endpoint=STREAMED | {"stream_timeout_seconds": 100.0},
        times=1,
    ),
    # Nonsense in the middle
    _stream("no JSON", BROKEN, http(200, OPEN + b"data: {oops}\n\n", _TYPE), "broken_stream"),
    _stream("not UTF-8", BROKEN, http(200, OPEN + b'data: "\xff"\n\n', _TYPE), "broken_stream"),
    _stream(
        "a line of 9 MiB",
        BROKEN,
        http(200, OPEN + b"data: " + b"x" * 9 * 2**20, _TYPE),
        "broken_stream",
    ),
    _stream(
        "a cut event", BROKEN, http(200, OPEN + sse(closed())[:-9], _TYPE), "broken_stream"
    ),
    _stream("a list as an event", BROKEN, http(200, OPEN + b"data: [1]\n\n", _TYPE)),
    _events("a second beginning", BROKEN, start(), opened(), delta(), start()),
    _events(
        "text of a block that is not there", FINE, start(), delta(7), closed(7), ended(), STOP
    ),
    _events(
        "a gap between blocks", FINE, start(), opened(3), delta(3), closed(3), ended(), STOP
    ),
    _events("a block that is never closed", FINE, start(), opened(), delta(), ended(), STOP),
    _events("text that is a number", BROKEN, start(), opened(), delta(text=7)),
    _events("no stop reason at the end", FINE, *WHOLE[:4], ended(None), STOP),
    _events("an end in two", FINE, *WHOLE[:4], ended(None), ended(), STOP),
    _events("two stops", FINE, *WHOLE, STOP),
    _events("no stop", FINE, *WHOLE[:5]),
    _events("an event of the future", FINE, {"type": "future", "index": "x"}, *WHOLE),
    _events("negative usage at the start", ASSUMED_IN_PART, start(input_tokens=-1), *WHOLE[1:]),
    _events(
        "negative usage at the end", ASSUMED_IN_PART, *WHOLE[:4], ended(output_tokens=-1), STOP
    ),
    _events(
        "no usage at all",
        ASSUMED,
        start(input_tokens=None, output_tokens=None),
        *WHOLE[1:4],
        ended(output_tokens=None),
        STOP,
    ),
    _events(
        "no usage at the end",
        ASSUMED_IN_PART,
        *WHOLE[:4],
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}},
        STOP,
    ),
    # The simulator's forms: the message is whole, however it is written
    *(
        _ordered(form, FINE, f"[[stream:{form}]]")
        for form in (
            "crlf",
            "cr",
            "data_only",
            "comments",
            "multi_data",
            "no_blank",
            "no_ping",
            "no_stop",
            "two_deltas",
            "done",
            "unknown_event",
            "unknown_delta",
            "overlap",
            "json",
            "split=1",
            "split=7",
        )
    ),
    _ordered("refused", maybe_billed(PAUSED), "[[fault:stream_refused{n}]]", times=2),
    _ordered("cut at once", UNUSABLE, "[[fault:200_cut{n}]][[stream:at=0]]"),
    *(
        _ordered(
            f"{fault} after {at} events", BROKEN, f"[[fault:{fault}{{n}}]][[stream:at={at}]]"
        )
        for fault in ("200_cut", "reset_after_headers", "stream_error")
        for at in (1, 4)
    ),
]
