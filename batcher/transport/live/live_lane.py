"""The live lane: one POST for each attempt, its answer whole or as a stream."""

from codecs import BOM_UTF8
from collections.abc import Callable, Mapping
from typing import Final

from msgspec.structs import replace

from batcher.clock import Clock
from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.failure import (
    STATUS_OF_TYPE,
    Failure,
    Verdict,
    classify,
    has_readable_error,
)
from batcher.messages.request import (
    Answered,
    Attempt,
    Exchange,
    NotSent,
    Outcome,
    Partial,
    Rejected,
    StreamMode,
    Unknown,
    Unusable,
    plain_body,
    streaming_body,
)
from batcher.messages.stream import MessageStream
from batcher.transport.endpoint import Endpoint
from batcher.transport.live.bodies import StreamEnd
from batcher.transport.live.client import HttpClient, Reply
from batcher.transport.live.connections import SendError
from batcher.transport.room import HeldRoom

# Where servers put what they charged, if they say it at all.
_COST_HEADER: Final = "x-litellm-response-cost"
# Whose bill it goes on, for reconciling.
_WORKSPACE_HEADER: Final = "anthropic-workspace-id"
_PIECE_BYTES: Final = 2**18
_REQUEST_ID_HEADER: Final = "request-id"
_OTHER_REQUEST_ID_HEADER: Final = "x-request-id"
_HEADER_LENGTH: Final = 2_000  # of what is looked for keys in; 200 of it are recorded


Hear = Callable[[str, int, Mapping[str, str], float], None]


