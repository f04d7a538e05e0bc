"""One time a request is put on the wire, and how that ended.

The outcomes are a closed union: a failed attempt is data, never an exception.
"""

from enum import StrEnum
from typing import Final

import msgspec

from batcher.messages.answer import Answer
from batcher.messages.evidence import RequestMeters
from batcher.messages.failure import Failure
from batcher.messages.prefix import Placement
from batcher.messages.request import Request


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
