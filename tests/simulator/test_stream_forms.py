"""One stream in every form: what its bytes look like, and that the words stay the same."""

import json
import re
from pathlib import Path

import aiohttp
import pytest

from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.forms import NUMBERS, SWITCHES, read_form
from tests.simulator.asking import asynchronous, body_of, post, session

FORMS = sorted({*SWITCHES} - {"json"})


async def stream_of(prompt, **settings):
    async with Simulator(SimulatorSettings(**settings)) as simulator, session() as client:
        body = body_of(prompt, stream=True)
        status, raw = await post(client, simulator.base_url, body)
        assert status == 200
        return raw, simulator.bill


def events_in(raw):
    """The events of a stream, read in the simplest way."""
    text = raw.decode().replace("\r\n", "\n").replace("\r", "\n")
    found = []
    for frame in text.split("\n\n"):
        data = "\n".join(
            line.removeprefix("data: ")
            for line in frame.split("\n")
            if line.startswith("data: ")
        )
        if data and data != "[DONE]":
            found.append(json.loads(data))
    return found


def text_in(raw):
    deltas = [event.get("delta") for event in events_in(raw)]
    return "".join(
        each["text"]
        for each in deltas
        if isinstance(each, dict) and each.get("type") == "text_delta"
    )


@asynchronous
async def test_every_form_says_the_same():
    plain, _ = await stream_of("[[custom:x]] ☃")
    for form in FORMS:
        raw, _ = await stream_of(f"[[custom:x]][[stream:{form}]] ☃")
        assert len(text_in(raw)) > 20
        assert text_in(raw)[:7] == text_in(plain)[:7]


@pytest.mark.parametrize(
    ("form", "there", "absent"),
    [
        ("crlf", b"\r\n\r\n", None),
        ("cr", b"\r\r", b"\n"),
        ("data_only", b"data: ", b"event: "),
        ("comments", b"\n: a comment\n", None),
        ("multi_data", b'data: {\ndata:  "type"', None),
        ("no_ping", b"message_start", b"ping"),
        ("no_stop", b"message_delta", b"message_stop"),
        ("done", b"\n\ndata: [DONE]\n\n", None),
        ("unknown_event", b"event: future_event\n", None),
        ("unknown_delta", b'"future_delta"', None),
        ("json", b'{"id":"msg_', b"event: "),
    ],
)
@asynchronous
async def test_a_form_is_what_it_says(form, there, absent):
    raw, bill = await stream_of(f"[[stream:{form}]] hi")
    assert there in raw
    assert absent is None or absent not in raw
    assert len(bill) == 1


@asynchronous
async def test_the_last_blank_line_may_be_missing():
    raw, _ = await stream_of("[[stream:no_blank]] hi")
    assert raw.endswith(b'{"type":"message_stop"}\n')


@asynchronous
async def test_two_message_deltas_have_the_reason_in_the_last():
    raw, _ = await stream_of("[[stream:two_deltas]] hi")
    deltas = [event for event in events_in(raw) if event["type"] == "message_delta"]
    assert [each["delta"]["stop_reason"] for each in deltas] == [None, "end_turn"]


@asynchronous
async def test_a_message_delta_may_lack_its_usage():
    raw, _ = await stream_of("[[stream:no_usage]] hi")
    (delta,) = [event for event in events_in(raw) if event["type"] == "message_delta"]
    assert "usage" not in delta


@asynchronous
async def test_blocks_may_be_closed_together():
    raw, _ = await stream_of("[[stream:overlap]] [[pause:0]] news")
    names = [event["type"] for event in events_in(raw)]
    first_end = names.index("content_block_stop")
    assert "content_block_start" not in names[first_end:]


@pytest.mark.parametrize("at", [0, 1, 5])
@asynchronous
async def test_a_fault_breaks_a_stream_after_as_many_events_as_asked(at):
    raw, bill = await stream_of(f"[[fault:200_cut]] [[stream:at={at}]] hi")
    assert len(events_in(raw)) == at
    assert [line.fault for line in bill] == ["200_cut"]


@asynchronous
async def test_a_stream_may_fail_with_any_error():
    form = "at=2,error=rate_limit_error"
    raw, bill = await stream_of(f"[[fault:stream_error]] [[stream:{form}]] hi")
    assert events_in(raw)[-1]["error"]["type"] == "rate_limit_error"
    assert len(bill) == 1


@pytest.mark.parametrize("stream", [True, False])
@asynchronous
async def test_a_refusal_inside_a_stream_is_not_billed(stream):
    async with Simulator() as simulator, session() as client:
        body = body_of("[[fault:stream_refused]]", stream=stream)
        status, raw = await post(client, simulator.base_url, body)
        assert (status, simulator.bill) == (200, [])
    assert raw.startswith(b"event: error\n") == stream
    assert b"overloaded_error" in raw


@asynchronous
async def test_split_sends_a_few_bytes_at_a_time():
    async with Simulator() as simulator, session() as client:
        body = body_of("[[stream:split=1]] ☃", stream=True)
        async with client.post(f"{simulator.base_url}/v1/messages", json=body) as response:
            first = await response.content.readany()
            rest = await response.read()
    assert text_in(first + rest).startswith("On")


@pytest.mark.parametrize(
    "form", ["nonsense", "crlf=1", "split=0", "split=x", "at=-1", "at", "error", ""]
)
def test_a_form_that_means_nothing_is_refused(form):
    with pytest.raises(ValueError, match="stream"):
        read_form(form)


@asynchronous
async def test_a_wrong_form_in_a_prompt_is_a_bad_request():
    async with Simulator() as simulator, session() as client:
        body = body_of("[[stream:nonsense]]", stream=True)
        status, raw = await post(client, simulator.base_url, body)
    assert status == 400
    assert b"nonsense" in raw


@asynchronous
async def test_a_reset_in_a_stream_comes_where_it_was_asked_for():
    with pytest.raises(aiohttp.ClientError):
        await stream_of("[[fault:reset_after_headers]] [[stream:at=1]] hi")


def test_the_manual_lists_every_form():
    manual = (Path(__file__).parents[2] / "docs" / "simulator.md").read_text()
    section = manual.partition("## Streams")[2].partition("## Dialects")[0]
    cells = [line.split("|")[1] for line in section.splitlines() if line.startswith("| `")]
    listed = {name.partition("=")[0] for name in re.findall(r"`([^`]+)`", " ".join(cells))}
    assert listed == {*SWITCHES, *NUMBERS, "error"}
