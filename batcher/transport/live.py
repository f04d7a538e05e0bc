"""The live lane: one POST for each attempt."""

from typing import Final

from batcher.clock import Clock
from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.attempt import Attempt
from batcher.messages.failure import (
    STATUS_OF_TYPE,
    Failure,
    Verdict,
    classify,
    has_readable_error,
)
from batcher.messages.outcome import (
    Answered,
    Exchange,
    NotSent,
    Outcome,
    Rejected,
    Unknown,
    Unusable,
)
from batcher.transport.client import HttpClient, Reply, SendError
from batcher.transport.endpoint import Endpoint

# Where servers put what they charged, if they say it at all (messages-api, 9.3).
_COST_HEADER: Final = "x-litellm-response-cost"
_REQUEST_ID_HEADERS: Final = ("request-id", "x-request-id")


class LiveLane:
    """See `Lane`."""

    def __init__(self, client: HttpClient, endpoint: Endpoint, clock: Clock) -> None:
        self._client = client
        self._endpoint = endpoint
        self._clock = clock

    async def send(self, attempt: Attempt) -> Outcome:
        """See `Lane.send`."""
        sent_at = self._clock.now_us()
        try:
            reply = await self._client.post_message(
                attempt.body, attempt.uid, attempt.request.betas
            )
        except SendError as exc:
            exchange = Exchange(sent_at=sent_at, settled_at=self._clock.now_us())
            return _not_answered(exc, exchange)
        exchange = Exchange(
            sent_at=sent_at,
            settled_at=self._clock.now_us(),
            http_status=reply.status,
            provider_request_id=_provider_request_id(reply),
            reported_cost=_storable(reply.headers.get(_COST_HEADER)),
        )
        if reply.status == 200:
            return self._answered(reply, exchange)
        return self._refused(reply.status, reply, exchange)

    async def close(self) -> None:
        """See `Lane.close`."""
        await self._client.close()

    def _answered(self, reply: Reply, exchange: Exchange) -> Outcome:
        try:
            return Answered(exchange, parse_answer(reply.body))
        except NotAMessage as exc:
            if has_readable_error(reply.body):  # an error in disguise (messages-api, 5.4)
                return self._disguised(reply, exchange)
            failure = Failure(
                verdict=Verdict.RETRY_ROW, error_type="unusable_answer", message=str(exc)
            )
            return Unusable(exchange, failure, reply.body)

    def _disguised(self, reply: Reply, exchange: Exchange) -> Outcome:
        first = classify(500, reply.headers, reply.body, exchange.settled_at, {})
        status = STATUS_OF_TYPE.get(first.error_type, 500)
        return self._refused(status, reply, exchange)

    def _refused(self, status: int, reply: Reply, exchange: Exchange) -> Outcome:
        failure = classify(
            status, reply.headers, reply.body, exchange.settled_at, self._endpoint.verdicts
        )
        if 200 <= status < 300:
            return Unusable(exchange, failure, reply.body)
        if 500 <= status != 529 and not has_readable_error(reply.body):
            return Unknown(exchange, failure)
        return Rejected(exchange, failure)


def _not_answered(exc: SendError, exchange: Exchange) -> Outcome:
    message = _storable(exc.message) or exc.error_type
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type=exc.error_type, message=message)
    return Unknown(exchange, failure) if exc.left else NotSent(exchange, failure)


def _provider_request_id(reply: Reply) -> str | None:
    for name in _REQUEST_ID_HEADERS:
        value = reply.headers.get(name)
        if value:
            return _storable(value)
    return None


def _storable(value: str | None) -> str | None:
    """Text that every database takes: a header may hold any bytes."""
    if value is None:
        return None
    return value[:200].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
