"""The results of one batch: kept in a nameless file, found by the name of each request."""

import tempfile
from pathlib import Path
from typing import Any, Final

import msgspec

from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.failure import STATUS_OF_TYPE, Failure, Verdict, classify
from batcher.messages.request import (
    Answered,
    Attempt,
    Exchange,
    Outcome,
    Rejected,
    Unknown,
    Unusable,
)
from batcher.transport.live.mask import Mask

_PASSING: Final = frozenset({429, 500, 504, 529})  # the request may do better another time
_NOTHING: Final = msgspec.Raw()


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
        self._file.seek(place[0])
        line = self._mask.data(self._file.read(place[1]))
        try:
            result = _LINE.decode(line).result
        except CODEC_ERRORS as exc:
            return Unusable(exchange, _failure("unusable_answer", str(exc)), line)
        return _outcome(result, exchange, now_us)

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