class LiveLane:
    """See `Lane`.

    `hear` is told model, status and headers of an answer once they are there, and the moment
    in seconds of the monotonic clock.
    """

    def __init__(
        self, client: HttpClient, endpoint: Endpoint, clock: Clock, hear: Hear | None = None
    ) -> None:
        self._hear = hear or _unheard
        self._client = client
        self._mask = client.mask
        self._endpoint = endpoint
        self._clock = clock

    async def send(self, attempt: Attempt) -> Outcome:
        """See `Lane.send`."""
        request, mode = attempt.request, self._endpoint.stream
        if mode is not StreamMode.NEVER and (
            request.streams or (mode is StreamMode.ALWAYS and request.max_tokens != 0)
        ):
            return await self._send_for_stream(attempt)
        body = attempt.body if mode is StreamMode.AUTO else plain_body(attempt.body)
        sent_at = self._clock.now_us()
        try:
            reply = await self._client.post_message(body, attempt.uid, request.betas)
        except SendError as exc:
            exchange = Exchange(sent_at=sent_at, settled_at=self._clock.now_us())
            return _not_answered(exc, exchange)
        self._hear(request.model, reply.status, reply.headers, self._clock.monotonic())
        exchange = self._exchange(sent_at, reply)
        if reply.status == 200:
            outcome = self._answered(reply, exchange)
            if reply.held is not None:
                _hold(reply.held, attempt, outcome)
            return outcome
        if reply.held is not None:
            reply.held.close()
        if await self._client.has_another_key(reply.status, sent_at):
            return _to_repeat(exchange)
        return self._refused(reply.status, reply, exchange)

    def drain(self) -> None:
        """See `Lane.drain`: nothing waits here."""

    async def close(self) -> None:
        """See `Lane.close`."""
        await self._client.close()

    async def _send_for_stream(self, attempt: Attempt) -> Outcome:
        sent_at = self._clock.now_us()
        taker = _Taker(self._clock, sent_at)

        def begun(status: int, headers: Mapping[str, str]) -> None:
            self._hear(attempt.request.model, status, headers, self._clock.monotonic())

        try:
            end = await self._client.stream_message(
                streaming_body(attempt.body),
                attempt.uid,
                attempt.request.betas,
                taker,
                begun,
            )
        except SendError as exc:
            exchange = Exchange(sent_at=sent_at, settled_at=self._clock.now_us())
            return _not_answered(exc, exchange)
        outcome = self._outcome_of_stream(taker, end, sent_at)
        if end.held is not None:
            _hold(end.held, attempt, outcome)
        if await self._client.has_another_key(end.status, sent_at):
            return _to_repeat(outcome.exchange)
        return outcome

    def _outcome_of_stream(self, taker: "_Taker", end: StreamEnd, sent_at: int) -> Outcome:
        taker.stream.finish()
        reply = Reply(end.status, end.headers, self._mask.data(bytes(taker.stream.raw)))
        exchange = self._exchange(sent_at, reply, taker.first_token_us)
        if reply.status != 200:
            return self._refused(reply.status, reply, exchange)
        if taker.stream.has_begun:
            return self._streamed(taker.stream, end, exchange)
        return self._not_begun(taker.stream, end, reply, exchange)

    def _streamed(
        self, stream: MessageStream, end: StreamEnd, exchange: Exchange
    ) -> Answered | Partial | Unusable:
        """What became of a message that had begun."""
        body = b""
        try:
            body = self._mask.data(stream.message())
            answer = stream.answer(body)
        except NotAMessage as exc:
            return _unusable(exc, body, exchange)
        if stream.is_complete:
            return Answered(exchange, answer)
        return Partial(exchange, self._break(stream, end, exchange), answer)

    def _not_begun(
        self, stream: MessageStream, end: StreamEnd, reply: Reply, exchange: Exchange
    ) -> Outcome:
        """An answer without a message: an error, a broken line, or no stream at all."""
        if stream.error is not None:
            return self._disguised(self._error_of(stream.error, reply.headers), exchange)
        if end.broken_by is not None:
            return _not_answered(end.broken_by, exchange)
        return self._answered(reply, exchange)

    def _break(self, stream: MessageStream, end: StreamEnd, exchange: Exchange) -> Failure:
        if stream.error is not None:
            error = self._error_of(stream.error, end.headers)
            return self._classified(error, exchange)[1]
        if end.broken_by is not None:
            return _lost(end.broken_by)
        message = stream.violation or "the stream ended before the message did"
        return Failure(verdict=Verdict.RETRY_ROW, error_type="broken_stream", message=message)

    def _error_of(self, error: bytes, headers: Mapping[str, str]) -> Reply:
        return Reply(200, headers, self._mask.data(error))

    def _exchange(
        self, sent_at: int, reply: Reply, first_token_us: int | None = None
    ) -> Exchange:
        said = reply.headers.get  # as they came, with whatever they repeat
        request_id = said(_REQUEST_ID_HEADER) or said(_OTHER_REQUEST_ID_HEADER)
        cost, workspace = said(_COST_HEADER), said(_WORKSPACE_HEADER)
        return Exchange(
            sent_at=sent_at,
            settled_at=self._clock.now_us(),
            http_status=reply.status,
            provider_request_id=self._shown(request_id) if request_id else None,
            first_token_us=first_token_us,
            reported_cost=self._shown(cost) if cost else None,
            workspace_id=self._shown(workspace) if workspace else None,
        )

    def _shown(self, value: str) -> str:
        """The value of a header as it is recorded."""
        return _storable(self._mask.text(value[:_HEADER_LENGTH]))

    def _answered(self, reply: Reply, exchange: Exchange) -> Outcome:
        try:
            return Answered(exchange, parse_answer(reply.body.removeprefix(BOM_UTF8)))
        except NotAMessage as exc:
            if has_readable_error(reply.body):  # an error in disguise
                return self._disguised(reply, exchange)
            return self._folded(reply, exchange) or _unusable(exc, reply.body, exchange)

    def _folded(self, reply: Reply, exchange: Exchange) -> Outcome | None:
        """What a stream says that a gateway sent although nobody asked for one."""
        stream = MessageStream()
        for start in range(0, len(reply.body), _PIECE_BYTES):
            stream.feed(reply.body[start : start + _PIECE_BYTES])
        stream.finish()
        if stream.error is not None and not stream.has_begun:
            return self._disguised(self._error_of(stream.error, reply.headers), exchange)
        end = StreamEnd(reply.status, reply.headers, None)
        return self._streamed(stream, end, exchange) if stream.has_begun else None

    def _disguised(self, reply: Reply, exchange: Exchange) -> Outcome:
        status, _ = self._classified(reply, exchange)
        return self._refused(status, reply, exchange)

    def _classified(self, reply: Reply, exchange: Exchange) -> tuple[int, Failure]:
        """The status that an error inside a 200 stands for, and what it means."""
        first = classify(500, reply.headers, reply.body, exchange.settled_at, {})
        status = STATUS_OF_TYPE.get(first.error_type, 500)
        return status, self._meaning(status, reply, exchange)

    def _meaning(self, status: int, reply: Reply, exchange: Exchange) -> Failure:
        found = classify(
            status, reply.headers, reply.body, exchange.settled_at, self._endpoint.verdicts
        )
        hidden = self._mask.text
        return replace(
            found,
            error_type=hidden(found.error_type),
            message=hidden(found.message),
            error_code=hidden(found.error_code) if found.error_code else None,
        )

    def _refused(self, status: int, reply: Reply, exchange: Exchange) -> Outcome:
        failure = self._meaning(status, reply, exchange)
        if 200 <= status < 300:
            return Unusable(exchange, failure, reply.body)
        if 500 <= status != 529 and not has_readable_error(reply.body):
            return Unknown(exchange, failure)
        return Rejected(exchange, failure)


