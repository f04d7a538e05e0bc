"""Faults in what a whole answer says: HTTP 200, and something is wrong with it."""

import json

from tests.faults.kinds import (
    ASSUMED,
    ASSUMED_IN_PART,
    FINE,
    IN_DOUBT,
    UNPRICED,
    UNUSABLE,
    Bytes,
    Follows,
    Order,
    Stage,
    WireFault,
)
from tests.making_runs import message
from tests.transport.servers import http

LONG = 65 * 2**20  # a MiB more than is read


def _says(id_: str, follows: Follows, body: bytes) -> WireFault:
    return WireFault(id=id_, stage=Stage.ANSWER, cause=Bytes(http(200, body)), follows=follows)


def _usage(id_: str, follows: Follows, usage: object) -> WireFault:
    return _says(f"usage {id_}", follows, message(usage=usage))


def _without(*names: str) -> bytes:
    fields = json.loads(message())
    return json.dumps({k: v for k, v in fields.items() if k not in names}).encode()


def _counts(**counts: object) -> dict[str, object]:
    return {"input_tokens": 10, "output_tokens": 5} | counts


def _text(escaped: bytes) -> bytes:
    return message("@").replace(b'"@"', b'"' + escaped + b'"')


_BLOCK = {"type": "text", "text": "x"}

BODIES = [
    # No Message at all
    *(
        _says(f"body {id_}", UNUSABLE, body)
        for id_, body in (
            ("of spaces", b"   \n"),
            ("null", b"null"),
            ("a list", b"[" + message() + b"]"),
            ("a text", b'"ok"'),
            ("a number", b"200"),
            ("an empty object", b"{}"),
            ("a page", b"<!doctype html><title>Sign in</title>"),
            ("cut in half", message()[: len(message()) // 2]),
            ("two messages", message() + message()),
            ("a message and garbage", message() + b"\0\0\0"),
            ("a message with a comma too many", message()[:-1] + b",}"),
            ("not UTF-8", _text(b"\xff\xfe")),
            ("UTF-16", message().decode().encode("utf-16")),
            ("a surrogate in UTF-8", _text(b"\xed\xa0\x80")),
            ("a control character", _text(b"\x01")),
            ("NaN", message(usage=_counts()).replace(b": 10", b": NaN")),
            ("nested without end", b"[" * 100_000),
            ("content nested without end", message(content=[]).replace(b"[]", b"[" * 9_999)),
            ("a completion of another kind", b'{"object":"chat.completion","choices":[]}'),
            ("a stream that nobody asked for", b'event: ping\ndata: {"type":"ping"}\n\n'),
            ("without content", _without("content")),
            ("without type and role", _without("type", "role")),
            ("content null", message(content=None)),
            ("content a number", message(content=7)),
            ("content of numbers", message(content=[1, 2])),
            ("text no text", message(content=[{"type": "text", "text": 7}])),
            ("id a number", message(id=7)),
            ("stop_reason a list", message(stop_reason=[])),
        )
    ),
    WireFault(
        id="body larger than is read",
        stage=Stage.BODY,
        cause=Bytes(http(200, b" " * LONG)),
        follows=IN_DOUBT,
        reason="answer_too_large",
        times=1,
    ),
    # A Message, and yet
    *(
        _says(f"message {id_}", FINE, body)
        for id_, body in (
            ("with half a surrogate pair", _text(rb"\ud83d")),
            ("with NUL in its text", _text(rb"a\u0000b")),
            ("with NUL in its stop reason", message(stop_reason="a\0b")),
            ("with the same key twice", message()[:-1] + b',"model":"claude-sonnet-4-6"}'),
            (
                "with an unknown block",
                message(content=[{"type": "future", "x": 1e300}, _BLOCK]),
            ),
            ("with content as a text", message(content="plain")),
            ("without content blocks", message(content=[])),
            ("with an unknown stop reason", message(stop_reason="future_reason")),
            ("without a stop reason", _without("stop_reason")),
            ("without an id", _without("id")),
            ("with an id of a megabyte", message(id="m" * 2**20)),
            ("with fields of the future", message(future={"a": [1e400] * 0})),
            ("with a numeric container", message(container=7)),
        )
    ),
    _says("message of another model", FINE, message(model="claude-haiku-4-5")),
    # What cannot be priced is never free
    _says("message of an unknown model", UNPRICED, message(model="claude-unheard-of")),
    _says("usage absent", ASSUMED, _without("usage")),
    _usage("null", ASSUMED, None),
    _usage("empty", ASSUMED, {}),
    _usage("of nulls", ASSUMED, {"input_tokens": None, "output_tokens": None}),
    _usage("without output", ASSUMED_IN_PART, {"input_tokens": 10}),
    _usage("a list", ASSUMED, [10, 5]),
    _usage("as texts", FINE, {"input_tokens": "10", "output_tokens": "5"}),
    _usage("as floats", FINE, {"input_tokens": 10.0, "output_tokens": 5.0}),
    _usage("in words of OpenAI", FINE, {"prompt_tokens": 10, "completion_tokens": 5}),
    _usage("with details of the future", FINE, _counts(future_tokens={"a": -1})),
    *(
        _usage(f"{name} {value}", ASSUMED_IN_PART, _counts(**{name: value}))
        for name, value in (
            ("input_tokens", -1),
            ("output_tokens", -1),
            ("output_tokens", 5.5),
            ("output_tokens", 10**9 + 1),
            ("output_tokens", 1e99),
            ("output_tokens", "many"),
            ("output_tokens", [5]),
            ("cache_read_input_tokens", -3),
        )
    ),
    *(
        WireFault(
            id=f"simulator usage {form}",
            stage=Stage.ANSWER,
            cause=Order(f"[[usage:{form}]]"),
            follows=follows,
        )
        for form, follows in (
            ("none", ASSUMED),
            ("null", ASSUMED),
            ("nulls", FINE),
            ("openai", FINE),
            ("two_fields", FINE),
            ("cache", FINE),
        )
    ),
    *(
        WireFault(
            id=f"simulator stop {reason}",
            stage=Stage.ANSWER,
            cause=Order(f"[[stop:{reason}]]"),
            follows=FINE,
        )
        for reason in (
            "refusal",
            "max_tokens",
            "model_context_window_exceeded",
            "something_new",
        )
    ),
]
