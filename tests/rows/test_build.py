import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.rows.making import build, builder, built, params, refused


def test_a_batch_row_is_sent_as_its_bytes_came():
    body = b'{ "messages":[{"content":"\\u00e9","role":"user"}],  "model":"m","max_tokens":7 }'
    request = built(b' {"custom_id": "a", "params": ' + body + b', "note": 1}\r')
    assert request.body == body
    assert (request.custom_id, request.model, request.max_tokens) == ("a", "m", 7)


def test_a_messages_body_is_sent_as_its_bytes_came():
    raw = json.dumps(params(temperature=0.5)).encode()
    assert built(raw + b"\r").body == raw


def test_everything_in_params_is_sent_and_nothing_beside_it():
    request = built({"params": params(future_field={"x": None}), "topic": 1})
    assert json.loads(request.body) == params(future_field={"x": None})


def test_local_columns_of_a_messages_body_stay_local():
    request = built({**params(), "id": 12, "topic": "x", "stream": None, "top_k": 3})
    assert json.loads(request.body) == params(top_k=3)
    assert request.custom_id == "12"


def test_pass_fields_are_sent():
    request = built({**params(), "guided": [1], "other": 2}, pass_fields=("guided",))
    assert json.loads(request.body) == params(guided=[1])


def test_a_prompt_row_becomes_one_user_message():
    request = built({"prompt": "hello", "system": "be kind"}, model="m", max_tokens=10)
    assert json.loads(request.body) == params(system="be kind")
    assert request.custom_id is None


def test_the_job_fills_what_a_row_leaves_out_and_a_row_wins():
    settings = {"model": "job", "max_tokens": 99, "system": "s", "parameters": {"top_k": 1}}
    request = built({"params": {**params(), "system": None, "top_k": 5}}, **settings)
    assert json.loads(request.body) == params(system="s", top_k=5)


@pytest.mark.parametrize("choice", ["auto", "any", "none"])
def test_a_tool_choice_given_as_a_string_is_sent_as_the_object(choice):
    for row in ({"params": params(tool_choice=choice)}, params(tool_choice=choice)):
        assert json.loads(built(row).body)["tool_choice"] == {"type": choice}


def test_betas_are_part_of_the_identity():
    plain, beta = built(params()), built(params(), betas=("b", "a"))
    assert beta.betas == ("b", "a")
    assert plain.params_hash != beta.params_hash
    assert beta.params_hash == built(params(), betas=("a", "b")).params_hash


def test_the_order_of_recognition_is_params_messages_prompt():
    row = {"prompt": "p", **params("messages"), "params": params("params")}
    beside = ("messages", "model", "max_tokens")
    assert b"params" in built(row, ignored=beside).body
    del row["params"]
    assert b"messages" in built(row).body


