"""Every fault, over a real connection, and how it is chosen."""

import asyncio
import json
import re
from collections import Counter as Tally
from email.utils import parsedate_to_datetime
from pathlib import Path

import aiohttp
import pytest

from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.faults import FAULTS, FaultPicker
from tests.simulator.asking import Counter, asynchronous, body_of, post, session, wait_for_stats

ANSWERED = sorted(name for name, fault in FAULTS.items() if fault.manner == "answer")
BROKEN = ["close", "reset_after_headers", "reset_before"]


async def ask_for(fault, **fields):
    """Status, headers and bytes of an answer, and the lines on the bill."""
    async with Simulator(SimulatorSettings(trickle_ms=0)) as simulator, session() as client:
        request = client.post(
            f"{simulator.base_url}/v1/messages",
            json=body_of(f"[[fault:{fault}]] hi", **fields),
            allow_redirects=False,
        )
        async with request as response:
            raw = await response.read()
        return response.status, response.headers, raw, simulator.bill


@pytest.mark.parametrize("fault", ANSWERED)
@asynchronous
async def test_an_error_is_answered_and_billed_as_its_table_says(fault):
    status, headers, raw, bill = await ask_for(fault)
    assert status == FAULTS[fault].status
    assert headers["content-type"] == FAULTS[fault].content_type
    assert headers["request-id"].startswith("req_")
    assert len(bill) == FAULTS[fault].billed
    if raw.startswith(b'{"type":"error"'):
        assert json.loads(raw)["request_id"] == headers["request-id"]


@pytest.mark.parametrize("fault", BROKEN)
@asynchronous
async def test_a_broken_connection_is_on_the_bill_although_nothing_arrives(fault):
    async with Simulator() as simulator, session() as client:
        with pytest.raises(aiohttp.ClientError):
            await post(client, simulator.base_url, body_of(f"[[fault:{fault}]] hi"))
        assert [line.fault for line in simulator.bill] == [fault]


@asynchronous
async def test_a_hanging_request_is_billed_and_released_at_the_end():
    async with Simulator() as simulator, session() as client:
        body = body_of("[[fault:hang]]")
        asking = asyncio.create_task(post(client, simulator.base_url, body))
        await wait_for_stats(client, simulator.base_url, billed=1, in_flight=1)
        assert not asking.done()
    with pytest.raises(aiohttp.ClientError):
        await asking


@asynchronous
async def test_a_client_that_gives_up_is_no_longer_in_flight():
    async with Simulator() as simulator, session() as client:
        body = body_of("[[fault:hang]]")
        asking = asyncio.create_task(post(client, simulator.base_url, body))
        await wait_for_stats(client, simulator.base_url, billed=1, in_flight=1)
        asking.cancel()
        await wait_for_stats(client, simulator.base_url, billed=1, in_flight=0)
        assert simulator.stats.peak_in_flight == 1


@asynchronous
async def test_a_cut_answer_is_half_a_json_text():
    status, _, raw, bill = await ask_for("200_cut")
    assert (status, len(bill)) == (200, 1)
    assert raw.startswith(b'{"id":"msg_')
    with pytest.raises(json.JSONDecodeError):
        json.loads(raw)


@asynchronous
async def test_a_trickling_answer_is_whole_in_the_end():
    _, _, raw, bill = await ask_for("slow_trickle")
    assert json.loads(raw)["usage"]["output_tokens"] == bill[0].output_tokens


@pytest.mark.parametrize("fault", ["200_cut", "stream_error"])
@asynchronous
async def test_a_broken_stream_never_says_message_stop(fault):
    _, _, raw, bill = await ask_for(fault, stream=True)
    assert raw.startswith(b"event: message_start\n")
    assert b"message_stop" not in raw
    assert (b"event: error\n" in raw) == (fault == "stream_error")
    assert len(bill) == 1


@asynchronous
async def test_a_stream_is_reset_after_it_began():
    with pytest.raises(aiohttp.ClientError):
        await ask_for("reset_after_headers", stream=True)


@asynchronous
async def test_each_429_asks_for_patience_in_its_own_way():
    waits = {name: (await ask_for(name))[1] for name in FAULTS if name.startswith("429")}
    assert waits["429"]["retry-after"] == waits["429_ramp"]["retry-after"] == "1"
    assert waits["429_ms"]["retry-after-ms"] == "250"
    assert parsedate_to_datetime(waits["429_date"]["retry-after"]).tzinfo
    assert "retry-after" not in waits["429_no_header"]
    assert "retry-after" not in waits["429_spend"]


@asynchronous
async def test_who_follows_a_redirect_is_counted():
    async with Simulator() as simulator, session() as client:
        status, _ = await post(client, simulator.base_url, body_of("[[fault:redirect]]"))
        assert (status, simulator.stats.redirects_followed) == (404, 1)


def test_a_marker_with_a_number_fails_only_the_first_attempts_of_its_body():
    counter = Counter()
    first, second = body_of("[[fault:529*2]] a"), body_of("[[fault:529*2]] b")
    statuses = [counter.decide(body).status for body in (first, second, first, first, second)]
    assert statuses == [529, 529, 529, 200, 529]


def test_several_markers_fail_one_after_the_other():
    counter = Counter()
    body = body_of("[[fault:529*1]] [[fault:500*2]] hi")
    assert [counter.decide(body).status for _ in range(5)] == [529, 500, 500, 200, 200]


def faults_of(order, seed=1):
    picker = FaultPicker(seed, {"529": 0.2, "close": 0.1})
    return {key: [picker.pick(key, ()) for _ in range(3)] for key in order}


def test_faults_by_chance_do_not_depend_on_the_order_of_arrival():
    digests = [n.to_bytes(4, "little") * 8 for n in range(300)]
    assert faults_of(digests) == faults_of(digests[::-1])
    assert faults_of(digests) != faults_of(digests, seed=2)


def test_faults_by_chance_come_as_often_as_asked_even_for_one_body():
    picker = FaultPicker(7, {"529": 0.2, "close": 0.1})
    tally = Tally(picker.pick(bytes(32), ()) for _ in range(10_000))
    assert 1_800 < tally["529"] < 2_200
    assert 850 < tally["close"] < 1_150


def test_a_repeated_request_can_succeed_after_a_fault_by_chance():
    counter = Counter(faults={"529": 0.5})
    statuses = {counter.decide(body_of("hi")).status for _ in range(40)}
    assert statuses == {200, 529}
    assert counter.stats.faults["529"] + len(counter.bill.lines()) == 40


def test_the_manual_lists_every_fault_and_whether_it_is_billed():
    manual = Path(__file__).parents[2] / "docs" / "simulator.md"
    section = manual.read_text().partition("## Faults")[2].partition("## Quotas")[0]
    listed = {}
    for line in section.splitlines():
        if line.startswith("| `"):
            names, _, billed = line.strip("| ").split(" | ")
            listed |= dict.fromkeys(re.findall(r"`(\w+)`", names), billed == "yes")
    assert listed == {name: fault.billed for name, fault in FAULTS.items()}
