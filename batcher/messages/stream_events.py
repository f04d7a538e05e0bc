"""What a stream is made of: server-sent events, and the content blocks that they add to.

Events are read from bytes, whatever way a network cuts them.
"""

import json
import re
from typing import Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS

LINE_LIMIT: Final = 8 * 2**20  # bytes of one line, and of one event's data
_LINE_COST: Final = 49  # bytes that each line of an event takes besides its own
STREAM_LIMIT: Final = 128 * 2**20  # bytes of one stream; 300,000 tokens need about 50 MB

_BLANK_LINE: Final = b"\n\n"
_USUAL_BYTES: Final = 2**20
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


class StreamTooLong(ValueError):  # noqa: N818 - it is what the stream is
    """A line or the whole stream is longer than any answer; the text says which."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """One event: its name (empty when the server gave none) and its data lines, joined."""

    name: str
    data: bytes


class EventParser:
    """Takes a stream apart; lines may end in CR LF, LF or CR, comments are skipped.

    Events without data are no events. Nothing is decoded but the name: line ends are never
    part of a UTF-8 character, so a character cut in two comes out whole.
    """

    def __init__(self) -> None:
        self._rest = bytearray()  # of a line whose end has not come yet
        self._name = ""
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._total_bytes = 0
        self._after_cr = False
        self._is_first_line = True

    @property
    def held_bytes(self) -> int:
        """How much of it waits for the rest of its event."""
        return len(self._rest) + self._data_bytes

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that `chunk` completes; raises `StreamTooLong` beyond the limits."""
        self._total_bytes += len(chunk)
        if self._total_bytes > STREAM_LIMIT:
            raise StreamTooLong(f"the stream is longer than {STREAM_LIMIT // 2**20} MiB")
        is_usual = len(chunk) <= _USUAL_BYTES and b"\r" not in chunk
        events = self._usual(chunk) if is_usual else self._any(chunk)
        if len(self._rest) > LINE_LIMIT:
            raise StreamTooLong(f"a line is longer than {LINE_LIMIT // 2**20} MiB")
        return events

    def finish(self) -> list[Event]:
        """The stream has ended: an event without its blank line is one all the same."""
        lines = [bytes(self._rest), b""] if self._rest else [b""]
        self._rest.clear()
        return [event for line in lines if (event := self._take(line))]

    def _any(self, chunk: bytes) -> list[Event]:
        return [event for line in self._lines(chunk) if (event := self._take(line))]

    def _usual(self, chunk: bytes) -> list[Event]:
        """As `_any`: most events are a line with a name and one with data, and come whole."""
        events: list[Event] = []
        if self._rest or self._data or self._name or self._after_cr or self._is_first_line:
            begun, found, chunk = chunk.partition(_BLANK_LINE)
            events = self._any(begun + found)
        *whole, rest = chunk.split(_BLANK_LINE)
        for event in whole:
            name, found, data = event.partition(b"\ndata: ")
            if data and name.startswith(b"event: ") and b"\n" not in name + data:
                events.append(Event(name[7:].decode("utf-8", "replace"), data))
            elif event:
                events += self._any(event + _BLANK_LINE)
        return events + self._any(rest) if rest else events

    def _lines(self, chunk: bytes) -> list[bytes]:
        if self._after_cr and chunk:  # the CR ended its line; this LF belongs to it
            self._after_cr = False
            chunk = chunk.removeprefix(b"\n")
        if b"\r" in chunk:
            self._after_cr = chunk.endswith(b"\r")
            chunk = chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        first, *others = chunk.split(b"\n")
        self._rest += first
        if not others:
            return []
        lines = [bytes(self._rest), *others[:-1]]
        self._rest = bytearray(others[-1])
        return lines

    def _take(self, line: bytes) -> Event | None:
        """Note what a line says; a blank one gives the event that it completes."""
        if self._is_first_line:
            self._is_first_line = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            return self._event()
        field, _, value = line.partition(b":")
        if field == b"data":
            self._data.append(value.removeprefix(b" "))
            self._data_bytes += len(value) + _LINE_COST
            if self._data_bytes > LINE_LIMIT:
                raise StreamTooLong(f"an event is longer than {LINE_LIMIT // 2**20} MiB")
        elif field == b"event":
            self._name = value.removeprefix(b" ").decode("utf-8", "replace")
        return None

    def _event(self) -> Event | None:
        name, data = self._name, b"\n".join(self._data)
        self._name = ""
        self._data.clear()
        self._data_bytes = 0
        return Event(name, data) if data else None


Fields = dict[str, msgspec.Raw]

_TEXT: Final = msgspec.json.Decoder(str)
_LIST: Final = msgspec.json.Decoder(list[msgspec.Raw])
_ANYTHING: Final = msgspec.json.Decoder(msgspec.Raw)  # checks, and makes nothing of it
_ABSENT: Final = msgspec.Raw()
_ESCAPED_HALF: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HALF: Final = re.compile("[\ud800-\udfff]")


class _Text(msgspec.Struct, tag_field="type", tag="text_delta", gc=False):
    text: str


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking_delta", gc=False):
    thinking: str


