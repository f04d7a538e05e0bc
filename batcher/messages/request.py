"""What a row becomes: a request, the attempts at it, their outcomes, and batches of attempts.

A request is a Messages body plus an identity. The outcomes are a closed union: a failed attempt
is data, never an exception.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Final

import msgspec

from batcher.messages.answer import Answer
from batcher.messages.evidence import RequestMeters
from batcher.messages.failure import Failure
from batcher.messages.prefix import Placement

_CANONICAL: Final = msgspec.json.Encoder(order="sorted")
_CHUNK: Final = 2**16  # characters of a large text that are encoded at once


class Request(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One Messages request, ready to be sent.

    `body` is the JSON text as it goes on the wire. `row_number` counts from 1 in its source;
    `byte_offset` is where the row starts, `None` where the format has no such thing (Parquet).
    `params_hash` is 16 bytes, see `params_hash()`. `betas` are `anthropic-beta` names that come
    on top of the endpoint's. `streams` is whether it needs a stream, or its row asked for one.
    """

    source_id: int
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    params_hash: bytes
    model: str
    max_tokens: int | None
    body: bytes
    betas: tuple[str, ...] = ()
    streams: bool = False


class BadRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row refused before sending: where it is, a reason code and one sentence."""

    source_id: int
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    reason: str
    message: str


def params_hash(
    params: dict[str, Any], betas: tuple[str, ...] = (), *, is_large: bool = False
) -> bytes:
    """16 bytes that name what is asked: the body with sorted keys, without `stream`, and betas.

    Bodies that differ only in key order, white space or escapes are the same request.
    `is_large` changes nothing but the cost: more time, and no second copy of the body.
    """
    digest = blake2b(digest_size=16)
    if "stream" in params:
        params = {name: value for name, value in params.items() if name != "stream"}
    for piece in canonical_pieces(params) if is_large else (_CANONICAL.encode(params),):
        digest.update(piece)
    if betas:
        digest.update(b"\0" + ",".join(sorted(betas)).encode())
    return digest.digest()


def canonical_pieces(value: Any) -> Iterator[bytes]:  # noqa: ANN401 - any JSON value
    """What the canonical encoder makes of `value`, a little at a time."""
    return json_pieces(value, sorted)


def json_pieces(
    value: Any,  # noqa: ANN401 - any JSON value
    order: Callable[[Iterable[str]], Iterable[str]] = iter,
) -> Iterator[bytes]:
    """The JSON text of `value`, a little at a time; names come as `order` puts them."""
    if type(value) is dict:
        for number, name in enumerate(order(value)):
            yield (b"," if number else b"{") + _CANONICAL.encode(name) + b":"
            yield from json_pieces(value[name], order)
        yield b"}" if value else b"{}"
    elif type(value) is list:
        for number, item in enumerate(value):
            yield b"," if number else b"["
            yield from json_pieces(item, order)
        yield b"]" if value else b"[]"
    elif type(value) is str and len(value) > _CHUNK:
        chunks = (value[start : start + _CHUNK] for start in range(0, len(value), _CHUNK))
        yield b'"'
        yield from (_CANONICAL.encode(chunk)[1:-1] for chunk in chunks)
        yield b'"'
    else:
        yield _CANONICAL.encode(value)


# The official SDKs refuse more without streaming: an answer of ten minutes and longer, which
# proxies on the way do not wait for.
MAX_TOKENS_WITHOUT_STREAM: Final = 21_333

_BODY: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_TRUE: Final = msgspec.Raw(b"true")


class StreamMode(StrEnum):
    """How an endpoint's answers travel; they are stored alike either way."""

    AUTO = "auto"  # streamed where the request needs it or asks for it
    ALWAYS = "always"
    NEVER = "never"


def needs_stream(params: Mapping[str, Any]) -> bool:
    """Whether a Messages body asks for a stream, or is better off with one.

    Long answers and thinking are silent for minutes otherwise. A pre-warming request
    (`max_tokens: 0`) is never streamed: the API refuses it.
    """
    max_tokens = params.get("max_tokens")
    if max_tokens == 0:
        return False
    if params.get("stream"):
        return True
    if type(max_tokens) is int and max_tokens > MAX_TOKENS_WITHOUT_STREAM:
        return True
    thinking = params.get("thinking")
    return type(thinking) is dict and thinking.get("type") in {"enabled", "adaptive"}


def streaming_body(body: bytes) -> bytes:
    """The same body with `stream: true`; every other field keeps its bytes."""
    if b'"stream"' in body:
        fields = _BODY.decode(body)
        return msgspec.json.encode(fields | {"stream": _TRUE})
    return b'{"stream":true,' + body.lstrip()[1:]


def plain_body(body: bytes) -> bytes:
    """The same body without `stream`; as it is where it has none."""
    if b'"stream"' not in body:
        return body
    fields = _BODY.decode(body)
    return body if fields.pop("stream", None) is None else msgspec.json.encode(fields)


class Purpose(StrEnum):
    """Why an attempt was made."""

    FIRST = "first"
    RETRY = "retry"
    CONTINUATION = "continuation"
    TOOL = "tool"
    TRUNCATION = "truncation"
    INVALID = "invalid"
    PILOT = "pilot"
    FALLBACK = "fallback"


