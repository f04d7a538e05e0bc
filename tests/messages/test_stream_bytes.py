"""Every byte of a stream changed, lost or doubled: a message is complete only with its end."""

import json

import pytest

from batcher.messages.answer import NotAMessage, parse_answer
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
