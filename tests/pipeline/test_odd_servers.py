"""What odd servers and resellers were seen to say, kept with what it has to be charged as.

A line of `odd_servers.jsonl` is one answer: `asks` is the request beside its text of so many
`letters`, `message` or the `events` of a stream what came, then the charges of all its lines.
Amounts are pico-USD. What is priced was compared with a script that shares no code with this.
"""

from pathlib import Path
from typing import Any

import msgspec
import pytest

from batcher.messages.answer import Answer, parse_answer
from batcher.messages.request import Answered, Exchange
from batcher.messages.stream import MessageStream
from tests.pipeline.test_trust import NOVEMBER, RATER, attempt_of

LINES = [
    msgspec.json.decode(line)
    for line in (Path(__file__).parent / "odd_servers.jsonl").read_bytes().splitlines()
]


def answer_of(line: dict[str, Any]) -> Answer:
    if "message" in line:
        return parse_answer(msgspec.json.encode(line["message"]))
    stream = MessageStream()
    for event in line["events"]:
        stream.feed(b"data: " + msgspec.json.encode(event) + b"\n\n")
    stream.finish()
    return stream.answer(stream.message())


def body_of(line: dict[str, Any]) -> dict[str, Any]:
    text = ("word " * (line["letters"] // 5 + 1))[: line["letters"]]
    return {
        "max_tokens": 8_000,
        "messages": [{"role": "user", "content": text}],
        **line["asks"],
    }


def charged(line: dict[str, Any]) -> list[list[Any]]:
    """Status, reason and both ends of every usage line."""
    body = body_of(line)
    exchange = Exchange(sent_at=NOVEMBER, settled_at=NOVEMBER + 1)
    weighed = RATER.weighed(attempt_of(body), Answered(exchange, answer_of(line)))
    found = RATER.charges_of(weighed, body["model"])
    return [[str(c.status), c.reason, c.total, c.high] for c in found]


@pytest.mark.parametrize("line", LINES, ids=[line["name"] for line in LINES])
def test_what_an_odd_server_says_is_charged_as_far_as_it_can_be_known(line):
    assert charged(line) == line["charges"]
