"""The provider's Message Batches: create, look, list, cancel, results.

The results of a batch are kept in a nameless file, found by the name of each request.
"""

import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec

from batcher.clock import Clock, microseconds
from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import STATUS_OF_TYPE, Failure, Verdict, classify
from batcher.messages.request import (
    BATCH_LIFETIME_US,
    Answered,
    Attempt,
    BatchState,
    Exchange,
    Outcome,
    Rejected,
    SeenBatch,
    Unknown,
    Unusable,
)
from batcher.transport.endpoint import Endpoint
from batcher.transport.live.client import HttpClient, Reply
from batcher.transport.live.connections import SendError
from batcher.transport.live.mask import Mask

_PASSING: Final = frozenset({429, 500, 504, 529})  # the request may do better another time
_NOTHING: Final = msgspec.Raw()
_PAGE: Final = "100"
_MOST_PAGES: Final = 100
_LOOK_SECONDS: Final = 60
_READ_BYTES: Final = 2**16  # at a time: most results come in the order of the rows
_OK: Final = 200
_GATEWAY: Final = 500  # from here on nobody knows whether a create was carried out
_OVERLOADED: Final = 529


class CutShort(Exception):  # noqa: N818 - it names what happened
    """The last line is not whole: the results have to be read again."""


class _Named(msgspec.Struct):
    custom_id: str


class _Result(msgspec.Struct):
    type: str = ""
    message: msgspec.Raw = _NOTHING
    error: msgspec.Raw = _NOTHING


class _Line(msgspec.Struct):
    result: _Result


_NAMED: Final = msgspec.json.Decoder(_Named)
_LINE: Final = msgspec.json.Decoder(_Line)


class BatchResults:
    """Takes a download, then gives an outcome for each attempt, in any order.

    The file has no name and is gone with the process. Memory is one small entry a request.
    """

    def __init__(self, folder: Path, mask: Mask) -> None:
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - closed by `close`
        self._mask = mask
        self._places: dict[str, tuple[int, int]] = {}
        self._read, self._read_at = b"", 0  # what was read last, and from where
        self.repeated = 0
        self.unreadable = 0

    def take(self, chunk: bytes) -> None:
        """The next bytes of the download."""
        self._file.write(chunk)

    def index(self) -> None:
        """Find all lines; raises `CutShort` when the last one is not whole."""
        self._file.seek(0)
        offset = 0
        for line in self._file:
            if not line.endswith(b"\n") and not _is_whole(line):
                raise CutShort
            self._note(line, offset)
            offset += len(line)

    def _note(self, line: bytes, offset: int) -> None:
        if not line.strip():
            return
        try:
            name = _NAMED.decode(line).custom_id
        except CODEC_ERRORS:
            self.unreadable += 1
            return
        if name in self._places:
            self.repeated += 1
        else:
            self._places[name] = (offset, len(line))

    @property
    def left(self) -> int:
        """How many lines belong to attempts that nobody asked for so far."""
        return len(self._places)

    def holds(self, uid: str) -> bool:
        """Whether a line bears this name, and nobody asked for it so far."""
        return uid in self._places

    def outcome(self, attempt: Attempt, created_at: int, now_us: int) -> Outcome:
        """What became of an attempt; each is ticked off once, and one that is missing is told.

        `created_at` is the batch's, in microseconds UTC: that is when its requests left.
        """
        exchange = Exchange(sent_at=created_at, settled_at=now_us)
        place = self._places.pop(attempt.uid, None)
        if place is None:
            return Unknown(exchange, _failure("missing_result", "the results do not name it"))
        line = self._mask.data(self._line(*place))
        try:
            result = _LINE.decode(line).result
        except CODEC_ERRORS as exc:
            return Unusable(exchange, _failure("unusable_answer", str(exc)), line)
        return _outcome(result, exchange, now_us)

    def _line(self, offset: int, size: int) -> bytes:
        start = offset - self._read_at
        if not 0 <= start <= len(self._read) - size:
            self._read = os.pread(self._file.fileno(), max(size, _READ_BYTES), offset)
            self._read_at, start = offset, 0
        return self._read[start : start + size]

    def close(self) -> None:
        """Forget the file."""
        self._file.close()


