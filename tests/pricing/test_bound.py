"""The bound: what a request can cost at most, and when nobody can say."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pricing.book.book import load_shipped, parse_book
from batcher.pricing.rate.bounds import (
    cost_bound,
    input_token_bound,
    request_bound,
    search_bound,
)
from batcher.pricing.rate.rating import ChargeStatus, rate
from tests.pricing.answers import DAY, NOVEMBER, answer, tokens

BOOK = load_shipped()
MODELS = BOOK.lists["anthropic"].models()


def bound(model="claude-opus-5", max_tokens=100, tokens_in=1_000, **others):
    given = {"price_list": "anthropic", "sent_at": NOVEMBER, "book": BOOK, **others}
    return cost_bound(model=model, max_tokens=max_tokens, input_bound_tokens=tokens_in, **given)


def body(content="hello", model="claude-opus-5", **others):
    message = {"role": "user", "content": content}
    return {"model": model, "max_tokens": 10, "messages": [message], **others}


def input_bound(params):
    return input_token_bound(params, len(json.dumps(params)))


def image(data="A" * 1_000):
    return {"type": "image", "source": {"type": "base64", "data": data}}


def test_the_bound_is_the_dearest_write_and_output_of_fast_mode_in_the_us():
    assert bound() == 1_000 * 22_000_000 + 100 * 55_000_000


def test_the_bound_of_a_model_with_tiers_is_at_the_dearer_one():
    assert bound("claude-haiku-5-5", 1, 1) == 1_100_000 + 2_750_000


def test_in_batches_it_is_at_their_rates_where_there_are_any():
    in_us = 11 * 10_000_000 // 10 // 2, 11 * 25_000_000 // 10 // 2  # 1.1 x, half the price
    assert bound(in_batches=True) == 1_000 * in_us[0] + 100 * in_us[1]
    book = parse_book(
        'version = "1"\n[[rates]]\nmodel = "mine"\nvalid_from = 2025-01-01\n'
        'input = "1"\noutput = "2"\n'
    )
    mine = {"model": "mine", "book": book}
    assert bound(**mine, in_batches=True) == bound(**mine)


def test_a_price_of_tomorrow_counts_since_it_may_be_past_midnight_when_sent():
    launch_of_haiku_5_5 = NOVEMBER - 45 * DAY
    assert bound("claude-haiku-5-5", sent_at=launch_of_haiku_5_5 - 1) is not None
    assert bound("claude-haiku-5-5", sent_at=launch_of_haiku_5_5 - 2 * DAY) is None


@pytest.mark.parametrize(
    "missing",
    [
        {"model": "claude-unknown"},
        {"max_tokens": None},
        {"tokens_in": None},
        {"price_list": None},
        {"price_list": "stranger"},
        {"max_tokens": 10**13},
    ],
)
def test_what_is_unknown_has_no_bound(missing):
    assert bound(**missing) is None


def test_a_model_without_an_output_price_has_no_bound():
    text = 'version = "1"\n[[rates]]\nmodel = "m"\nvalid_from = 2026-01-01\ninput = "1"\n'
    assert bound("m", book=parse_book(text)) is None


def test_text_is_bounded_by_its_bytes():
    params = body("hello")
    assert input_bound(params) == len(json.dumps(params))
    params = body([{"type": "text", "text": "hello"}, {"type": "tool_result", "content": "x"}])
    assert input_bound(params) == len(json.dumps(params))


def test_an_image_counts_as_an_image_and_not_as_base64():
    params = body([image(), {"type": "tool_result", "content": [image()]}])
    assert input_bound(params) == len(json.dumps(params)) - 2_000 + 2 * 4_784


def test_tools_bring_a_hidden_prompt_each_kind_of_their_own():
    custom = body(tools=[{"name": "a", "input_schema": {}}, {"name": "b"}])
    assert input_bound(custom) == len(json.dumps(custom)) + 2_000
    typed = body(tools=[{"type": "bash_20250124"}, {"type": "text_editor_20250728"}])
    assert input_bound(typed) == len(json.dumps(typed)) + 4_000


@pytest.mark.parametrize(
    "block",
    [
        {"type": "document", "source": {"type": "base64", "data": "AAAA"}},
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {"type": "container_upload", "file_id": "file_1"},
        {"type": "web_search_tool_result", "content": []},
        {"type": "something_new"},
        "no block",
    ],
)
def test_what_is_not_in_the_body_is_bounded_by_the_context_window(block):
    assert input_bound(body([block])) == 1_000_000
    assert input_bound(body([block], model="claude-haiku-4-5-20251001")) == 200_000
    assert input_bound(body([block], model="stranger")) is None


def test_a_text_document_is_text():
    block = {"type": "document", "source": {"type": "text", "data": "words"}}
    nested = {"type": "document", "source": {"type": "content", "content": [image("A" * 50)]}}
    params = body([block, nested])
    assert input_bound(params) == len(json.dumps(params)) - 50 + 4_784


def test_server_tools_sample_once_more_than_they_are_used():
    tools = [
        {"type": "web_search_20250305", "max_uses": 3},
        {"type": "web_fetch_20250910", "max_uses": 1},
    ]
    assert input_bound(body(tools=tools)) == 5_000_000
    assert search_bound(body(tools=tools)) == 3


@pytest.mark.parametrize(
    "fields",
    [
        {"tools": [{"type": "web_search_20250305"}]},
        {"tools": [{"type": "web_search_20250305", "max_uses": True}]},
        {"tools": [{"type": "web_search_20250305", "max_uses": -1}]},
        {"tools": [{"type": "code_execution_20250825"}]},
        {"tools": [{"type": "advisor_20260301", "model": "claude-fable-5"}]},
        {"fallbacks": "default"},
        {"mcp_servers": []},
        {"context_management": {"edits": [{"type": "compact_20260112"}]}},
    ],
)
def test_what_runs_as_often_as_the_server_likes_has_no_bound(fields):
    assert input_bound(body(**fields)) is None
    params = body(**fields)
    assert (
        request_bound(params, 100, price_list="anthropic", sent_at=NOVEMBER, book=BOOK) is None
    )


def test_clearing_old_tool_uses_keeps_the_bound():
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    assert input_bound(body(context_management=edits)) is not None


def test_a_request_bound_includes_the_searches():
    plain = body(tools=[{"type": "web_fetch_20250910", "max_uses": 2}])
    search = body(tools=[{"type": "web_search_20250305", "max_uses": 2}])
    bounds = [
        request_bound(params, 100, price_list="anthropic", sent_at=NOVEMBER, book=BOOK)
        for params in (plain, search)
    ]
    assert bounds[1] - bounds[0] == 2 * 10_000_000_000


@pytest.mark.parametrize("broken", [{"messages": None}, {"messages": ["x"]}, {"tools": "x"}])
def test_a_body_that_the_server_will_refuse_still_has_a_bound(broken):
    assert input_token_bound(body(**broken), 100) >= 100


@given(
    st.sampled_from(MODELS),
    st.integers(0, 10**6),
    st.integers(0, 10**5),
    st.lists(st.integers(0, 10**6), min_size=3, max_size=3).map(sorted),
    st.sampled_from([{}, {"service_tier": "batch"}, {"speed": "fast"}]),
    st.sampled_from([{}, {"inference_geo": "us"}]),
)
def test_no_answer_costs_more_than_its_bound(model, prompt, output, cuts, terms, place):
    cuts = [min(cut, prompt) for cut in cuts]
    split = {
        "ephemeral_5m_input_tokens": cuts[0],
        "ephemeral_1h_input_tokens": cuts[1] - cuts[0],
    }
    usage = tokens(prompt - cuts[2], output, cache_creation_input_tokens=cuts[1],
                   cache_creation=split, cache_read_input_tokens=cuts[2] - cuts[1],
                   **terms, **place)  # fmt: skip
    (charge,) = rate(answer(usage, model), requested_model=model, price_list="anthropic",
                     sent_at=NOVEMBER, book=BOOK)  # fmt: skip
    if charge.status is ChargeStatus.PRICED:
        assert charge.total <= bound(model, output, prompt)
        if terms.get("service_tier") == "batch":
            assert charge.total <= bound(model, output, prompt, in_batches=True)
