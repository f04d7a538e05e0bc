"""From the bytes of a body to an answer."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.answer import NotAMessage, parse_answer
from batcher.messages.usage import Usage
from tests.making_runs import message

FULL = (
    b'{"id":"msg_01AAA","type":"message","role":"assistant","model":"claude-sonnet-4-6",'
    b'"content":[{"type":"text","text":"4","citations":null}],"stop_reason":"end_turn",'
    b'"stop_sequence":null,"stop_details":null,"container":null,"usage":{"input_tokens":21,'
    b'"cache_creation_input_tokens":1200,"cache_read_input_tokens":0,"cache_creation":'
    b'{"ephemeral_5m_input_tokens":1200,"ephemeral_1h_input_tokens":0},"output_tokens":5,'
    b'"output_tokens_details":{"thinking_tokens":0},"server_tool_use":null,'
    b'"service_tier":"standard","inference_geo":"global","speed":"standard"}}'
)


def without(*names: str, **fields: object) -> bytes:
    whole = json.loads(message(**fields))
    return json.dumps({name: whole[name] for name in whole if name not in names}).encode()


def test_a_full_answer_is_read_with_every_meter():
    answer = parse_answer(FULL)
    assert (answer.message_id, answer.text, answer.stop_reason) == (
        "msg_01AAA",
        "4",
        "end_turn",
    )
    assert answer.stop_details is answer.container_id is None
    assert answer.usage == Usage(
        input_tokens=21,
        cache_write_tokens=1200,
        cache_write_5m_tokens=1200,
        cache_write_1h_tokens=0,
        cache_read_tokens=0,
        output_tokens=5,
        thinking_tokens=0,
        service_tier="standard",
        inference_geo="global",
        speed="standard",
    )


def test_content_and_usage_stay_as_received_byte_for_byte():
    body = (
        b'{"role":"assistant","content": [ {"text" : "\\u00e4" ,"type":"text"} ],"usage":{ }}'
    )
    answer = parse_answer(body)
    assert answer.content == b'[ {"text" : "\\u00e4" ,"type":"text"} ]'
    assert (answer.text, answer.usage_raw, answer.usage) == ("ä", b"{ }", None)


def test_a_refusal_without_content_is_an_answer_with_its_details():
    details = {"type": "refusal", "category": "cyber", "explanation": "no"}
    answer = parse_answer(message(content=[], stop_reason="refusal", stop_details=details))
    assert (answer.is_empty, answer.text, answer.stop_reason) == (True, "", "refusal")
    assert json.loads(answer.stop_details) == details


@pytest.mark.parametrize(
    "missing", ["type", "role", "id", "stop_sequence", "stop_reason", "usage", "model"]
)
def test_a_compatible_server_may_leave_a_field_out(missing):
    answer = parse_answer(without(missing))
    assert answer.text == "yes"


def test_plain_text_as_content_becomes_one_text_block():
    answer = parse_answer(message(content='say "hi"'))
    assert answer.text == 'say "hi"'
    assert json.loads(answer.content) == [{"type": "text", "text": 'say "hi"'}]


def test_only_text_blocks_are_text_and_nothing_is_put_between_them():
    blocks = [
        {"type": "thinking", "thinking": "hm", "signature": "S"},
        {"type": "text", "text": "a"},
        {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {}},
        {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []},
        {"type": "text", "text": "b"},
        {"type": "text", "text": None},
    ]
    assert parse_answer(message(content=blocks)).text == "ab"


def test_a_nul_in_the_text_is_replaced_and_flagged_while_the_content_keeps_it():
    answer = parse_answer(message("a\0b"))
    assert (answer.text, answer.text_repaired) == ("a\ufffdb", True)
    assert b"a\\u0000b" in answer.content


def test_a_nul_in_any_other_field_is_replaced():
    answer = parse_answer(
        message(
            id="m\0",
            model="m\0",
            stop_reason="s\0",
            stop_sequence="q\0",
            container={"id": "c\0"},
        )
    )
    assert (answer.message_id, answer.model, answer.stop_reason) == ("m\ufffd",) * 2 + (
        "s\ufffd",
    )
    assert (answer.stop_sequence, answer.container_id) == ("q\ufffd", "c\ufffd")


@pytest.mark.parametrize(
    ("escaped", "text"),
    [
        (rb"a\ud83d", "a\ufffd"),
        (rb"\uDE00b", "\ufffdb"),
        (rb"\ud83d\ud83d\ude00", "\ufffd\U0001f600"),
        (rb"\ud83d\u0041", "\ufffdA"),
        (rb"\\\ud83d", "\\\ufffd"),
    ],
)
def test_half_a_surrogate_pair_costs_one_character_and_not_the_paid_answer(escaped, text):
    answer = parse_answer(message("WORDS").replace(b"WORDS", escaped))
    assert (answer.text, answer.text_repaired) == (text, True)
    assert answer.usage.is_known


def test_what_only_looks_like_half_a_pair_is_left_alone():
    answer = parse_answer(message("WORDS").replace(b"WORDS", rb"\\ud83d \ud83d\ude00"))
    assert (answer.text, answer.text_repaired) == ("\\ud83d \U0001f600", False)


@pytest.mark.parametrize("container", ["text", 5, [], {"id": None}, None])
def test_a_strange_container_is_no_container(container):
    assert parse_answer(message(container=container)).container_id is None


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"<html>",
        FULL[:-1],
        FULL + b"x",
        b'{"error":{"message":"boom"}}',
        b'{"type":"error","error":{"type":"overloaded_error","message":"no"}}',
        b'{"content":[]}',
        b'{"type":"completion","content":[]}',
        b'{"type":"message","role":"assistant"}',
        b'{"type":"message","content":null}',
        b'{"type":"message","content":5}',
        b'{"type":"message","content":[5]}',
        b'{"type":"message","content":[{"type":"text","text":5}]}',
        b'{"type":"message","content":[],"model":5}',
        b'{"type":"message","content":"\xff"}',
        b'{"type":"message","content":[],"other":"\xff"}',
        b'{"type":"message","content":[],"usage":{"speed":"\xc3\x28"}}',
        b'{"type":"message","content":[],"usage":[1}',
    ],
)
def test_what_is_no_message_is_refused_with_a_reason(body):
    with pytest.raises(NotAMessage, match=r"[a-z]"):
        parse_answer(body)


@pytest.mark.parametrize("depth", [150, 400, 600, 5_000, 100_000])
@pytest.mark.parametrize(
    ("begin", "end"),
    [
        (b'"content":' + b"[", b"]"),
        (b'"content":[],"x":' + b"[", b"]"),
        (b'"content":[],"container":{"x":' + b"[", b"]}"),
        (b'"content":[],"usage":{"x":' + b"[", b"]}"),
        (b'"content":[],"usage":{"iterations":[', b"]}"),
    ],
)
def test_deep_nesting_is_read_or_refused_and_never_breaks_out(begin, end, depth):
    opening, closing = begin[-1:], end[:1]
    if b"iterations" in begin:
        opening, closing = b'{"iterations":[', b"]}"
    body = b'{"type":"message",' + begin + opening * depth + closing * depth + end + b"}"
    with contextlib.suppress(NotAMessage):
        assert parse_answer(body).content


@given(st.binary(max_size=60))
def test_any_bytes_at_all_are_an_answer_or_no_message(noise):
    for body in (noise, FULL[:200] + noise, FULL.replace(b'"4"', noise, 1)):
        with contextlib.suppress(NotAMessage):
            assert isinstance(parse_answer(body).content, bytes)


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]))))
def test_the_text_is_always_storable_and_all_of_it(texts):
    blocks = [{"type": "text", "text": text} for text in texts]
    answer = parse_answer(message(content=blocks))
    assert answer.text == "".join(texts).replace("\0", "\ufffd")
    assert answer.text_repaired == ("\0" in "".join(texts))