def test_broken_utf8_is_told_by_its_place_in_the_line():
    bad = build(b'{"prompt": "a", "x": "b\xff"}')
    assert bad.message == "the row is not valid UTF-8: invalid start byte (byte 23)"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (b"not json", "BAD_JSON"),
        (b'{"prompt": "a"} {}', "BAD_JSON"),
        (b'{"prompt": "a",}', "BAD_JSON"),
        (b'{"prompt": NaN}', "BAD_NUMBER"),
        (b'{"prompt": 1e999}', "BAD_NUMBER"),
        (b'{"n": ' + b"9" * 5000 + b"}", "BAD_NUMBER"),
        (b'{"prompt": "\\ud800"}', "BAD_UNICODE"),
        (b'{"prompt": "\\ud83d\\ude00"} {}', "BAD_JSON"),
        (b'{"prompt": "\\ud800", "n": NaN}', "BAD_UNICODE"),
        (b'{"prompt": "\\ud800", "n": 1e999}', "BAD_UNICODE"),
        (b'{"prompt": "\xff", "n": 1e999}', "BAD_UNICODE"),
        (b'{"prompt": \xff}', "BAD_UNICODE"),
        (b'{"prompt": "\xe2\x82', "BAD_UNICODE"),
        (b'{"prompt": "a", "x": "\xed\xa0\x80"}', "BAD_UNICODE"),
        (b'{"params": {"a\\u0000b": 1}}', "BAD_UNICODE"),
        (b"[1]", "NOT_OBJECT"),
        (b'"text"', "NOT_OBJECT"),
        (b"null", "NOT_OBJECT"),
        (b'{"a":' + b"[" * 150 + b"]" * 150 + b"}", "TOO_DEEP"),
        (b"[" * 100_000, "TOO_DEEP"),
        (b"[" * 100_000 + b"]" * 100_000, "TOO_DEEP"),
        ({"question": "x"}, "NO_PROMPT"),
        ({"prompt": " "}, "NO_PROMPT"),
        ({"params": None}, "NO_PROMPT"),
        ({"params": {"model": "m", "max_tokens": 1}}, "NO_PROMPT"),
        ({**params(), "messages": []}, "NO_PROMPT"),
        ({**params(), "messages": [{"role": "user"}]}, "NO_PROMPT"),
        ({"params": "text"}, "WRONG_TYPE"),
        ({"prompt": 5}, "WRONG_TYPE"),
        ({**params(), "messages": "hello"}, "WRONG_TYPE"),
        ({**params(), "messages": ["hello"]}, "WRONG_TYPE"),
        ({**params(), "messages": [{"role": "user", "content": 5}]}, "WRONG_TYPE"),
        ({**params(), "messages": [{"role": "user", "content": ["a"]}]}, "WRONG_TYPE"),
        (params(temperature="warm"), "WRONG_TYPE"),
        (params(stream="yes"), "WRONG_TYPE"),
        (params(tool_choice="maybe"), "WRONG_TYPE"),
        ({**params(), "max_tokens": True}, "WRONG_TYPE"),
        ({**params(), "max_tokens": 1.5}, "WRONG_TYPE"),
        ({**params(), "max_tokens": -1}, "WRONG_TYPE"),
        ({**params(), "model": ""}, "WRONG_TYPE"),
        ({**params(), "model": 3}, "WRONG_TYPE"),
        ({**params(), "messages": [{"role": "bot", "content": "x"}]}, "BAD_ROLE"),
        ({**params(), "messages": [{"role": [], "content": "x"}]}, "BAD_ROLE"),
        ({**params(), "messages": [{"content": "x"}]}, "BAD_ROLE"),
        ({"prompt": "x", "model": "m"}, "MISSING_MAX_TOKENS"),
        ({"prompt": "x", "max_tokens": 1}, "MISSING_MODEL"),
        ({"custom_id": True, "params": params()}, "BAD_CUSTOM_ID"),
        ({"custom_id": 1.5, "params": params()}, "BAD_CUSTOM_ID"),
        ({"custom_id": "a\0", "params": params()}, "BAD_CUSTOM_ID"),
        ({"custom_id": "x" * 1001, "params": params()}, "BAD_CUSTOM_ID"),
    ],
    ids=str,
)
def test_a_bad_row_has_its_reason(row, reason):
    bad = refused(row)
    assert bad.reason == reason
    assert 0 < len(bad.message) <= 500
    assert "\0" not in bad.message


def test_a_bad_row_keeps_its_custom_id():
    assert refused({"custom_id": "c", "prompt": ""}).custom_id == "c"


def test_a_custom_id_may_be_an_integer_and_an_odd_id_is_just_data():
    assert built({"custom_id": 17, "params": params()}).custom_id == "17"
    assert built({"id": {"$oid": "x"}, "params": params()}).custom_id is None
    assert built({"custom_id": "", "params": params()}).custom_id is None


def test_what_only_the_provider_can_judge_is_let_through():
    content = [{"type": "future_block", "x": 1}]
    built({**params(), "messages": [{"role": "system", "content": content}], "max_tokens": 0})
    built(params(), parameters={"temperature": 7})
    assert built(params("nul \0 in text")).model == "m"


def test_a_hundred_levels_are_not_too_deep():
    value = "x"
    for _ in range(99):
        value = [value]
    assert (
        build(json.dumps({**params(), "metadata": None, "local": value}).encode()).model == "m"
    )


SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text())
VALUES = st.recursive(
    st.one_of(SCALARS, st.floats(allow_nan=False, allow_infinity=False)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def shuffled(value):
    """The same JSON with its keys in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


@given(st.text(min_size=1), VALUES)
def test_identity_survives_reordering_and_reserialising(text, value):
    row = {"custom_id": "a", "params": params(text, extra={"value": value})}
    again = json.dumps(shuffled(row), ensure_ascii=False, indent=None, separators=(" ,", " : "))
    first = build(json.dumps(row).encode())
    second = build(again.encode("utf-8", "surrogatepass"))
    assert getattr(first, "params_hash", None) == getattr(second, "params_hash", None)


@given(VALUES)
def test_no_value_anywhere_makes_it_crash(value):
    raw = msgspec.json.encode(value)
    build(raw)
    for name in ("params", "messages", "prompt", "custom_id", "model", "system", "tool_choice"):
        row = {**params(), "prompt": "x", name: value}
        for raw in (msgspec.json.encode(row), row):
            builder(model="m", max_tokens=1).build(raw, 1, 1, None)
        build(msgspec.json.encode({"params": {**params(), name: value}}))


def test_of_a_repeated_field_the_last_counts():
    first, last = (json.dumps(params(text)).encode() for text in ("first", "last"))
    request = built(b'{"params":' + first + b',"par\\u0061ms":' + last + b"}")
    assert request.body == last
    assert request.params_hash == built({"params": params("last")}).params_hash
