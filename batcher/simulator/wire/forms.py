"""How answers are written: error bodies, and the many ways to write one and the same stream."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import msgspec

Event = tuple[str, dict[str, Any]]

# What `[[stream:…]]` may ask for, and what it does.
SWITCHES: Final = {
    "crlf": "lines end in CR LF",
    "cr": "lines end in CR",
    "data_only": "no event lines",
    "comments": "a comment before each event",
    "multi_data": "the JSON of an event on several data lines",
    "no_blank": "no blank line after the last event",
    "no_ping": "no ping",
    "no_stop": "no message_stop",
    "no_usage": "message_delta without usage",
    "two_deltas": "two message_delta, the stop reason in the last",
    "done": "a stray [DONE] at the end",
    "unknown_event": "events of an unknown type",
    "unknown_delta": "a delta of an unknown type in every block",
    "overlap": "all blocks are closed together at the end",
    "json": "the whole answer as JSON although a stream was asked for",
}
NUMBERS: Final = ("at", "split")


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamForm:
    """How a stream is written.

    `at` is the number of events after which a fault breaks it, `None` for half of them.
    `split` is the number of bytes written at a time, `None` for an event at a time. `error` is
    the type of the error of a stream that fails.
    """

    switches: frozenset[str] = frozenset()
    at: int | None = None
    split: int | None = None
    error: str = "overloaded_error"


ORDINARY: Final = StreamForm()


def read_form(value: str) -> StreamForm:
    """The form that a marker names, such as `crlf,split=3`; `ValueError` for a wrong one."""
    switches: set[str] = set()
    numbers: dict[str, int] = {}
    error = ORDINARY.error
    for part in value.split(","):
        name, _, given = part.strip().partition("=")
        if name == "error" and given:
            error = given
        elif name in NUMBERS and given.isdecimal():
            numbers[name] = int(given)
        elif name in SWITCHES and not given:
            switches.add(name)
        else:
            raise ValueError(f"unknown marker [[stream:{part}]]; known are {_known()}")
    if numbers.get("split") == 0:
        raise ValueError("[[stream:split=0]]: give 1 or more")
    return StreamForm(switches=frozenset(switches), error=error, **numbers)


def _known() -> str:
    return ", ".join([*SWITCHES, *(f"{name}=N" for name in NUMBERS), "error=TYPE"])


def in_form(events: Iterable[Event], form: StreamForm) -> list[Event]:
    """The same events with what the form adds, leaves out and moves."""
    asked = form.switches
    left_out = {"ping": "no_ping", "message_stop": "no_stop"}
    kept = [event for event in events if left_out.get(event[0], "") not in asked]
    if "overlap" in asked:
        kept = _overlapping(kept)
    return [changed for event in kept for changed in _changed(event, asked)]


def written(event: Event, form: StreamForm, *, is_last: bool) -> bytes:
    """One event as it goes on the wire."""
    name, fields = event
    text = msgspec.json.encode({"type": name, **fields})
    asked = form.switches
    data = msgspec.json.format(text, indent=1).split(b"\n") if "multi_data" in asked else [text]
    lines = [b": a comment"] if "comments" in asked else []
    lines += [] if "data_only" in asked else [b"event: " + name.encode()]
    lines += [b"data: " + line for line in data]
    lines += [] if is_last and "no_blank" in asked else [b""]
    if is_last and "done" in asked:
        lines += [b"data: [DONE]", b""]
    end = b"\r\n" if "crlf" in asked else b"\r" if "cr" in asked else b"\n"
    return end.join(lines) + end


def pieces(frames: Iterable[bytes], form: StreamForm) -> Iterator[bytes]:
    """What is written at a time."""
    if form.split is None:
        yield from frames
        return
    whole = b"".join(frames)
    for start in range(0, len(whole), form.split):
        yield whole[start : start + form.split]


def _overlapping(events: list[Event]) -> list[Event]:
    ends = [event for event in events if event[0] == "content_block_stop"]
    others = [event for event in events if event[0] != "content_block_stop"]
    names = [name for name, _ in others]
    at = names.index("message_delta") if "message_delta" in names else len(others)
    return others[:at] + ends + others[at:]


def _changed(event: Event, asked: frozenset[str]) -> Iterator[Event]:
    name, fields = event
    if name == "message_delta" and "two_deltas" in asked:
        nothing = {"stop_reason": None, "stop_sequence": None}
        yield name, {**fields, "delta": nothing}
    if name == "message_delta" and "no_usage" in asked:
        fields = {key: value for key, value in fields.items() if key != "usage"}
    yield name, fields
    if name == "content_block_start" and "unknown_delta" in asked:
        future = {"type": "future_delta", "text": {"not": "text"}}
        yield "content_block_delta", {"index": fields["index"], "delta": future}
    if "unknown_event" in asked:
        yield "future_event", {"message": "new", "index": "none", "delta": 7}


TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that is refused: HTTP status, message, machine code and extra headers."""

    status: int
    message: str
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def anthropic(problem: RefusedRequest, request_id: str) -> bytes:
    """The first party's envelope."""
    details = {"error_code": problem.code} if problem.code else None
    kind = TYPE_OF_STATUS.get(
        problem.status, "api_error" if problem.status >= 500 else "invalid_request_error"
    )
    error = {"details": details, "type": kind, "message": problem.message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def openai(message: str, code: str) -> bytes:
    """What resellers answer for their own refusals."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return msgspec.json.encode({"error": error})


def fastapi(message: str) -> bytes:
    """What a server built on FastAPI answers to a body it cannot validate."""
    detail = {"type": "missing", "loc": ["body", "max_tokens"], "msg": message}
    return msgspec.json.encode({"detail": [detail]})


def html(title: str) -> bytes:
    """A page of a proxy or a content delivery network."""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>simulator</center>\r\n"
        "</body>\r\n</html>\r\n"
    ).encode()