class _Input(msgspec.Struct, tag_field="type", tag="input_json_delta", gc=False):
    partial_json: str


class UsualDelta(msgspec.Struct, tag_field="type", tag="content_block_delta", gc=False):
    """An event that adds to a block, as nearly all do; see `StreamedBlock.add`."""

    index: int
    delta: _Text | _Thinking | _Input


class StreamedBlock:
    """A block under construction. Raises `CODEC_ERRORS` for deltas of a wrong shape."""

    def __init__(self, fields: Fields) -> None:
        self._fields = fields
        # Each in one buffer: a list of what deltas bring takes ten times their bytes.
        self._texts: dict[str, bytearray] = {}
        self._json = bytearray()
        self._citations = bytearray()

    def add(self, delta: _Text | _Thinking | _Input) -> int:
        """What `apply` does, for a delta that was read already."""
        if isinstance(delta, _Text):
            return self._append("text", delta.text)
        if isinstance(delta, _Thinking):
            return self._append("thinking", delta.thinking)
        return self._append_json(delta.partial_json)

    def apply(self, delta: Fields) -> int:
        """Add what a delta brings; unknown ones are ignored. Gives how many bytes are kept."""
        match _string(delta.get("type", _ABSENT)):
            case "text_delta" | "thinking_delta" as kind:
                name = kind.removesuffix("_delta")
                return self._append(name, _string(delta.get(name, _ABSENT)))
            case "input_json_delta":
                return self._append_json(_string(delta.get("partial_json", _ABSENT)))
            case "citations_delta" if "citation" in delta:
                self._citations += b"," + bytes(delta["citation"])
                return len(delta["citation"]) + 1
            case "signature_delta":
                return self._replace(delta, "signature")
            case "compaction_delta":
                return self._replace(delta, "content", "encrypted_content")
            case _:
                return 0

    def fields(self) -> Fields:
        """The block as far as it came."""
        fields = dict(self._fields)
        for name, piece in self._texts.items():
            fields[name] = raw_json(_string(fields.get(name, _ABSENT)) + _as_text(piece))
        if self._citations:
            earlier = b",".join(map(bytes, self._earlier_citations()))
            whole = earlier + self._citations if earlier else self._citations[1:]
            fields["citations"] = msgspec.Raw(b"[" + whole + b"]")
        if text := _as_text(self._json).strip():
            fields["input"] = _input(text)
        return fields

    def fallback_model(self) -> msgspec.Raw | None:
        """The model that goes on, where this block says that another one does."""
        if _string(self._fields.get("type", _ABSENT)) != "fallback":
            return None
        return msgspec.json.decode(self._fields.get("to", msgspec.Raw(b"{}")), type=Fields).get(
            "model"
        )

    def _append(self, name: str, text: str) -> int:
        piece = text.encode("utf-8", "surrogatepass")  # half a pair may wait for its other half
        buffer = self._texts.get(name)
        if buffer is None:
            self._texts[name] = bytearray(piece)
        else:
            buffer += piece
        return len(piece)

    def _append_json(self, text: str) -> int:
        piece = text.encode("utf-8", "surrogatepass")
        self._json += piece
        return len(piece)

    def _replace(self, delta: Fields, *names: str) -> int:
        """Copies, since a part would keep the whole event that it came in."""
        changed = {name: msgspec.Raw(bytes(delta[name])) for name in names if name in delta}
        self._fields |= changed
        return sum(map(len, changed.values()))

    def _earlier_citations(self) -> list[msgspec.Raw]:
        earlier = bytes(self._fields.get("citations", b"null"))
        return [] if earlier == b"null" else _LIST.decode(earlier)


def _as_text(buffer: bytearray) -> str:
    return buffer.decode("utf-8", "surrogatepass")


def _input(text: str) -> msgspec.Raw:
    """A tool's input; where it broke off or is no JSON, its text as a string says so."""
    if _HALF.search(text):
        text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    try:
        _ANYTHING.decode(text)
    except CODEC_ERRORS:
        return raw_json(text)
    return msgspec.Raw(text.encode())


def _string(raw: msgspec.Raw) -> str:
    value = bytes(raw)
    if value in {b"", b"null"}:
        return ""
    try:
        return _TEXT.decode(value)
    except CODEC_ERRORS:
        text = with_halves(value)
        if not isinstance(text, str):
            raise
        return text


def with_halves(value: bytes) -> object:
    """JSON with half a surrogate pair: servers may cut an emoji between two deltas.

    The other half is in the next delta; where it is not, `parse_answer` mends what is left.
    `None`: that is not what is wrong with it.
    """
    try:
        return json.loads(value) if _ESCAPED_HALF.search(value) else None
    except (ValueError, RecursionError):
        return None


def raw_json(value: object) -> msgspec.Raw:
    """The value as JSON text; halves of pairs become escapes, two in a row one character."""
    try:
        return msgspec.Raw(msgspec.json.encode(value))
    except CODEC_ERRORS:
        return msgspec.Raw(json.dumps(value).encode())  # halves as escapes, pairs in a row
