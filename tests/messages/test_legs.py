"""Continuing a paused request."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.answer import parse_answer
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.legs import Leg, continuation_body, joined_content, joined_text, leg_of
from tests.making_runs import message

BODY = b'{"model":"m" , "messages":[ {"role":"user","content":"\\u00e4"} ],"max_tokens":9}'
FIRST = Leg(b'[{"type":"text" , "text":"a"}]', "a", None)
SECOND = Leg(b'[{"type":"web_search_tool_result","content":[]}]', "", "cont_2")


def test_the_next_body_is_the_first_with_each_leg_as_one_assistant_message_verbatim():
    assert continuation_body(BODY, [FIRST, SECOND]) == (
        b'{"model":"m","messages":[{"role":"user","content":"\\u00e4"},'
        b'{"role":"assistant","content":[{"type":"text" , "text":"a"}]},'
        b'{"role":"assistant","content":[{"type":"web_search_tool_result","content":[]}]}],'
        b'"max_tokens":9,"container":"cont_2"}'
    )


def test_the_last_container_wins_over_the_bodys_own():
    body = b'{"container":"mine","messages":[]}'
    legs = [Leg(b"[]", "", "one"), Leg(b"[]", "", "two"), Leg(b"[]", "", None)]
    assert json.loads(continuation_body(body, legs))["container"] == "two"
    assert json.loads(continuation_body(body, [FIRST]))["container"] == "mine"


def test_numbers_that_python_cannot_hold_stay_as_they_were():
    numbers = b'{"temperature":0.10000000000000000001,"seed":123456789012345678901234567890,'
    assert continuation_body(numbers + b'"messages":[]}', []).startswith(numbers)


def test_all_legs_together_say_everything_in_order():
    legs = [FIRST, SECOND, FIRST]
    assert json.loads(joined_content(legs)) == [
        {"type": "text", "text": "a"},
        {"type": "web_search_tool_result", "content": []},
        {"type": "text", "text": "a"},
    ]
    assert joined_text(legs) == "aa"


def test_a_leg_of_plain_text_continues_as_a_block():
    leg = leg_of(parse_answer(message(content="half")))
    body = json.loads(continuation_body(BODY, [leg]))
    assert body["messages"][-1]["content"] == [{"type": "text", "text": "half"}]


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"messages":5}', b"x"])
def test_a_body_without_messages_cannot_be_continued(body):
    with pytest.raises((KeyError, *CODEC_ERRORS)):
        continuation_body(body, [FIRST])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(st.dictionaries(st.text(max_size=5), JSON, max_size=4), st.lists(JSON, max_size=3))
def test_nothing_but_messages_and_container_ever_changes(fields, messages):
    body = {**fields, "messages": messages}
    after = json.loads(continuation_body(json.dumps(body).encode(), [FIRST]))
    assert after.pop("messages") == [
        *messages,
        {"role": "assistant", "content": [{"type": "text", "text": "a"}]},
    ]
    del body["messages"]
    assert after == body
