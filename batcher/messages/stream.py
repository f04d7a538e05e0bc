"""A streamed answer, put together to the Message that would have come whole.

What servers do: docs/development/messages-api.md#streams. Fields keep the bytes in which they
came.
"""

from contextlib import suppress
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from batcher.messages.answer import Answer, Evidence, NotAMessage, parse_answer
from batcher.messages.codec import (
    ANSWER_LIMIT,
    CODEC_ERRORS,
    MOST_BLOCKS,
    MOST_PARTS_OF_EVENT,
    has_more_parts,
)
from batcher.messages.stream_events import (
    Event,
    EventParser,
    StreamedBlock,
    StreamTooLong,
    UsualDelta,
    raw_json,
    with_halves,
)

_ABSENT: Final = msgspec.Raw()
_NULL: Final = msgspec.Raw(b"null")
_NOTHING: Final = (b"", b"null")

# What a message is made of; an event without any type may be one of them.
_NEEDED: Final = (
    "",
    "message_start",
    "content_block_start",
    "content_block_delta",
    "message_delta",
    "message_stop",
)

Fields = dict[str, msgspec.Raw]

_DEFAULTS: Final[Fields] = {"type": msgspec.Raw(b'"message"'), "content": msgspec.Raw(b"[]")}


_TOO_LONG: Final = f"the answer is longer than {ANSWER_LIMIT // 2**20} MiB"
_LARGE_EVENT: Final = 2**16
_BLOCK_BYTES: Final = 2**10  # what a block takes beside its text


class _EventFields(msgspec.Struct):
    """The fields of every event; which of them are there depends on its type."""

    type: str | None = None
    index: int | None = None
    message: Fields | None = None
    content_block: Fields | None = None
    delta: Fields | None = None
    usage: msgspec.Raw = _ABSENT
    error: msgspec.Raw = _ABSENT


_WIRE: Final = msgspec.json.Decoder(_EventFields)
_USUAL: Final = msgspec.json.Decoder(UsualDelta)
_FIELDS: Final = msgspec.json.Decoder(Fields)


