"""One time a request is put on the wire."""

from enum import StrEnum
from typing import Final

import msgspec

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
    `replaces` is the attempt_id of the request's earlier attempt, if any.
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


def attempt_id_of(invocation_id: int, counter: int) -> int:
    """Unique in a database, and ascending in an invocation, which counts from 1."""
    return invocation_id << _COUNTER_BITS | counter


def invocation_of(attempt_id: int) -> int:
    """The invocation that an attempt belongs to."""
    return attempt_id >> _COUNTER_BITS


def attempt_ids_of(invocation_id: int) -> range:
    """All ids that the attempts of an invocation can have; for the ends of a search."""
    return range(invocation_id << _COUNTER_BITS, (invocation_id + 1) << _COUNTER_BITS)
