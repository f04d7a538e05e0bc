"""Server-sent events come out the same, however the bytes were cut."""

from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.messages.stream_events import Event, EventParser, StreamTooLong

MEBIBYTE = 2**20


def events_of(*chunks):
    parser = EventParser()
    found = [event for chunk in chunks for event in parser.feed(chunk)]
    return found + parser.finish()


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_every_line_end_is_one(end):
    stream = end.join([b"event: a", b"data: 1", b"", b"data: 2", b"data: 3", b"", b""])
    assert events_of(stream) == [Event("a", b"1"), Event("", b"2\n3")]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b": comment\ndata: 1\n\n", [Event("", b"1")]),
        (b"\xef\xbb\xbfdata: 1\n\n", [Event("", b"1")]),
        (b"data:1\n\n", [Event("", b"1")]),
        (b"data:  1\n\n", [Event("", b" 1")]),
        (b"data: 1", [Event("", b"1")]),
        (b"event: a\ndata: 1\n", [Event("a", b"1")]),
        (b"event: a\nevent: b\ndata: 1\n\n", [Event("b", b"1")]),
        (b"id: 7\nretry: 3\nfoo\nevent: a\ndata: 1\n\n", [Event("a", b"1")]),
        (b"event: nothing\n\n", []),
        (b"data:\n\n", []),
        (b"\n\n\n", []),
        (b"", []),
    ],
)
def test_what_the_lines_of_an_event_say(stream, expected):
    assert events_of(stream) == expected


def test_the_name_of_an_event_does_not_reach_the_next():
    assert events_of(b"event: a\n\ndata: 1\n\n") == [Event("", b"1")]


PIECES = st.sampled_from(
    [b"data: ", b"event: a", b"\n", b"\r", b"\r\n", b"\n\n", b": c", "ä☃".encode(), b"{}"]
)


@given(parts=st.lists(PIECES, max_size=12), cuts=st.lists(st.integers(0, 60), max_size=5))
@example(parts=[b"data: ", b"1", b"\r\n", b"\r\n"], cuts=[8, 9, 10])
def test_cuts_change_nothing(parts, cuts):
    stream = b"".join(parts)
    edges = [0, *sorted(cuts), len(stream)]
    chunks = [stream[a:b] for a, b in pairwise(edges)]
    assert events_of(*chunks) == events_of(stream)
    assert events_of(*(bytes([byte]) for byte in stream)) == events_of(stream)


def feed_all(*chunks):
    parser = EventParser()
    for chunk in chunks:
        parser.feed(chunk)


def test_a_line_without_an_end_is_not_read_for_ever():
    with pytest.raises(StreamTooLong, match="8 MiB"):
        feed_all(*[b"x" * MEBIBYTE] * 9)


def test_an_event_of_many_lines_is_not_read_for_ever():
    with pytest.raises(StreamTooLong, match="event"):
        feed_all(*[b"data: " + b"x" * MEBIBYTE + b"\n"] * 9)


def test_a_stream_without_an_end_is_not_read_for_ever():
    with pytest.raises(StreamTooLong, match="128 MiB"):
        feed_all(*[b": " + b"x" * (MEBIBYTE - 3) + b"\n"] * 129)
