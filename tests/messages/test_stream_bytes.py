"""Every byte of a stream changed, lost or doubled: a message is complete only with its end."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.stream_events import Event, EventParser
from tests.messages.stream_making import FIXTURE, MESSAGES, fold, stream_of

STREAMS = {"fixture": FIXTURE} | {name: stream_of(each) for name, each in MESSAGES.items()}
OTHERS = (b"", b'"', b"\n", b"{", b"\0", b"\xff", b"}", b"\r", b"\\", b":")


def says_its_end(stream: bytes) -> bool:
    """A second opinion: some line of data, read by itself, ends the message."""
    for line in stream.replace(b"\r", b"\n").split(b"\n"):
        if b"stop" in line and line.startswith(b"data:"):
            try:
                event = json.loads(line[5:])
            except ValueError:
                continue
            if isinstance(event, dict) and _ends(event):
                return True
    return False


def _ends(event: dict) -> bool:
    delta = event.get("delta")
    stop_reason = isinstance(delta, dict) and delta.get("stop_reason")
    return event.get("type") == "message_stop" or bool(stop_reason)


def damaged(stream: bytes, at: int) -> list[bytes]:
    """The stream with that byte flipped, replaced by something that matters, and doubled."""
    flipped = bytes([stream[at] ^ (1 << at % 8)])
    changes = (flipped, OTHERS[at % len(OTHERS)], stream[at : at + 1] * 2)
    return [stream[:at] + change + stream[at + 1 :] for change in changes]


@pytest.mark.parametrize("name", sorted(STREAMS))
def test_with_any_byte_changed_a_stream_is_complete_only_with_its_end(name):
    stream = STREAMS[name]
    complete = 0
    for at in range(len(stream)):
        for changed in damaged(stream, at):
            folded = fold(changed)
            if not folded.is_complete:
                continue
            assert says_its_end(changed), changed[max(0, at - 40) : at + 40]
            complete += 1
            try:
                answer = parse_answer(folded.message())
            except NotAMessage:
                continue
            answer.content.decode()
    assert complete > len(stream) / 2


_LINES = st.lists(
    st.sampled_from(
        [
            b"event: a",
            b"event:b",
            b"data: x",
            b"data:y",
            b"data: ",
            b"data",
            b": no",
            b"",
            b"id: 1",
        ]
    )
)


@given(_LINES, st.integers(0, 60), st.integers(0, 60))
def test_events_are_the_same_in_whatever_pieces_and_with_whatever_line_ends(lines, one, two):
    stream = b"".join(line + b"\n" for line in lines)
    low, high = sorted((one, two))
    for ends in (b"\n", b"\r\n"):
        parser = EventParser()
        pieces = (stream[:low], stream[low:high], stream[high:])
        found = [e for piece in pieces for e in parser.feed(piece.replace(b"\n", ends))]
        assert found + parser.finish() == _read_by_line(lines)


def _read_by_line(lines: list[bytes]) -> list[Event]:
    """A second opinion: the rules of server-sent events, a line at a time."""
    events, name, data = [], "", []
    for line in [*lines, b""]:
        field, _, value = line.partition(b":")
        if field == b"event":
            name = value.removeprefix(b" ").decode()
        elif field == b"data":
            data.append(value.removeprefix(b" "))
        elif not line:
            if b"\n".join(data):
                events.append(Event(name, b"\n".join(data)))
            name, data = "", []
    return events