class MessageStream:
    """Takes the bytes of an answer as they come, and tells how far it got.

    An answer that is no stream at all (plain JSON, a page of a proxy) is kept in `raw`, and so
    is everything that comes before the message begins. `error` is the data of an error event.
    `violation` says in words how the server broke the protocol. Events and deltas of unknown
    types are ignored.
    """

    def __init__(self) -> None:
        self.raw = bytearray()
        self.error: bytes | None = None
        self.violation: str | None = None
        self.has_content = False  # the first delta of a block came
        self._parser = EventParser()
        self._is_plain: bool | None = None  # None: too early to say
        self._message: Fields | None = None
        self._usage: Fields = {}
        self._fell: dict[str, tuple[int, int]] = {}
        self._counts_output = False
        self._blocks: list[tuple[int, StreamedBlock]] = []
        self._by_index: dict[int, StreamedBlock] = {}
        self._kept_bytes = 0
        self._has_reason = False
        self._has_stopped = False

    @property
    def has_begun(self) -> bool:
        """Whether the message has begun: from here on it costs money."""
        return self._message is not None

    @property
    def kept_bytes(self) -> int:
        """How much of it is in memory, at least."""
        return len(self.raw) + self._parser.held_bytes + self._kept_bytes

    @property
    def is_complete(self) -> bool:
        """Whether the whole message came: its end, or at least its stop reason."""
        return self._has_stopped or self._has_reason

    @property
    def is_over(self) -> bool:
        """Whether nothing that still comes can matter."""
        return self._has_stopped or self.error is not None or self.violation is not None

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes; never raises for what they hold."""
        if self._message is None:
            self.raw += chunk
            if not self._may_be_events():
                return
        if self.is_over:
            return
        try:
            events = self._parser.feed(chunk)
        except StreamTooLong as exc:
            self.violation = str(exc)
            return
        self._take_all(events)

    def finish(self) -> None:
        """No more bytes come."""
        if not self._is_plain and not self.is_over:
            with suppress(StreamTooLong):
                self._take_all(self._parser.finish())
            self.violation = None  # an event that was cut is a break, and no violation

    def message(self) -> bytes:
        """The JSON text of the message as far as it came; `is_complete` tells whether it is.

        Raises `NotAMessage` when it has not begun, or its parts do not fit together.
        """
        if self._message is None:
            raise NotAMessage("the stream ended before a message began")
        in_order = sorted(self._blocks, key=lambda placed: placed[0])
        fields = {**_DEFAULTS, **self._message}
        try:
            content = msgspec.json.encode([block.fields() for _, block in in_order])
        except CODEC_ERRORS as exc:
            raise NotAMessage(f"a content block cannot be read: {exc}"[:300]) from exc
        if in_order:
            fields["content"] = msgspec.Raw(content)
        if self._usage:
            fields["usage"] = msgspec.Raw(msgspec.json.encode(self._final_usage()))
        return msgspec.json.encode(fields)

    def answer(self, body: bytes) -> Answer:
        """The answer in `body`, which is `message()`, with what only the stream told of it.

        Raises `NotAMessage` like `parse_answer`.
        """
        found = parse_answer(body)
        if not self._fell:
            return found
        fell = tuple((name, least, most) for name, (least, most) in sorted(self._fell.items()))
        return replace(found, evidence=Evidence(fell=fell))

    def _may_be_events(self) -> bool:
        if self._is_plain is None:
            start = bytes(self.raw.lstrip()[:1])
            self._is_plain = start in {b"{", b"[", b"<"} if start else None
        if len(self.raw) > ANSWER_LIMIT:
            self.violation = _TOO_LONG
        return not self._is_plain

    def _take_all(self, events: list[Event]) -> None:
        for event in events:
            try:
                if event.name == "content_block_delta" and self._take_usual(event.data):
                    continue
                self._take(event)
            except CODEC_ERRORS as exc:
                self._cannot_read(event, exc)
            if self.is_over:
                return

    def _take_usual(self, data: bytes) -> bool:
        """Add a delta to a block that has begun; `False` for whatever is anything else."""
        try:
            event = _USUAL.decode(data)
            data.decode()  # what is passed over may be broken
        except CODEC_ERRORS:
            return False
        block = self._by_index.get(event.index)
        if block is None or len(data) > _LARGE_EVENT:
            return False
        self.has_content = True
        self._kept_bytes += block.add(event.delta)
        return self._kept_bytes <= ANSWER_LIMIT

    def _cannot_read(self, event: Event, exc: Exception) -> None:
        kind = _kind(event)
        if kind == "error":
            self.error = event.data
        elif kind in _NEEDED and event.data.strip() != b"[DONE]":
            self.violation = f"event {kind!r} of the stream cannot be read: {exc}"[:300]

    def _take(self, event: Event) -> None:
        if len(event.data) > _LARGE_EVENT and has_more_parts(event.data, MOST_PARTS_OF_EVENT):
            self.violation = f"an event holds more than {MOST_PARTS_OF_EVENT:,} values"
            return
        event.data.decode()  # raw parts skip the decoder's own UTF-8 check
        wire = _decoded(event.data)
        match wire.type or event.name:
            case "message_start" if self._message is None:
                self._begin(wire.message)
            case "error":
                self.error = event.data
            case "":
                self.error = event.data if _is_given(wire.error) else None
            case kind if self._message is not None:
                self._kept_bytes += self._go_on(kind, wire, self._message, len(event.data))
                if self._kept_bytes > ANSWER_LIMIT:
                    self.violation = _TOO_LONG
            case _:
                pass  # a ping, or something new

    def _begin(self, message: Fields | None) -> None:
        if message is None:
            self.violation = "message_start holds no message"
            return
        usage = message.pop("usage", _ABSENT)
        if _is_given(usage):
            self._usage = _FIELDS.decode(usage)
        elif bytes(usage):
            message["usage"] = usage  # null, as it came
        self._counts_output = _is_given(message.get("stop_reason"))
        self._message = message
        self._kept_bytes = len(self.raw)  # no less than the event that they came in
        self.raw.clear()

    def _go_on(self, kind: str, wire: _EventFields, message: Fields, size: int) -> int:
        """Take one event of a message that has begun; how much of its `size` is kept."""
        match kind:
            case "content_block_start" if wire.content_block is not None:
                self._open(wire.index, StreamedBlock(wire.content_block), message)
                return size + _BLOCK_BYTES
            case "content_block_delta" if wire.delta is not None:
                block = self._block_for(wire)
                self.has_content = True
                return block.apply(wire.delta)
            case "message_delta":
                self._end(wire, message)
                return size
            case "message_stop":
                self._has_stopped = True
            case _:
                pass
        return 0

    def _open(self, index: int | None, block: StreamedBlock, message: Fields) -> None:
        place = len(self._blocks) if index is None else index
        self._add(place, block)
        model = block.fallback_model()
        if model is not None:
            message["model"] = model

    def _block_for(self, wire: _EventFields) -> StreamedBlock:
        """The block a delta is for; one whose beginning was lost is text."""
        index = self._blocks[-1][0] if wire.index is None and self._blocks else wire.index or 0
        if index not in self._by_index:
            block = StreamedBlock({"type": msgspec.Raw(b'"text"'), "text": msgspec.Raw(b'""')})
            self._add(index, block)
        return self._by_index[index]

    def _add(self, place: int, block: StreamedBlock) -> None:
        self._blocks.append((place, block))
        self._by_index[place] = block
        if len(self._blocks) > MOST_BLOCKS:
            self.violation = f"the answer has more than {MOST_BLOCKS:,} content blocks"

    def _end(self, wire: _EventFields, message: Fields) -> None:
        """Numbers are cumulative: what is given replaces, what is missing or null does not."""
        if _is_given(wire.usage):
            given = {n: v for n, v in _FIELDS.decode(wire.usage).items() if _is_given(v)}
            self._note_falls(given)
            self._counts_output |= not given.keys().isdisjoint(_OUTPUT_NAMES)
            self._usage |= given
        for name in ("stop_reason", "stop_sequence", "stop_details", "container"):
            value = (wire.delta or {}).get(name)
            if value is not None and _is_given(value):
                message[name] = value
                self._has_reason |= name == "stop_reason"

    def _note_falls(self, given: Fields) -> None:
        """Remember counts that fell: what is cumulative never does, so neither can be right."""
        for name in given.keys() & self._usage.keys():
            old, new = self._usage[name], given[name]
            if name in _WITH_COUNTS and bytes(old).startswith(b"{"):
                after = _FIELDS.decode(new) if bytes(new).startswith(b"{") else {}
                for part, count in _FIELDS.decode(old).items():
                    self._note_fall(part, count, after.get(part, _ZERO))
            elif name not in _OUTPUT_NAMES or self._counts_output:
                self._note_fall(name, old, new)  # else a stream begins with a placeholder

    def _note_fall(self, name: str, before: msgspec.Raw, after: msgspec.Raw) -> None:
        old, new = _whole_number(before), _whole_number(after) if _is_given(after) else 0
        if old is not None and new is not None and new < old:
            least, most = self._fell.get(name, (new, old))
            self._fell[name] = (min(least, new), max(most, old))

    def _final_usage(self) -> Fields:
        """A whole answer whose output nobody counted has an unknown output, not the first 1."""
        if self._counts_output or not self.is_complete:
            return self._usage
        return {n: _NULL if n in _OUTPUT_NAMES else v for n, v in self._usage.items()}


_OUTPUT_NAMES: Final = ("output_tokens", "completion_tokens")
_WITH_COUNTS: Final = ("cache_creation", "server_tool_use", "prompt_tokens_details")
_ZERO: Final = msgspec.Raw(b"0")
_MOST_DIGITS: Final = 12  # of a count that is one


def _decoded(data: bytes) -> _EventFields:
    try:
        return _WIRE.decode(data)
    except CODEC_ERRORS:
        fields = with_halves(data)
        if not isinstance(fields, dict):
            raise
    plain = {name: fields.get(name) for name in ("type", "index")}
    wire = msgspec.convert(plain, _EventFields)
    for name in ("message", "content_block", "delta"):
        if isinstance(fields.get(name), dict):
            setattr(wire, name, {key: raw_json(value) for key, value in fields[name].items()})
    for name in ("usage", "error"):
        if name in fields:
            setattr(wire, name, raw_json(fields[name]))
    return wire


def _kind(event: Event) -> str:
    """The type of an event that could not be read; its name where it says nothing else."""
    try:
        kind = msgspec.json.decode(event.data, type=dict[str, Any]).get("type")
    except CODEC_ERRORS:
        return event.name
    return kind if isinstance(kind, str) else event.name


def _whole_number(value: msgspec.Raw) -> int | None:
    digits = bytes(value)
    return int(digits) if digits.isdigit() and len(digits) < _MOST_DIGITS else None


def _is_given(value: msgspec.Raw | None) -> bool:
    return value is not None and bytes(value) not in _NOTHING
