"""Counting the values of a JSON text without reading it."""

import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.codec import (
    MOST_BLOCKS,
    MOST_ITERATIONS,
    USAGE_LIMIT,
    has_more_parts,
)
from batcher.messages.usage import parse_usage

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


def values(value) -> int:
    """All that has a comma before it, and the first."""
    if isinstance(value, dict):
        value = list(value.values())
    if not isinstance(value, list) or not value:
        return 1
    return len(value) + sum(values(each) - 1 for each in value)


@given(JSON, st.booleans())
def test_it_counts_values_and_nothing_inside_of_strings(value, ascii_only):
    text = json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")
    count = values(value)
    assert not has_more_parts(text, count)
    assert has_more_parts(text, count - 1) is (text.count(b",") >= count - 1 and count > 1)


@pytest.mark.parametrize(
    "text",
    [b'"' + b'\\"' * 2**20, b'"' * 2**20 + b"," * 9, b"\\" * 2**20, b'["\\\n,",' + b"\\" * 9],
)
def test_no_text_makes_it_look_at_a_byte_again_and_again(text):
    has_more_parts(text + b"," * 5, 3)  # ends


def message(**fields):
    whole = {"type": "message", "role": "assistant", "content": [], **fields}
    return msgspec.json.encode(whole)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"content": [{}] * (MOST_BLOCKS + 1)}, "blocks"),
        ({"content": [{"type": "x", "a": [0] * 250_001}]}, "values"),
        ({"usage": {"iterations": [{}] * (MOST_ITERATIONS + 1)}}, "iterations"),
        ({"usage": {"a": "x" * USAGE_LIMIT}}, "bytes"),
    ],
)
def test_an_answer_with_too_many_parts_is_no_message(fields, words):
    with pytest.raises(NotAMessage, match=words):
        parse_answer(message(**fields))


def test_what_is_just_allowed_is_one():
    fields = {
        "content": [{"type": "text", "text": "a,"}] * MOST_BLOCKS,
        "usage": {"input_tokens": 1, "output_tokens": 1, "iterations": [{}] * MOST_ITERATIONS},
    }
    answer = parse_answer(message(**fields))
    assert len(answer.text) == 2 * MOST_BLOCKS
    assert len(parse_usage(answer.usage_raw).iterations) == MOST_ITERATIONS