class _Taker:
    """Takes a stream, and notes when its content began: `first_token_us` after sending."""

    def __init__(self, clock: Clock, sent_at: int) -> None:
        self.stream = MessageStream()
        self.first_token_us: int | None = None
        self._clock = clock
        self._sent_at = sent_at

    @property
    def kept_bytes(self) -> int:
        """How much of it is in memory."""
        return self.stream.kept_bytes

    def take(self, chunk: bytes) -> bool:
        """Take the next bytes; gives whether there is more to come."""
        self.stream.feed(chunk)
        if self.first_token_us is None and self.stream.has_content:
            self.first_token_us = max(self._clock.now_us() - self._sent_at, 0)
        return not self.stream.is_over


def _hold(held: HeldRoom, attempt: Attempt, outcome: Outcome) -> None:
    """Answers take room until they are recorded; of a refusal only a sentence is left."""
    if isinstance(outcome, (Answered, Partial, Unusable)):
        held.keep(attempt.attempt_id)
    else:
        held.close()


def _unheard(model: str, status: int, headers: Mapping[str, str], now: float) -> None:
    """For a lane that nobody listens to."""


def _unusable(exc: NotAMessage, body: bytes, exchange: Exchange) -> Unusable:
    failure = Failure(verdict=Verdict.RETRY_ROW, error_type="unusable_answer", message=str(exc))
    return Unusable(exchange, failure, body)


def _not_answered(exc: SendError, exchange: Exchange) -> Outcome:
    return Unknown(exchange, _lost(exc)) if exc.left else NotSent(exchange, _lost(exc))


def _to_repeat(exchange: Exchange) -> Rejected:
    """Refused for a key that is not in force any more: the row goes again with the new one."""
    failure = Failure(
        verdict=Verdict.RETRY_ROW,
        error_type="key_replaced",
        message="the key was replaced while this request was under way",
    )
    return Rejected(exchange, failure)


def _lost(exc: SendError) -> Failure:
    message = _storable(exc.message) or exc.error_type
    return Failure(verdict=exc.verdict, error_type=exc.error_type, message=message)


def _storable(value: str) -> str:
    """Text that every database takes: a header may hold any bytes."""
    return value[:200].replace("\0", "\ufffd").encode("utf-8", "replace").decode()
