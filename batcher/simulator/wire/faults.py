"""Everything that can go wrong, as a table, and the choice of what goes wrong now.

Which is by chance, or by order: a prompt may hold markers, `[[name:value]]`.
"""

import re
from array import array
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final, Literal

from batcher.simulator.wire import forms
from batcher.simulator.wire.forms import (
    ORDINARY,
    RefusedRequest,
    StreamForm,
    read_form,
)

NoAnswer = Literal["reset_before", "close", "hang"]
PartAnswer = Literal["answer", "cut", "reset_after_headers", "slow_trickle", "error"]
Manner = NoAnswer | PartAnswer
Wait = Literal["seconds", "date", "milliseconds"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail.

    `manner` "answer" sends `status` with `page(request_id)`; the other manners break the
    connection or the body, of a plain answer or a stream. `billed` says whether the request is
    on the bill all the same. `wait` is how the answer asks for patience, `None` for not at all.
    `as_event`: where a stream was asked for, `page` comes as an error event.
    """

    status: int = 200
    billed: bool = False
    manner: Manner = "answer"
    page: Callable[[str], bytes] = lambda _request_id: b""
    content_type: str = "application/json"
    wait: Wait | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    as_event: bool = False


def _envelope(
    status: int, message: str, code: str | None = None, *, wait: Wait | None = None
) -> Fault:
    problem = RefusedRequest(status, message, code)
    return Fault(
        status=status,
        page=lambda request_id: forms.anthropic(problem, request_id),
        wait=wait,
    )


def _html(status: int, title: str, *, billed: bool = False) -> Fault:
    page = forms.html(title)
    return Fault(status=status, billed=billed, page=lambda _: page, content_type="text/html")


def _json(status: int, body: bytes) -> Fault:
    return Fault(status=status, page=lambda _: body)


_RATE = "This request would exceed your organization's rate limit."
_SPEND = "You have reached your specified API usage limits."

FAULTS: Final[Mapping[str, Fault]] = {
    "400": _envelope(400, "messages.0: this request is refused on purpose"),
    "400_spend": _envelope(400, _SPEND),
    "400_on_hold": _envelope(400, "Your organization is on hold.", "organization_on_hold"),
    "401": _envelope(401, "invalid x-api-key"),
    "402": _envelope(402, "Your credit balance is too low."),
    "403": _envelope(403, "Your API key does not have permission to use this resource."),
    "404": _envelope(404, "model: this model"),
    "408": _envelope(408, "Request timeout"),
    "409": _envelope(409, "The resource is being changed by another request."),
    "413": _html(413, "413 Request Entity Too Large"),
    "422": _json(422, forms.fastapi("Field required")),
    "429": _envelope(429, _RATE, wait="seconds"),
    "429_date": _envelope(429, _RATE, wait="date"),
    "429_ms": _envelope(429, _RATE, wait="milliseconds"),
    "429_no_header": _envelope(429, _RATE),
    "429_spend": _envelope(429, "Monthly spend limit reached.", "enforced_spend_limit_reached"),
    "429_ramp": _envelope(429, "Usage grows too fast.", "ramp_limit_exceeded", wait="seconds"),
    "500": _envelope(500, "Internal server error"),
    "500_no_retry": Fault(
        status=500,
        page=lambda request_id: forms.anthropic(RefusedRequest(500, "Not again"), request_id),
        headers={"x-should-retry": "false"},
    ),
    "500_html": _html(500, "500 Internal Server Error"),
    "501": _envelope(501, "Not implemented"),
    # The gateway lost the answer of a model that did its work.
    "502_html": _html(502, "502 Bad Gateway", billed=True),
    "503": _envelope(503, "Service unavailable"),
    "504": _envelope(504, "The request timed out."),
    "529": _envelope(529, "Overloaded"),
    "529_retry_after": _envelope(529, "Overloaded", wait="seconds"),
    "model_not_found": _json(404, forms.openai("The model does not exist", "model_not_found")),
    "200_error": _json(200, b'{"error":{"message":"boom"}}'),
    "200_html": _html(200, "Welcome"),
    "200_empty": Fault(billed=True),
    "200_cut": Fault(billed=True, manner="cut"),
    "reset_before": Fault(billed=True, manner="reset_before"),
    "reset_after_headers": Fault(billed=True, manner="reset_after_headers"),
    "close": Fault(billed=True, manner="close"),
    "hang": Fault(billed=True, manner="hang"),
    "redirect": Fault(status=307, headers={"location": "/_simulator/redirected"}),
    # An error as the first event of a stream: nothing was begun.
    "stream_refused": Fault(
        page=lambda request_id: forms.anthropic(RefusedRequest(529, "Overloaded"), request_id),
        as_event=True,
    ),
    "slow_trickle": Fault(billed=True, manner="slow_trickle"),
    "stream_error": Fault(billed=True, manner="error"),
}

_COUNTERS: Final = 1 << 20


class FaultPicker:
    """Chooses the fault of each request: a function of seed, body and how often it was seen.

    It does not depend on the order in which different bodies arrive, so that a run with many
    requests in flight fails the same way each time.
    """

    def __init__(self, seed: int, shares: Mapping[str, float]) -> None:
        self._seed = seed.to_bytes(16, "little", signed=True)
        self._shares = {name: share for name, share in shares.items() if share > 0}
        self._seen = array("I", bytes(4 * _COUNTERS)) if self._shares else array("I")
        self._marked: dict[bytes, int] = {}

    def pick(self, digest: bytes, marked: tuple[tuple[str, int | None], ...]) -> str | None:
        """The fault's name or `None`; `marked` holds (name, times) in order, `None`: always."""
        if marked:
            return self._by_marker(digest, marked)
        return self._by_chance(digest) if self._shares else None

    def _by_marker(
        self, digest: bytes, marked: tuple[tuple[str, int | None], ...]
    ) -> str | None:
        seen = self._marked.get(digest, 0)
        self._marked[digest] = seen + 1
        for name, times in marked:
            if times is None or seen < times:
                return name
            seen -= times
        return None

    def _by_chance(self, digest: bytes) -> str | None:
        # Bodies share counters when there are millions of them: 4 MB instead of 100.
        slot = int.from_bytes(digest[:4], "little") % _COUNTERS
        seen = self._seen[slot]
        self._seen[slot] = (seen + 1) & 0xFFFFFFFF
        drawn = blake2b(digest + seen.to_bytes(4, "little"), key=self._seed, digest_size=8)
        point = int.from_bytes(drawn.digest(), "little") / 2**64
        for name, share in self._shares.items():
            if point < share:
                return name
            point -= share
        return None


# What becomes of a request in a batch, or of its line in the results.
BATCH_ENDS: Final = ("expired", "canceled", "missing", "twice", "foreign")
USAGE_FORMS: Final = ("null", "two_fields", "openai", "none", "nulls", "cache")
_MARKER: Final = re.compile(
    r"\[\[(stop|fault|output|input|pause|latency|usage|model|custom|stream|batch)"
    r":([^\[\]\"\\]+)\]\]"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Markers:
    """What the prompt orders; `None` or empty where it is silent. Tokens and milliseconds."""

    stop: str | None = None
    faults: tuple[tuple[str, int | None], ...] = ()
    output: int | None = None
    input: int | None = None
    pause: int | None = None
    latency_ms: float | None = None
    usage: str | None = None
    model: str | None = None
    custom: str | None = None
    stream: StreamForm = ORDINARY
    batch: str | None = None


NOTHING: Final = Markers()


def read_markers(canonical: bytes) -> Markers:
    """The markers of a body.

    Other names are ordinary text (`[[File:x.png]]`); a known one with a value that means
    nothing raises `ValueError`.
    """
    if b"[[" not in canonical:
        return NOTHING
    found = _MARKER.findall(canonical.decode())
    values = {name: value for name, value in found if name != "fault"}
    faults = tuple(_fault(value) for name, value in found if name == "fault")
    return Markers(
        stop=values.get("stop"),
        faults=faults,
        output=_number(values.get("output")),
        input=_number(values.get("input")),
        pause=_number(values.get("pause")),
        latency_ms=_number(values.get("latency")),
        usage=_usage_form(values.get("usage")),
        model=values.get("model"),
        custom=values.get("custom"),
        stream=read_form(values["stream"]) if "stream" in values else ORDINARY,
        batch=_batch_end(values.get("batch")),
    )


def without_markers(text: str) -> str:
    """The prompt as a model would see it."""
    return _MARKER.sub("", text).strip() if "[[" in text else text


def _fault(value: str) -> tuple[str, int | None]:
    name, _, times = value.partition("*")
    if name not in FAULTS:
        raise ValueError(f"unknown fault [[fault:{name}]]")
    return name, int(times) if times else None


def _number(value: str | None) -> int | None:
    number = None if value is None else int(value)
    if number is not None and number < 0:
        raise ValueError(f"a marker with {number}: give 0 or more")
    return number


def _usage_form(value: str | None) -> str | None:
    if value is not None and value not in USAGE_FORMS:
        raise ValueError(
            f"unknown marker [[usage:{value}]]; forms are {', '.join(USAGE_FORMS)}"
        )
    return value


def _batch_end(value: str | None) -> str | None:
    if value is not None and value not in BATCH_ENDS:
        raise ValueError(f"unknown marker [[batch:{value}]]; known are {', '.join(BATCH_ENDS)}")
    return value
