"""Which requests are streamed, what is sent then, and what a break costs at least."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.answer import billed_at_least
from batcher.messages.request import needs_stream, params_hash, plain_body, streaming_body
from tests.messages.stream_making import made, whole


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({"max_tokens": 21_333}, False),
        ({"max_tokens": 21_334}, True),
        ({"max_tokens": 5, "thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
        ({"max_tokens": 5, "thinking": {"type": "adaptive"}}, True),
        ({"max_tokens": 5, "thinking": {"type": "disabled"}}, False),
        ({"max_tokens": 5, "thinking": None}, False),
        ({"max_tokens": 5, "stream": True}, True),
        ({"max_tokens": 5, "stream": False}, False),
        ({"max_tokens": 0, "thinking": {"type": "adaptive"}}, False),
        ({}, False),
    ],
)
def test_long_answers_thinking_and_rows_that_ask_are_streamed(params, expected):
    assert needs_stream(params) is expected


BODIES = st.dictionaries(
    st.sampled_from(["model", "stream", "x", "ä"]) | st.text(max_size=3),
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just({"stream": 1}),
    min_size=1,
)


@given(BODIES, st.sampled_from([None, 1]))
def test_a_streaming_body_is_the_same_request_with_stream_true(params, indent):
    body = json.dumps(params, indent=indent, ensure_ascii=False).encode()
    streaming = json.loads(streaming_body(body))
    assert streaming == params | {"stream": True}
    assert params_hash(streaming) == params_hash(params)


@given(BODIES)
def test_a_plain_body_is_the_same_request_without_stream(params):
    body = json.dumps(params).encode()
    plain = {name: value for name, value in params.items() if name != "stream"}
    assert json.loads(plain_body(body)) == plain
    assert json.loads(plain_body(streaming_body(body))) == plain


def test_a_body_without_stream_keeps_every_byte():
    body = b' { "model" : "m", "n": 1.50 }'
    assert streaming_body(body) == b'{"stream":true, "model" : "m", "n": 1.50 }'
    assert plain_body(body) is body


def broken(text, **usage):
    return whole(made([{"type": "text", "text": text}], stop_reason=None, usage=usage))


def output_of(answer):
    return billed_at_least(answer).usage.output_tokens


def test_delivered_words_are_billed_at_least():
    assert output_of(broken("one two three four five", output_tokens=1)) == 5
    assert output_of(broken("one two", output_tokens=7)) == 7
    assert output_of(broken("", output_tokens=None)) == 0


def test_words_of_one_letter_count_a_quarter_of_their_characters():
    assert output_of(broken("a b c d e f g h", output_tokens=1)) == 3


def test_unknown_usage_stays_unknown_and_what_is_kept_is_as_it_came():
    nothing = whole(made([], usage=None))
    assert billed_at_least(nothing) is nothing
    answer = broken("one two three four five", output_tokens=1)
    assert billed_at_least(answer).usage_raw == answer.usage_raw