def first_name(line: bytes) -> str | None:
    """The custom_id of a result line; `None` for what is none."""
    try:
        return _NAMED.decode(line).custom_id
    except CODEC_ERRORS:
        return None


def _is_whole(line: bytes) -> bool:
    try:
        msgspec.json.decode(line, type=dict[str, Any])
    except CODEC_ERRORS:
        return False
    return True


def _outcome(result: _Result, exchange: Exchange, now_us: int) -> Outcome:
    match result.type:
        case "succeeded":
            body = bytes(result.message)
            try:
                return Answered(exchange, parse_answer(body))
            except NotAMessage as exc:
                return Unusable(exchange, _failure("unusable_answer", str(exc)), body)
        case "errored":
            return _errored(bytes(result.error), exchange, now_us)
        case "expired":
            return Rejected(exchange, _failure("expired", "the batch ended before its turn"))
        case "canceled":
            return Rejected(exchange, _failure("canceled", "the batch was canceled"))
        case kind:
            said = f"a result of type {kind[:40]!r} is not known"
            return Unusable(exchange, _failure("unusable_answer", said), bytes(result.message))


def _errored(error: bytes, exchange: Exchange, now_us: int) -> Rejected:
    """Unbilled; what is not the request's own fault goes again."""
    found = classify(500, {}, error, now_us, {})
    status = STATUS_OF_TYPE.get(found.error_type, 500)
    if status in _PASSING:
        passing = msgspec.structs.replace(found, verdict=Verdict.RETRY_ROW)
        return Rejected(exchange, passing)
    told = msgspec.structs.replace(exchange, http_status=status)
    return Rejected(told, classify(status, {}, error, now_us, {}))


def _failure(error_type: str, message: str) -> Failure:
    return Failure(verdict=Verdict.RETRY_ROW, error_type=error_type, message=message)


class _Counts(msgspec.Struct):
    processing: int = 0
    succeeded: int = 0
    errored: int = 0
    canceled: int = 0
    expired: int = 0


class _Batch(msgspec.Struct):
    id: str
    processing_status: str
    created_at: str
    request_counts: _Counts
    expires_at: str | None = None
    ended_at: str | None = None


class _Page(msgspec.Struct):
    data: list[_Batch]
    has_more: bool = False
    last_id: str | None = None


class RefusedBatch(msgspec.Struct, frozen=True):
    """A create that the server refused: there is no batch. `status` is HTTP's."""

    status: int
    failure: Failure


