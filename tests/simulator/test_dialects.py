"""The servers that the simulator plays: paths, keys, errors, usage, lists of models."""

import json

import aiohttp
import anthropic
import pytest

from batcher.simulator.server import Simulator
from batcher.simulator.settings import SimulatorSettings
from tests.simulator.asking import HEADERS, TOOL, Counter, asynchronous, body_of

BEARER = {"authorization": "Bearer any"}
SUNRA_MODEL = "anthropic/claude-sonnet-4-6"


def crun():
    return Counter(dialect="crun")


def sunra():
    return Counter(dialect="sunra")


async def status_of(dialect, method, path, headers=BEARER, **fields):
    settings = SimulatorSettings(dialect=dialect)
    async with (
        Simulator(settings) as simulator,
        aiohttp.ClientSession(headers=headers) as client,
    ):
        body = body_of("hi", model=SUNRA_MODEL, **fields) if method == "POST" else None
        async with client.request(method, simulator.base_url + path, json=body) as response:
            return response.status, await response.json()


@pytest.mark.parametrize(
    ("dialect", "method", "path", "status"),
    [
        ("anthropic", "GET", "/any/v1/models", 200),
        ("crun", "POST", "/api/v1/messages", 200),
        ("crun", "POST", "/v1/messages", 404),
        ("crun", "POST", "/api/v1/v1/messages", 404),
        ("crun", "GET", "/api/v1/models", 200),
        ("crun", "GET", "/v1/models", 404),
        ("crun", "POST", "/api/v1/messages/count_tokens", 404),
        ("sunra", "POST", "/v1/messages", 200),
        ("sunra", "POST", "/api/v1/messages", 404),
        ("sunra", "GET", "/v1/models", 404),
        ("sunra", "POST", "/v1/messages/count_tokens", 404),
    ],
)
@asynchronous
async def test_each_server_has_its_paths(dialect, method, path, status):
    headers = BEARER | {"anthropic-version": "2023-06-01"}
    assert (await status_of(dialect, method, path, headers))[0] == status


@pytest.mark.parametrize(
    ("dialect", "headers", "status"),
    [
        ("crun", {"x-api-key": "any"}, 200),
        ("crun", BEARER, 200),
        ("crun", {}, 401),
        ("crun", BEARER | {"anthropic-version": "1999-01-01"}, 200),
        ("sunra", BEARER, 200),
        ("sunra", {"x-api-key": "any"}, 401),
        ("sunra", {"authorization": "Bearer wrong-key"}, 401),
        ("sunra", {"authorization": "Basic any"}, 401),
    ],
)
def test_each_server_takes_its_keys_and_asks_for_no_version(dialect, headers, status):
    counter = Counter(dialect=dialect)
    assert counter.decide(body_of("hi", model=SUNRA_MODEL), headers).status == status


def test_crun_reports_two_numbers_and_bills_the_same():
    counter = crun()
    usage = counter.ask("hi")["usage"]
    (line,) = counter.bill.lines()
    assert usage == {"input_tokens": line.input_tokens, "output_tokens": line.output_tokens}


def test_sunra_reports_every_field_and_most_are_null():
    usage = sunra().decide(body_of("hi", model=SUNRA_MODEL), BEARER)
    fields = json.loads(usage.payload)["usage"]
    assert fields["input_tokens"] > 0
    assert fields["service_tier"] is None
    assert fields["cache_creation"] is None


def test_an_unknown_model_is_refused_in_each_servers_own_way():
    body = body_of("hi", model="unknown-1")
    decision = crun().decide(body)
    error = json.loads(decision.payload)
    assert decision.status == 404
    assert error.keys() == {"error"}
    assert error["error"]["code"] == "model_not_found"
    there = json.loads(sunra().decide(body_of("hi"), BEARER).payload)
    assert there["error"]["details"]["error_code"] == "model_not_found"


def test_unknown_fields_pass_and_max_tokens_is_capped():
    body = body_of("[[output:999999]]", max_tokens=999_999, future={"a": 1}, tool_choice="auto")
    counter = crun()
    assert counter.decide(body).status == 200
    assert counter.bill.lines()[0].output_tokens == 128_000
    assert Counter().decide(body).status == 400


def test_sunra_needs_no_max_tokens_and_crun_does():
    body = body_of("hi", model=SUNRA_MODEL, max_tokens=None)
    assert sunra().decide(body, BEARER).status == 200
    assert crun().decide(body).status == 400


def test_crun_has_no_system_role():
    messages = [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]
    body = body_of("hi", messages=messages, model="claude-opus-5-5")
    assert crun().decide(body).status == 400
    assert Counter().decide(body).status == 200


def test_a_plain_tool_choice_is_understood_by_crun_alone():
    body = body_of("hi", tools=[TOOL], tool_choice="none")
    assert json.loads(crun().decide(body).payload)["stop_reason"] != "tool_use"
    assert Counter().decide(body).status == 400


@pytest.mark.parametrize(("dialect", "status"), [("crun", 429), ("sunra", 403)])
def test_an_empty_quota_is_refused_in_each_servers_own_way(dialect, status):
    counter = Counter(dialect=dialect, requests_per_minute=1)
    body = body_of("hi", model=SUNRA_MODEL)
    first, second = (counter.decide(body, HEADERS | BEARER) for _ in range(2))
    assert (first.status, second.status) == (200, status)
    assert ("retry-after" in second.headers) == (status == 429)


@asynchronous
async def test_lists_of_models_come_in_both_shapes():
    headers = BEARER | {"anthropic-version": "2023-06-01"}
    _, pages = await status_of("anthropic", "GET", "/v1/models", headers)
    _, listed = await status_of("crun", "GET", "/api/v1/models")
    assert listed["object"] == "list"
    assert "has_more" in pages
    assert [each["id"] for each in listed["data"]] == [each["id"] for each in pages["data"]]
    assert {each["object"] for each in listed["data"]} == {"model"}


@pytest.mark.parametrize(
    ("dialect", "path", "model"),
    [("crun", "/api", "claude-sonnet-4-6"), ("sunra", "", SUNRA_MODEL)],
)
@asynchronous
async def test_the_official_client_works_with_each_server(dialect, path, model):
    async with Simulator(SimulatorSettings(dialect=dialect)) as simulator:
        base_url = simulator.base_url + path
        async with anthropic.AsyncAnthropic(api_key="any", base_url=base_url) as client:
            body = body_of("hi", model=model)
            message = await client.messages.create(**body)
            async with client.messages.stream(**body) as stream:
                streamed = await stream.get_final_message()
    assert message.content[0].text == streamed.content[0].text
    assert message.usage.output_tokens == streamed.usage.output_tokens


def test_an_unknown_dialect_is_refused():
    with pytest.raises(ValueError, match="anthropic, crun, sunra"):
        SimulatorSettings(dialect="klingon")
