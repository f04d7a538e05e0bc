import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.messages.request import BadRow, Request
from batcher.preflight.preflight import Preflight
from batcher.preflight.rules import shipped_rules
from batcher.rows.build.body import FIELDS
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from tests.preflight.test_rules import problem
from tests.rows.corpus import body, said

BOOK = shipped_rules()


def rules(dialect="anthropic", version="2023-06-01", betas=()):
    return Preflight(
        BOOK, dialect=dialect, api_version=version, endpoint_name="here", betas=betas
    )


def test_an_unknown_dialect_is_refused_with_those_that_are_known():
    with pytest.raises(ConfigurationError, match=r"unknown dialect 'cohere'.*vllm"):
        rules("cohere")


def test_a_local_model_behind_the_anthropic_dialect_is_left_alone():
    assert problem({"temperature": 1.5}, model="qwen3-4b") is None
    assert problem({"temperature": 1.5}, model="claude-sonnet-4-6").rule == "TEMPERATURE_RANGE"


@pytest.mark.parametrize(
    "model",
    [
        "claude-opus-4-8",
        "anthropic/claude-opus-4.8",
        "us.anthropic.claude-opus-4-8",
        "claude-opus-4-8[1m]",
    ],
)
def test_all_spellings_of_a_model_have_its_rules(model):
    assert problem({"top_k": 4}, model=model).rule == "TOP_K_NOT_DEFAULT"


@pytest.mark.parametrize("model", ["claude-opus-6", "claude-opus-4-8-fast", "claude-next"])
def test_what_is_not_known_of_a_model_is_not_refused(model):
    assert problem({"top_k": 4, "thinking": {"type": "disabled"}}, model=model) is None


def test_a_rule_of_a_version_needs_that_version():
    assert problem({"temperature": 1}, api_version="2026-10-21").rule == "SAMPLING_REMOVED"
    for version in ("2023-06-01", None):
        assert problem({"temperature": 1}, api_version=version) is None


def test_beta_names_of_the_endpoint_and_of_the_row_count():
    fields = {"context_management": {"edits": []}}
    name = "context-management-2025-06-27"
    assert rules().problem(body(**fields)).rule == "CONTEXT_MANAGEMENT_BETA"
    assert rules().problem(body(**fields), (name,)) is None
    assert rules(betas=(name,)).problem(body(**fields)) is None


def test_a_null_counts_as_absent():
    assert (
        problem({"temperature": None, "thinking": None, "tools": None}, model="claude-opus-5")
        is None
    )


@pytest.mark.parametrize("dialect", ["litellm", "openrouter"])
def test_what_adapts_requests_is_left_to_do_so(dialect):
    assert (
        problem({"temperature": 2, "top_k": 9}, dialect=dialect, model="claude-opus-5") is None
    )


def test_a_thousand_models_and_more_are_no_burden():
    preflight = rules()
    for number in range(1_001):
        preflight.problem(body(f"claude-{number}"))
    assert len(preflight._programs) <= 1_000


def builder(**options):
    return RequestBuilder(RequestSettings(**options), rules().problem)


def test_a_row_that_breaks_a_rule_is_a_bad_row_with_its_id():
    row = {"custom_id": "c", "params": body("claude-opus-5-5", temperature=0.2)}
    bad = builder().build(json.dumps(row).encode(), 1, 3, 17)
    assert isinstance(bad, BadRow)
    assert (bad.reason, bad.custom_id, bad.row_number) == ("TEMPERATURE_NOT_DEFAULT", "c", 3)


def test_what_the_job_adds_is_judged_too():
    raw = json.dumps({"prompt": "hi", "model": "claude-opus-5-5"}).encode()
    settings_ = {"max_tokens": 9, "parameters": {"tool_choice": {"type": "any"}}}
    assert builder(**settings_).build(raw, 1, 1, 0).reason == "TOOL_CHOICE_WITHOUT_TOOLS"
    assert isinstance(builder(max_tokens=9).build(raw, 1, 1, 0), Request)


def test_the_betas_of_a_row_are_known_to_the_rules():
    params = body(fallbacks="default")
    assert builder().build({"params": params}, 1, 1, None).reason == "FALLBACKS_BETA"
    betas = ["server-side-fallback-2026-07-01"]
    assert isinstance(builder().build({"params": params, "betas": betas}, 1, 1, None), Request)


LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(max_size=5),
    st.sampled_from(["text", "image", "document", "tool_use", "tool_result", "enabled", "any"]),
)
KEYS = st.sampled_from(
    [
        "type",
        "text",
        "source",
        "content",
        "cache_control",
        "ttl",
        "id",
        "tool_use_id",
        "name",
        "input",
        "format",
        "schema",
        "effort",
        "budget_tokens",
        "skills",
        "citations",
        "role",
        "properties",
        "$ref",
    ]
)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
BLOCKS = st.dictionaries(KEYS, VALUES, max_size=5).map(
    lambda b: {**b, "type": b["type"] if type(b.get("type")) is str else "text"}
)
MESSAGES = st.lists(
    st.builds(
        lambda role, content: {"role": role, "content": content},
        st.sampled_from(["user", "assistant", "system"]),
        st.text(max_size=3) | st.lists(BLOCKS, max_size=4),
    ),
    min_size=1,
    max_size=5,
)
MODELS = st.sampled_from(["claude-haiku-4-5", "claude-opus-5", "claude-sonnet-5-5", "gpt"])
PREFLIGHTS = [
    rules(dialect, version)
    for dialect in BOOK.dialects
    for version in ("2023-06-01", "2026-10-21")
]


@settings(max_examples=150, deadline=None)
@given(MODELS, MESSAGES, st.dictionaries(st.sampled_from(sorted(FIELDS)), VALUES, max_size=4))
def test_no_value_anywhere_makes_it_crash(model, messages, fields):
    params = {**body(), **fields, "model": model, "messages": messages}
    for preflight in PREFLIGHTS:
        found = preflight.problem(params)
        assert found is None or found.message


@settings(max_examples=100, deadline=None)
@given(st.lists(st.sampled_from(["user", "assistant"]), max_size=6), st.text(min_size=1))
def test_plain_conversations_of_the_user_pass_everywhere(roles, words):
    messages = [said(role, "x") for role in roles] + [said("user", words)]
    for preflight in PREFLIGHTS:
        assert preflight.problem(body(messages=messages)) is None
