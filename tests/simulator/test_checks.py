"""What is refused, with which status and which words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.simulator.desk import PlannedReply
from batcher.simulator.wire.checks import BLOCK_TYPES, KNOWN_FIELDS
from tests.simulator.asking import HEADERS, MODEL, WEB_SEARCH, Counter, body_of

KEYS = ["type", "text", "name", "source", "data", "id", "tool_use_id", "enum", "properties"]
USER = {"role": "user", "content": "hi"}


@pytest.mark.parametrize("missing", ["model", "messages", "max_tokens"])
def test_a_missing_field_is_named(missing):
    body = body_of("hi", **{missing: None})
    assert Counter().refusal(body) == (400, f"{missing}: Field required")


@pytest.mark.parametrize(
    ("fields", "begins"),
    [
        ({"messages": []}, "messages: at least one"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role:"),
        ({"messages": [{"role": "user", "content": ""}]}, "messages.0: all messages"),
        (
            {"messages": [{"role": "user", "content": [{"type": "odd"}]}]},
            "messages.0.content.0:",
        ),
        ({"messages": [USER | {"name": "x"}]}, "messages.0.name: Extra"),
        ({"messages": ["hi"]}, "messages.0:"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content:"),
        ({"max_tokens": -1}, "max_tokens:"),
        ({"max_tokens": "many"}, "max_tokens:"),
        ({"max_tokens": 128_001}, "max_tokens: 128001 > 128000"),
        ({"temperature": 1.5}, "temperature:"),
        ({"temperature": 0.5, "model": "claude-opus-5-5"}, "temperature: claude-opus-5-5"),
        ({"custom_id": "x"}, "custom_id: Extra inputs"),
        ({"tool_choice": "auto"}, "tool_choice:"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name:"),
        ({"tools": [{"name": "x"}]}, "tools.0.input_schema:"),
        ({"stop_sequences": [" "]}, "stop_sequences:"),
        ({"inference_geo": "us", "model": "claude-haiku-4-5"}, "inference_geo:"),
        ({"speed": "fast"}, "speed: claude-sonnet-4-6 has no fast mode"),
        (
            {"messages": [USER, {"role": "assistant", "content": "So"}]},
            "messages: claude-sonnet",
        ),
        ({"messages": [USER, {"role": "system", "content": "So"}]}, "messages: role 'system'"),
    ],
)
def test_a_wrong_body_is_refused_with_the_place(fields, begins):
    status, message = Counter().refusal(body_of("hi", **fields))
    assert status == 400
    assert message.startswith(begins)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff\xfe", b'"text"', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_refused(raw):
    assert Counter().refusal(raw)[0] == 400


@pytest.mark.parametrize("model", ["gpt-4o", "claude-unknown-1", "anthropic/unknown", "claude"])
def test_an_unknown_model_is_not_found(model):
    assert Counter().refusal(body_of("hi", model=model)) == (404, f"model: {model}")


@pytest.mark.parametrize("model", ["claude-new-9", "anthropic/claude-opus-5-5"])
def test_any_claude_is_known_with_or_without_its_vendor(model):
    assert Counter().ask("hi", model=model)["model"] == model


@pytest.mark.parametrize(
    "headers", [{}, {"x-api-key": "wrong-key"}, {"authorization": "Bearer wrong-key"}]
)
def test_no_key_or_the_wrong_one_is_unauthorized(headers):
    version = {"anthropic-version": "2023-06-01"}
    assert Counter().refusal(body_of("hi"), headers | version)[0] == 401


def test_only_the_expected_key_is_let_in():
    counter = Counter(expected_key="right")
    assert counter.refusal(body_of("hi"))[0] == 401
    assert counter.decide(body_of("hi"), HEADERS | {"x-api-key": "right"}).status == 200


def test_a_bearer_token_is_a_key():
    headers = {"authorization": "Bearer abc", "anthropic-version": "2026-10-21"}
    assert Counter().decide(body_of("hi"), headers).status == 200


@pytest.mark.parametrize("version", [{}, {"anthropic-version": "2020-01-01"}])
def test_the_api_version_must_be_one_that_exists(version):
    status, message = Counter().refusal(body_of("hi"), {"x-api-key": "k"} | version)
    assert status == 400
    assert message.startswith("anthropic-version:")


def test_a_server_that_needs_no_version_can_be_had():
    counter = Counter(version_required=False)
    assert counter.decide(body_of("hi"), {"x-api-key": "k"}).status == 200


def test_the_new_version_has_no_sampling_parameters():
    headers = HEADERS | {"anthropic-version": "2026-10-21"}
    refused = Counter().refusal(body_of("hi", temperature=1), headers)
    assert refused == (400, "temperature: Extra inputs are not permitted")
    assert Counter().decide(body_of("hi", temperature=0.2)).status == 200


def test_a_continuation_must_bring_its_tools_along():
    content = Counter().ask("news", tools=[WEB_SEARCH])["content"]
    messages = [USER, {"role": "assistant", "content": content}]
    status, message = Counter().refusal(body_of("", model=MODEL, messages=messages))
    assert (status, message[:6]) == (400, "tools:")


def test_an_old_model_takes_a_prefill():
    messages = [USER, {"role": "assistant", "content": "So"}]
    counter = Counter()
    assert counter.ask("", model="claude-haiku-4-5", messages=messages)["content"]


def test_nothing_refused_is_on_the_bill():
    counter = Counter()
    counter.refusal(body_of("hi", max_tokens=None))
    counter.refusal(body_of("hi", model="gpt-4o"))
    counter.refusal(body_of("hi"), {})
    assert counter.bill.lines() == []


@pytest.mark.parametrize(
    "settings",
    [
        {"faults": {"nonsense": 0.1}},
        {"faults": {"429": 1.5}},
        {"faults": {"429": 0.7, "529": 0.7}},
        {"latency_ms": (5, 1)},
        {"requests_per_minute": 0},
        {"burst_seconds": 0},
    ],
)
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=r"\w"):
        Counter(**settings)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
JSON = st.recursive(
    SCALARS | st.sampled_from(sorted(BLOCK_TYPES)),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(KEYS) | st.text(), inner),
    max_leaves=12,
)


@given(fields=st.dictionaries(st.sampled_from(sorted(KNOWN_FIELDS)), JSON, max_size=3))
def test_no_body_breaks_the_simulator(fields):
    decision = Counter().decide(body_of("hi") | fields)
    assert isinstance(decision, PlannedReply)
    assert decision.status in (200, 400, 404)
    json.loads(decision.payload or b"{}")


@given(content=st.lists(st.dictionaries(st.sampled_from(KEYS), JSON)), schema=JSON)
def test_no_content_and_no_schema_breaks_the_simulator(content, schema):
    messages = [USER, {"role": "user", "content": content}]
    tools = [{"name": "t", "input_schema": schema}]
    form = {"type": "json_schema", "schema": schema}
    for more in ({"tools": tools}, {"output_config": {"format": form}}, {"system": content}):
        assert Counter().decide(body_of("", messages=messages) | more).status in (200, 400)
    assert Counter().decide(body_of("hi", tools=tools)).status in (200, 400)
