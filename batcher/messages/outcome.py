"""How an attempt ended: a closed union. A failed attempt is data, never an exception."""

import msgspec

from batcher.messages.answer import Answer
from batcher.messages.failure import Failure


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
