"""Server-sent events from bytes, whatever way a network cuts them."""

from typing import Final

import msgspec

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
