"""The server over loopback: headers, neighbours, counting, the bill on disk."""

import asyncio
import errno
import hashlib
import json

import pytest

from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from tests.bill import read_bill
from tests.simulator.asking import asynchronous, body_of, get, post, session


@asynchronous
async def test_an_answer_carries_its_ids():
    async with Simulator() as simulator, session() as client:
        async with client.post(
            f"{simulator.base_url}/v1/messages", json=body_of("hi")
        ) as first:
            answer = await first.json()
        async with client.post(
            f"{simulator.base_url}/v1/messages", json=body_of("hi")
        ) as second:
            again = await second.json()
        assert first.headers["request-id"] != second.headers["request-id"]
        assert answer["id"] != again["id"]
        assert answer["content"] == again["content"]
        assert first.headers["anthropic-organization-id"]


@asynchronous
async def test_the_bill_line_is_on_disk_before_the_answer(tmp_path):
    settings = SimulatorSettings(bill_path=tmp_path / "bill.jsonl")
    async with Simulator(settings) as simulator, session() as client:
        raw = json.dumps(body_of("hi", metadata={"user_id": "row-1"})).encode()
        headers = {"x-client-request-id": "uid-1"}
        url = f"{simulator.base_url}/v1/messages"
        async with client.post(url, data=raw, headers=headers) as response:
            (line,) = read_bill(tmp_path / "bill.jsonl")
            answer = await response.json()
    assert (line["attempt_uid"], line["custom"]) == ("uid-1", "row-1")
    assert line["request_id"] == response.headers["request-id"]
    assert line["body_sha256"] == hashlib.sha256(raw).hexdigest()
    assert line["output_tokens"] == answer["usage"]["output_tokens"]


@asynchronous
async def test_a_bill_file_goes_on_after_a_restart(tmp_path):
    settings = SimulatorSettings(bill_path=tmp_path / "bill.jsonl")
    for _ in range(2):
        async with Simulator(settings) as simulator, session() as client:
            await post(client, simulator.base_url, body_of("hi"))
    assert len(simulator.bill) == 2
    assert len({line.request_id for line in simulator.bill}) == 2


@asynchronous
async def test_a_bill_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        async with Simulator(SimulatorSettings(bill_path=tmp_path / "no" / "bill")):
            pass


@asynchronous
async def test_two_simulators_cannot_share_a_port():
    async with Simulator() as first:
        port = int(first.base_url.rpartition(":")[2])
        with pytest.raises(OSError) as caught:  # noqa: PT011 - its number says which
            async with Simulator(SimulatorSettings(port=port)):
                pass
    assert caught.value.errno == errno.EADDRINUSE


@asynchronous
async def test_bill_and_stats_can_be_fetched():
    async with Simulator() as simulator, session() as client:
        bodies = [body_of(f"[[latency:20]] {n}") for n in range(10)] + [
            body_of("hi", model="x")
        ]
        await asyncio.gather(*(post(client, simulator.base_url, body) for body in bodies))
        async with client.get(f"{simulator.base_url}/_simulator/bill") as response:
            lines = (await response.text()).splitlines()
        _, stats = await get(client, f"{simulator.base_url}/_simulator/stats")
    assert len(lines) == len(simulator.bill) == stats["billed"] == 10
    assert stats["by_status"] == {"200": 10, "404": 1}
    assert 1 <= stats["peak_in_flight"] <= 11
    assert stats["in_flight"] == 0


@asynchronous
async def test_quota_headers_come_with_the_answer():
    settings = SimulatorSettings(output_tokens_per_minute=100_000)
    async with Simulator(settings) as simulator, session() as client:
        body = body_of("[[output:3000]]", max_tokens=4_000)
        async with client.post(f"{simulator.base_url}/v1/messages", json=body) as response:
            headers = response.headers
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "97000"
    assert "anthropic-ratelimit-requests-limit" not in headers


@asynchronous
async def test_models_are_listed_page_by_page():
    async with Simulator() as simulator, session() as client:
        url = f"{simulator.base_url}/v1/models?limit=3"
        _, first = await get(client, url)
        _, second = await get(client, f"{url}&after_id={first['last_id']}")
        _, one = await get(client, f"{simulator.base_url}/v1/models/claude-haiku-4-5")
    assert (first["has_more"], second["has_more"]) == (True, False)
    assert len({model["id"] for model in first["data"] + second["data"]}) == 5
    assert (one["type"], one["id"]) == ("model", "claude-haiku-4-5")


@pytest.mark.parametrize(
    ("path", "status"),
    [("?limit=0", 400), ("?limit=x", 400), ("?after_id=x", 400), ("/gpt-4o", 404)],
)
@asynchronous
async def test_a_models_page_that_does_not_exist_is_refused(path, status):
    async with Simulator() as simulator, session() as client:
        answer = await get(client, f"{simulator.base_url}/v1/models{path}")
    assert (answer[0], answer[1]["type"]) == (status, "error")


@asynchronous
async def test_tokens_are_counted_as_they_are_billed():
    async with Simulator() as simulator, session() as client:
        body = body_of("how many tokens?")
        del body["max_tokens"]
        url = f"{simulator.base_url}/v1/messages/count_tokens"
        async with client.post(url, json=body) as response:
            counted = await response.json()
        assert counted.keys() == {"input_tokens"}
        assert counted["input_tokens"] > 0
        assert simulator.bill == []


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@asynchronous
async def test_the_root_answers_without_a_key(method):
    async with (
        Simulator() as simulator,
        session() as client,
        client.request(method, simulator.base_url) as response,
    ):
        assert response.status == 200


@pytest.mark.parametrize("path", ["/v1/nothing", "/_simulator/nothing", "/v1/messages"])
@asynchronous
async def test_what_does_not_exist_is_not_found(path):
    async with Simulator() as simulator, session() as client:
        assert (await get(client, simulator.base_url + path))[0] == 404


@asynchronous
async def test_a_base_url_may_have_a_path_of_its_own():
    async with Simulator() as simulator, session() as client:
        status, _ = await post(client, f"{simulator.base_url}/api", body_of("hi"))
        assert status == 200


@asynchronous
async def test_a_body_above_32_megabytes_is_too_large():
    async with Simulator() as simulator, session() as client:
        status, raw = await post(client, simulator.base_url, body_of("x" * 34_000_000))
        assert (status, json.loads(raw)["error"]["type"]) == (413, "request_too_large")


@asynchronous
async def test_a_body_of_many_megabytes_is_answered():
    async with Simulator() as simulator, session() as client:
        status, _ = await post(client, simulator.base_url, body_of("x" * 9_000_000))
        assert status == 200


@asynchronous
async def test_hundreds_of_clients_are_served_at_once():
    async with Simulator() as simulator, session() as client:
        bodies = [body_of(f"[[latency:50]] {n}") for n in range(300)]
        answers = await asyncio.gather(*(post(client, simulator.base_url, b) for b in bodies))
    assert {status for status, _ in answers} == {200}
    assert len({line.body_sha256 for line in simulator.bill}) == 300