class State(StrEnum):
    """How an attempt stands in the ledger; in doubt are partial, unknown and unusable."""

    OPEN = "open"
    ANSWERED = "answered"
    REJECTED = "rejected"
    NOT_SENT = "not_sent"
    PARTIAL = "partial"
    UNKNOWN = "unknown"
    UNUSABLE = "unusable"
    LATE = "late"


IN_DOUBT = (State.PARTIAL, State.UNKNOWN, State.UNUSABLE)
_COUNTER_BITS: Final = 40


class Attempt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The intent to send: durable in the ledger before its first byte leaves.

    `attempt_id` is unique in the database, `uid` in the world; `request_id` is the attempt_id
    of the request's first attempt. `number` counts the attempts of the request from 1, `leg`
    its legs. `body` is what is sent; on later legs it is not the request's own. `opened_at` is
    microseconds UTC. `cost_high` is the most it can cost in pico-USD, `None` when unbounded.
    `replaces` is the attempt_id of the request's earlier attempt, if any. `asked` is what the
    body makes possible to be billed, `None` for one that is nothing but text. `invocation_id`
    is that of an endpoint that the run falls back to; 0: it is made at the run's own. `cached`
    is what was done about the prompt cache, `None`: nothing was asked, or there is no prefix.
    `lane` is how it left, where that is not how those of the invocation leave that collects it.
    """

    attempt_id: int
    uid: str
    request_id: int
    request: Request
    number: int
    leg: int
    purpose: Purpose
    body: bytes
    opened_at: int
    cost_high: int | None
    replaces: int | None = None
    asked: RequestMeters | None = None
    invocation_id: int = 0
    cached: Placement | None = None
    lane: str = ""


def attempt_id_of(invocation_id: int, counter: int) -> int:
    """Unique in a database, and ascending in an invocation, which counts from 1."""
    return invocation_id << _COUNTER_BITS | counter


def invocation_of(attempt_id: int) -> int:
    """The invocation that an attempt belongs to."""
    return attempt_id >> _COUNTER_BITS


def counted_in(invocation_id: int, attempt_id: int) -> int:
    """The id that the attempt would have in that invocation, which counts together with its."""
    return attempt_id_of(invocation_id, attempt_id & ((1 << _COUNTER_BITS) - 1))


def attempt_ids_of(invocation_id: int) -> range:
    """All ids that the attempts of an invocation can have; for the ends of a search."""
    return range(invocation_id << _COUNTER_BITS, (invocation_id + 1) << _COUNTER_BITS)


class Exchange(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The circumstances of an outcome.

    `sent_at` and `settled_at` are microseconds UTC. `http_status` and `provider_request_id` are
    `None` when no answer line came. `first_token_us` counts from `sent_at`, streams only.
    `reported_cost` is a cost header of the provider, `workspace_id` what it named as the
    workspace that is billed; both verbatim.
    """

    sent_at: int
    settled_at: int
    http_status: int | None = None
    provider_request_id: str | None = None
    first_token_us: int | None = None
    reported_cost: str | None = None
    workspace_id: str | None = None


class Answered(msgspec.Struct, frozen=True, gc=False):
    """A complete Message: billed, exactly."""

    exchange: Exchange
    answer: Answer


class Rejected(msgspec.Struct, frozen=True, gc=False):
    """Refused by the server with a readable error: assumed not billed."""

    exchange: Exchange
    failure: Failure


class NotSent(msgspec.Struct, frozen=True, gc=False):
    """No byte of the request left: not billed."""

    exchange: Exchange
    failure: Failure


class Partial(msgspec.Struct, frozen=True, gc=False):
    """A stream broke after `message_start`: billed for the input and at least what came."""

    exchange: Exchange
    failure: Failure
    answer: Answer


class Unknown(msgspec.Struct, frozen=True, gc=False):
    """The request left and no readable verdict came back: maybe billed."""

    exchange: Exchange
    failure: Failure


class Unusable(msgspec.Struct, frozen=True, gc=False):
    """HTTP 200 with a body that is no Message: probably billed; the bytes are kept."""

    exchange: Exchange
    failure: Failure
    body: bytes


Outcome = Answered | Rejected | NotSent | Partial | Unknown | Unusable


class BatchState(StrEnum):
    """How a batch stands, in the provider's words as far as it has any."""

    CREATING = "creating"  # the intent is durable; nobody knows yet whether it was made
    IN_PROGRESS = "in_progress"
    CANCELING = "canceling"
    ENDED = "ended"  # its results are to be had, and not yet all recorded here
    COLLECTED = "collected"
    NOT_MADE = "not_made"
    FORGOTTEN = "forgotten"  # a person gave it up


BATCHES_OUT: Final = (
    BatchState.CREATING,
    BatchState.IN_PROGRESS,
    BatchState.CANCELING,
    BatchState.ENDED,
)
BATCH_LIFETIME_US: Final = 86_400 * 10**6  # after which a batch has ended, one way or another
BATCH_RESULTS_US: Final = 29 * 86_400 * 10**6  # how long its results can be had


class SeenBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a server says of one, `requests` of them; moments are microseconds UTC."""

    batch_id: str
    state: BatchState
    requests: int
    created_at: int
    expires_at: int
    ended_at: int | None = None
    succeeded: int = 0
    errored: int = 0
    expired: int = 0
    canceled: int = 0


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """An attempt left, or may have left, in the batch of that number; its outcome comes later.

    Whoever gets this leaves the attempt open: it is in the ledger with its batch.
    """

    batch: int