class MessageBatches:
    """See the module; nothing is sent while `may_send` says no. Inside one event loop."""

    def __init__(
        self,
        client: HttpClient,
        endpoint: Endpoint,
        clock: Clock,
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._clock = clock
        self._may_send = may_send

    async def create(self, body: bytes, betas: tuple[str, ...]) -> SeenBatch | RefusedBatch:
        """Make a batch; raises `SendError` where nobody knows, or nothing left."""
        if not self._may_send():
            raise SendError("lease_not_renewed", "the run may not be ours any more", left=False)
        seconds = self._endpoint.request_timeout_seconds
        url = self._endpoint.batches_url
        reply = await self._client.ask("POST", url, data=body, betas=betas, seconds=seconds)
        if reply.status == _OK:
            seen = _seen(reply.body)
            if seen is None:
                raise SendError("unusable_answer", "the answer is no batch", left=True)
            return seen
        if reply.status >= _GATEWAY and reply.status != _OVERLOADED:
            message = f"HTTP {reply.status} to the create of a batch"
            raise SendError("create_lost", message, left=True)
        return RefusedBatch(reply.status, self._failure(reply))

    def _failure(self, reply: Reply) -> Failure:
        now, verdicts = self._clock.now_us(), self._endpoint.verdicts
        return classify(reply.status, reply.headers, reply.body, now, verdicts)

    async def look(self, batch_id: str) -> SeenBatch | None:
        """How it stands; `None` when the server does not tell, for whatever reason."""
        return await self._told("GET", self._endpoint.batch_url(batch_id))

    async def cancel(self, batch_id: str) -> SeenBatch | None:
        """Ask for its end; `None` when the server does not tell."""
        return await self._told("POST", self._endpoint.batch_url(batch_id, "/cancel"))

    async def _told(self, method: str, url: str) -> SeenBatch | None:
        with suppress(SendError):
            reply = await self._client.ask(method, url, seconds=_LOOK_SECONDS)
            return _seen(reply.body) if reply.status == _OK else None
        return None

    async def made_since(self, since_us: int) -> list[SeenBatch] | None:
        """Those made at that moment or later; `None` when the server does not tell."""
        found: list[SeenBatch] = []
        query = [("limit", _PAGE)]
        for _ in range(_MOST_PAGES):
            page = await self._page(query)
            if page is None:
                return None
            seen = [each for each in map(_described, page.data) if each is not None]
            if len(seen) < len(page.data):
                return None  # one that cannot be read may be the one that is looked for
            found += [each for each in seen if each.created_at >= since_us]
            older = any(each.created_at < since_us for each in seen)
            if older or not page.has_more:
                return found
            if page.last_id is None:
                return None
            query = [("limit", _PAGE), ("after_id", page.last_id)]
        return None

    async def _page(self, query: list[tuple[str, str]]) -> _Page | None:
        with suppress(SendError, *CODEC_ERRORS):
            url = self._endpoint.batches_url
            reply = await self._client.ask("GET", url, query=query, seconds=_LOOK_SECONDS)
            if reply.status == _OK:
                return msgspec.json.decode(reply.body, type=_Page)
        return None

    async def results(self, batch_id: str, folder: Path) -> BatchResults | None:
        """Its results, kept in `folder`; `None` when they are not to be had whole just now."""
        kept = BatchResults(folder, self._client.mask)
        try:
            url = self._endpoint.batch_url(batch_id, "/results")
            if await self._client.download(url, kept.take) is None:
                kept.index()
                return kept
        except (SendError, CutShort):
            pass
        except BaseException:
            kept.close()
            raise
        kept.close()
        return None

    async def first_custom_id(self, batch_id: str) -> str | None:
        """Whose answer the first line of its results is; `None` when that cannot be told."""
        line = bytearray()
        with suppress(SendError, _Enough):
            url = self._endpoint.batch_url(batch_id, "/results")
            if await self._client.download(url, lambda chunk: _first(line, chunk)) is not None:
                return None
        return first_name(bytes(line.partition(b"\n")[0]))

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


class _Enough(Exception):  # noqa: N818 - it ends a download that is not wanted any further
    pass


def _first(line: bytearray, chunk: bytes) -> None:
    line += chunk
    if b"\n" in chunk:
        raise _Enough


def _seen(body: bytes) -> SeenBatch | None:
    try:
        return _described(msgspec.json.decode(body, type=_Batch))
    except CODEC_ERRORS:
        return None


def _described(batch: _Batch) -> SeenBatch | None:
    counts: Any = batch.request_counts
    try:
        created_at = _moment(batch.created_at)
        return SeenBatch(
            batch_id=batch.id,
            state=BatchState(batch.processing_status),
            requests=sum(getattr(counts, name) for name in counts.__struct_fields__),
            created_at=created_at,
            expires_at=_moment(batch.expires_at or "") or created_at + BATCH_LIFETIME_US,
            ended_at=_moment(batch.ended_at or "") or None,
            succeeded=counts.succeeded,
            errored=counts.errored,
            expired=counts.expired,
            canceled=counts.canceled,
        )
    except ValueError:
        return None


def _moment(text: str) -> int:
    """Microseconds UTC, 0 for an empty text; raises `ValueError`."""
    if not text:
        return 0
    moment = datetime.fromisoformat(text)
    return microseconds(moment if moment.tzinfo else moment.replace(tzinfo=UTC))
