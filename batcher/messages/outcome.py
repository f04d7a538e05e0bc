"""How an attempt ended: a closed union. A failed attempt is data, never an exception."""

from dataclasses import dataclass

from batcher.messages.answer import Answer
from batcher.messages.failure import Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """The circumstances of an outcome.

    `sent_at` and `settled_at` are microseconds UTC. `http_status` and `provider_request_id` are
    `None` when no answer line came. `first_token_us` counts from `sent_at`, streams only.
    `reported_cost` is a cost header of the provider, verbatim.
    """

    sent_at: int
    settled_at: int
    http_status: int | None = None
    provider_request_id: str | None = None
    first_token_us: int | None = None
    reported_cost: str | None = None


@dataclass(frozen=True, slots=True)
class Answered:
    """A complete Message: billed, exactly."""

    exchange: Exchange
    answer: Answer


@dataclass(frozen=True, slots=True)
class Rejected:
    """Refused by the server with a readable error: assumed not billed."""

    exchange: Exchange
    failure: Failure


@dataclass(frozen=True, slots=True)
class NotSent:
    """No byte of the request left: not billed."""

    exchange: Exchange
    failure: Failure


@dataclass(frozen=True, slots=True)
class Partial:
    """A stream broke after `message_start`: billed for the input and at least what came."""

    exchange: Exchange
    failure: Failure
    answer: Answer


@dataclass(frozen=True, slots=True)
class Unknown:
    """The request left and no readable verdict came back: maybe billed."""

    exchange: Exchange
    failure: Failure


@dataclass(frozen=True, slots=True)
class Unusable:
    """HTTP 200 with a body that is no Message: probably billed; the bytes are kept."""

    exchange: Exchange
    failure: Failure
    body: bytes


Outcome = Answered | Rejected | NotSent | Partial | Unknown | Unusable
