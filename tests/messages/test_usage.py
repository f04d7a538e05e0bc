"""Token counts as servers report them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.usage import MAX_TOKENS_PLAUSIBLE, Usage, parse_usage


def usage(**fields: object) -> Usage | None:
    return parse_usage(json.dumps(fields).encode())


@pytest.mark.parametrize("raw", [None, b"null", b"{}", b"[]", b'"x"', b"7"])
def test_no_usage_object_is_unknown_usage(raw):
    assert parse_usage(raw) is None


def test_a_minimal_usage_leaves_everything_else_unreported():
    assert usage(input_tokens=18, output_tokens=34) == Usage(input_tokens=18, output_tokens=34)


def test_nulls_are_not_reported_rather_than_zero():
    found = usage(input_tokens=None, output_tokens=None, cache_creation=None, service_tier=None)
    assert found == Usage()
    assert not found.is_known


def test_openai_names_are_understood():
    found = usage(prompt_tokens=7, completion_tokens=9, total_tokens=16)
    assert (found.input_tokens, found.output_tokens, found.is_known) == (7, 9, True)


def test_the_apis_own_names_win_over_openai_names():
    assert usage(input_tokens=1, prompt_tokens=7, output_tokens=2).input_tokens == 1


@pytest.mark.parametrize("value", [7, 7.0, "7", "7.0"], ids=repr)
def test_a_count_may_be_an_integer_a_whole_float_or_text(value):
    assert usage(input_tokens=value).input_tokens == 7


@pytest.mark.parametrize(
    "value",
    [
        -1,
        1.5,
        True,
        "x",
        "",
        "nan",
        "inf",
        "-inf",
        [],
        {},
        MAX_TOKENS_PLAUSIBLE + 1,
        "1e10",
        "9" * 5000,
    ],
)
def test_a_count_that_is_none_is_not_known_and_named(value):
    found = usage(output_tokens=value, input_tokens=7)
    assert (found.output_tokens, found.input_tokens) == (None, 7)
    assert found.odd == ("output_tokens",)


def test_a_number_of_hundreds_of_digits_is_not_known():
    found = parse_usage(b'{"input_tokens":1' + b"0" * 400 + b"}")
    assert found is None or found.odd == ("input_tokens",)


def test_openai_takes_cached_tokens_for_a_part_of_the_prompt():
    parts = {"cached_tokens": 6752}
    found = usage(prompt_tokens=9888, completion_tokens=20, prompt_tokens_details=parts)
    assert (found.input_tokens, found.cache_read_tokens) == (3136, 6752)
    assert (found.output_tokens, found.holds_whole_prompt) == (20, True)
    assert (found.odd, found.input_at_most) == ((), None)


@pytest.mark.parametrize(("own", "left"), [(100, 100), (1000, 100)])
def test_both_spellings_side_by_side_are_one_prompt(own, left):
    found = usage(
        prompt_tokens=1000, input_tokens=own, cache_read_input_tokens=900, output_tokens=2
    )
    assert (found.input_tokens, found.cache_read_tokens, found.odd) == (left, 900, ())


def test_what_was_written_may_stand_beside_the_prompt_or_in_it():
    found = usage(prompt_tokens=1000, cache_creation_input_tokens=300, output_tokens=2)
    assert (found.input_tokens, found.input_at_most) == (700, 1000)


def test_how_long_is_kept_what_was_written_stands_among_the_details_of_litellm():
    split = {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 200}
    parts = {"cached_tokens": 0, "cache_creation_token_details": split}
    found = usage(prompt_tokens=1000, completion_tokens=2, prompt_tokens_details=parts)
    written = found.cache_write_tokens, found.cache_write_5m_tokens, found.cache_write_1h_tokens
    assert (written, found.odd) == ((300, 100, 200), ())
    own = {"ephemeral_5m_input_tokens": 300, "ephemeral_1h_input_tokens": 0}
    both = usage(prompt_tokens=1000, cache_creation=own, prompt_tokens_details=parts)
    assert (both.cache_write_1h_tokens, both.odd) == (0, ("cache_creation",))


@pytest.mark.parametrize(
    "name", ["cache_creation_tokens", "cache_write_tokens", "cache_creation_input_tokens"]
)
def test_what_was_written_has_other_names_among_the_details(name):
    found = usage(prompt_tokens=1000, completion_tokens=2, prompt_tokens_details={name: 300})
    assert (found.cache_write_tokens, found.input_tokens) == (300, 700)
    both = usage(cache_creation_input_tokens=200, prompt_tokens_details={name: 300})
    assert both.odd == ("cache_spelling",)


def test_spellings_that_cannot_both_be_read_leave_both_ends():
    found = usage(prompt_tokens=1000, input_tokens=400, output_tokens=2, completion_tokens=3)
    assert (found.input_tokens, found.input_at_most, found.odd) == (400, 1000, ("prompt",))
    assert (found.output_tokens, found.output_at_most) == (2, 3)


@pytest.mark.parametrize("count", [0, MAX_TOKENS_PLAUSIBLE])
def test_the_limits_themselves_are_plausible(count):
    assert usage(input_tokens=count).input_tokens == count


def test_a_missing_total_of_cache_writes_is_the_sum_of_its_parts():
    split = {"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4}
    assert usage(cache_creation=split).cache_write_tokens == 7
    assert usage(cache_creation=split, cache_creation_input_tokens=7).cache_write_1h_tokens == 4


def test_thinking_and_searches_come_from_their_objects():
    found = usage(
        output_tokens_details={"thinking_tokens": 2}, server_tool_use={"web_search_requests": 3}
    )
    assert (found.thinking_tokens, found.web_search_requests) == (2, 3)


def test_iterations_keep_their_own_model_and_kind():
    steps = [
        {"type": "message", "input_tokens": 1, "output_tokens": 2},
        {"type": "advisor_message", "model": "claude-opus-5", "input_tokens": 3},
        "noise",
    ]
    first, second = usage(iterations=steps).iterations
    assert (first.kind, first.output_tokens) == ("message", 2)
    assert (second.kind, second.model, second.output_tokens) == (
        "advisor_message",
        "claude-opus-5",
        None,
    )


@pytest.mark.parametrize("broken", ["x", 5, {"input_tokens": 1}])
def test_iterations_that_are_no_list_are_none(broken):
    assert usage(input_tokens=1, iterations=broken).iterations == ()


def test_words_lose_their_nul_and_a_stated_cost_is_kept_verbatim():
    found = usage(service_tier="a\0", cost=0.00012)
    assert (found.service_tier, found.provider_reported_cost) == ("a\ufffd", "0.00012")
    assert usage(cost="1\0").provider_reported_cost == "1\ufffd"


@given(st.integers(0, MAX_TOKENS_PLAUSIBLE))
def test_every_plausible_count_survives_in_every_spelling(count):
    assert usage(input_tokens=count, output_tokens=str(count)) == Usage(
        input_tokens=count, output_tokens=count
    )


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=6,
    )
)
def test_any_value_of_a_count_is_a_plausible_number_or_not_known(value):
    found = usage(input_tokens=value)
    count = None if found is None else found.input_tokens
    assert count is None or (type(count) is int and 0 <= count <= MAX_TOKENS_PLAUSIBLE)


# What the documented fields may hold, with things that they should not.
_COUNTS = st.one_of(
    st.none(),
    st.integers(-1, 9),
    st.just(MAX_TOKENS_PLAUSIBLE + 1),
    st.sampled_from([1.0, "3"]),
)
_WORDS = st.one_of(st.none(), st.sampled_from(["standard", "", "a\0b", "é"]), st.just(5))


def _part(*names: str) -> st.SearchStrategy[object]:
    counts = st.dictionaries(st.sampled_from(names), _COUNTS)
    return st.one_of(st.none(), counts, st.just([]))


_PARTS = {
    "input_tokens": _COUNTS,
    "output_tokens": _COUNTS,
    "cache_creation_input_tokens": _COUNTS,
    "cache_read_input_tokens": _COUNTS,
    "cache_creation": _part("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"),
    "output_tokens_details": _part("thinking_tokens", "other"),
    "server_tool_use": _part("web_search_requests", "web_fetch_requests", "code"),
    "service_tier": _WORDS,
    "inference_geo": _WORDS,
    "speed": _WORDS,
    "iterations": st.sampled_from([None, [], [{"input_tokens": 1}]]),
    "prompt_tokens": _COUNTS,
    "cost": _COUNTS,
    "new": _WORDS,
}


@given(st.fixed_dictionaries({}, optional=_PARTS))
def test_usage_is_read_the_same_beside_a_field_that_nobody_knows(fields):
    """Such a field changes nothing, but it takes usage off the short way."""
    assert usage(**fields, unknown=None) == usage(**fields) or not fields


@pytest.mark.parametrize("names", [("input_tokens", "output_tokens"),
                                   ("prompt_tokens", "completion_tokens")])  # fmt: skip
@pytest.mark.parametrize(
    ("total", "most"),
    [(425, 325), (126, 26), (125, None), (11, None), (0, None), (None, None), ("425", None),
     (10**11, None)],
)  # fmt: skip
def test_a_total_that_the_counts_do_not_explain_may_be_output(names, total, most):
    found = usage(**dict(zip(names, (100, 25), strict=True)), total_tokens=total)
    assert (found.input_tokens, found.output_tokens, found.output_at_most) == (100, 25, most)


def test_a_total_may_count_what_was_cached_or_not():
    for total in (125, 625, 1_125):
        found = usage(input_tokens=100, output_tokens=25, cache_read_input_tokens=500,
                      cache_creation_input_tokens=500, total_tokens=total)  # fmt: skip
        assert found.output_at_most is None
