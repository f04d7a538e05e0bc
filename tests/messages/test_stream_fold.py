"""A stream adds up to the message that would have come whole, or is not complete."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.messages.answer import NotAMessage, parse_answer
from batcher.simulator.wire.forms import SWITCHES
from tests.messages.stream_making import (
    FIXTURE,
    MESSAGES,
    STOP,
    answer_in,
    begun,
    block,
    delta,
    ended,
    fold,
    meaning,
    sse,
    stream_of,
    whole,
)

FORMS = sorted(set(SWITCHES) - {"json", "no_usage"})
STREAMS = {"fixture": FIXTURE} | {name: stream_of(each) for name, each in MESSAGES.items()}
EVERY_STREAM = pytest.mark.parametrize("name", sorted(STREAMS))


# --- whole streams


@pytest.mark.parametrize(
    ("pieces", "text", "repaired"),
    [
        (["a\ud83d", "\ude00b"], "a\U0001f600b", False),
        (["\ud83d", "", "\ude00"], "\U0001f600", False),
        (["a\ud83d", "b"], "a\ufffdb", True),
        (["\ude00", "\ud83d"], "\ufffd\ufffd", True),
    ],
)
def test_an_emoji_that_is_cut_between_two_deltas_is_one_again(pieces, text, repaired):
    deltas = [delta(0, "text_delta", text=piece) for piece in pieces]
    answer = answer_in(sse(begun(), block(0, type="text", text=""), *deltas, ended(), STOP))
    assert (answer.text, answer.text_repaired) == (text, repaired)
    assert json.loads(answer.content)[0]["text"] == text


def test_a_tool_input_that_is_cut_within_an_emoji_is_whole_again():
    pieces = ['{"a":"\ud83d', '\ude00"}']
    deltas = [delta(0, "input_json_delta", partial_json=piece) for piece in pieces]
    tool = block(0, type="tool_use", id="t", name="f", input={})
    answer = answer_in(sse(begun(), tool, *deltas, ended("tool_use"), STOP))
    assert json.loads(answer.content)[0]["input"] == {"a": "\U0001f600"}


@pytest.mark.parametrize("name", sorted(MESSAGES))
@pytest.mark.parametrize("form", ["", *FORMS])
def test_a_stream_in_any_form_is_the_message_it_was_made_of(name, form):
    stream = fold(stream_of(MESSAGES[name], *([form] if form else [])))
    assert stream.is_complete
    assert (stream.error, stream.violation) == (None, None)
    assert meaning(parse_answer(stream.message())) == meaning(whole(MESSAGES[name]))


def test_all_forms_together_are_understood():
    message = MESSAGES["blocks of every kind"]
    forms = set(FORMS) - {"cr", "no_stop", "no_blank"}
    assert meaning(answer_in(stream_of(message, *forms))) == meaning(whole(message))


def test_the_fixture_of_the_reference_adds_up():
    answer = answer_in(FIXTURE)
    assert json.loads(answer.content) == [
        {"type": "thinking", "thinking": "", "signature": "SIG"},
        {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}},
    ]
    assert (answer.stop_reason, answer.message_id) == ("tool_use", "msg_3")
    assert (answer.usage.input_tokens, answer.usage.output_tokens) == (10682, 89)
    assert answer.usage.service_tier == "standard"


# --- cut and split at every byte


@EVERY_STREAM
def test_split_at_every_byte_a_stream_stays_the_same(name):
    stream = STREAMS[name]
    expected = fold(stream).message()
    for at in range(len(stream)):
        assert fold(stream[:at], stream[at:]).message() == expected
    assert fold(*(bytes([byte]) for byte in stream)).message() == expected


@EVERY_STREAM
def test_cut_at_any_byte_a_stream_is_complete_only_with_its_stop_reason(name):
    stream = STREAMS[name]
    expected = fold(stream).message()
    first_end = stream.index(b"\n", stream.index(b'data: {"type":"message_delta"'))
    for at in range(len(stream)):
        cut = fold(stream[:at])
        assert cut.is_complete == (at >= first_end)
        assert cut.error is None
        if cut.is_complete:
            assert cut.message() == expected


@EVERY_STREAM
def test_cut_at_any_byte_what_has_begun_has_its_input_and_what_came(name):
    stream = STREAMS[name]
    full = answer_in(stream)
    for at in range(0, len(stream), 7):
        cut = fold(stream[:at])
        if cut.has_begun:
            answer = parse_answer(cut.message())
            assert answer.usage.input_tokens <= full.usage.input_tokens
            assert full.text.startswith(answer.text)
        else:
            assert bytes(cut.raw) == stream[:at]


# --- mutations

CLOSED = stream_of(MESSAGES["blocks of every kind"])
OPEN = CLOSED[: CLOSED.index(b"event: message_delta")]
EDITS = st.lists(
    st.tuples(
        st.integers(0, len(OPEN)),
        st.integers(0, 40),
        st.binary(max_size=8) | st.sampled_from([b"\n\n", b"\r", b"{", b'"', b"data: ", b"}"]),
    ),
    max_size=6,
)


def edited(stream, edits):
    for at, length, new in edits:
        stream = stream[:at] + new + stream[at + length :]
    return stream


@given(EDITS, st.booleans())
@settings(max_examples=400)
def test_without_a_stop_no_damage_makes_a_stream_complete(edits, in_pieces):
    stream = edited(OPEN, edits)
    chunks = [stream[at : at + 50] for at in range(0, len(stream), 50)]
    folded = fold(*chunks) if in_pieces else fold(stream)
    assert not folded.is_complete


@given(EDITS)
@settings(max_examples=400)
def test_damage_never_raises_anything_else_than_not_a_message(edits):
    folded = fold(edited(CLOSED, edits))
    try:
        answer = parse_answer(folded.message())
    except NotAMessage:
        return
    assert answer.content.decode()


@given(st.binary(max_size=200))
def test_any_bytes_are_kept_until_a_message_begins(data):
    folded = fold(data)
    assert not folded.has_begun
    assert bytes(folded.raw) == data


# --- the rules one by one


def test_numbers_are_cumulative_and_null_changes_nothing():
    start = begun(usage={"input_tokens": 2679, "output_tokens": 3, "service_tier": "standard"})
    first = ended(None, {"output_tokens": 50, "input_tokens": None})
    last = ended("end_turn", {"input_tokens": 10682, "output_tokens": 89})
    usage = answer_in(sse(start, first, last, STOP)).usage
    assert (usage.input_tokens, usage.output_tokens) == (10682, 89)
    assert usage.service_tier == "standard"


def test_an_output_that_nobody_counted_is_unknown_and_not_the_first_placeholder():
    answer = answer_in(sse(begun(), block(0, type="text", text="hi"), ended(), STOP))
    assert answer.usage.output_tokens is None
    assert answer.usage.input_tokens == 10


def test_a_broken_stream_keeps_the_placeholder_as_it_came():
    assert answer_in(sse(begun())).usage.output_tokens == 1


@pytest.mark.parametrize("usage", [None, {"input_tokens": None, "output_tokens": None}])
def test_usage_of_nulls_stays_unknown(usage):
    answer = answer_in(sse(begun(usage=usage), ended(), STOP))
    assert answer.usage is None or not answer.usage.is_known


def test_usage_may_come_at_the_end_alone():
    start = begun()
    del start["message"]["usage"]
    usage = {"prompt_tokens": 4, "completion_tokens": 2}
    assert answer_in(sse(start, ended("end_turn", usage), STOP)).usage.output_tokens == 2


def test_iterations_come_with_the_last_delta():
    steps = [{"type": "compaction", "input_tokens": 5, "output_tokens": 6}]
    usage = {"output_tokens": 9, "iterations": steps}
    answer = answer_in(sse(begun(), ended("end_turn", usage), STOP))
    assert [each.output_tokens for each in answer.usage.iterations] == [6]


def content_of(*events):
    return json.loads(answer_in(sse(begun(), *events, ended(), STOP)).content)


def test_a_signature_replaces_and_thinking_appends():
    events = [
        block(0, type="thinking", thinking="a", signature="old"),
        delta(0, "thinking_delta", thinking="b"),
        delta(0, "signature_delta", signature="one"),
        delta(0, "signature_delta", signature="two"),
    ]
    assert content_of(*events) == [{"type": "thinking", "thinking": "ab", "signature": "two"}]


@pytest.mark.parametrize("earlier", [None, [{"n": 0}]])
def test_citations_are_collected(earlier):
    cited = [delta(0, "citations_delta", citation={"n": n}) for n in (1, 2)]
    (found,) = content_of(block(0, type="text", text="x", citations=earlier), *cited)
    assert found["citations"] == [*(earlier or []), {"n": 1}, {"n": 2}]


def test_a_compaction_replaces_its_content():
    first = delta(0, "compaction_delta", content="a", encrypted_content="x")
    last = delta(0, "compaction_delta", content="b", encrypted_content="y")
    (found,) = content_of(block(0, type="compaction", content=None), first, last)
    assert found == {"type": "compaction", "content": "b", "encrypted_content": "y"}


def test_a_tool_input_keeps_the_bytes_of_its_numbers():
    texts = ['{"n": 12345678901234', "5678901234567890, ", '"f": 1.10}']
    pieces = [delta(0, "input_json_delta", partial_json=text) for text in texts]
    start = block(0, type="tool_use", id="t", name="f", input={})
    answer = answer_in(sse(begun(), start, *pieces, ended("tool_use"), STOP))
    assert b'{"n": 123456789012345678901234567890, "f": 1.10}' in answer.content


def test_a_tool_input_that_broke_off_is_kept_as_a_string():
    start = block(0, type="tool_use", id="t", name="f", input={})
    (found,) = content_of(start, delta(0, "input_json_delta", partial_json='{"a": '))
    assert found["input"] == '{"a":'


def test_blocks_stand_in_the_order_of_their_index_with_gaps_and_overlaps():
    events = [
        block(2, type="text", text=""),
        block(0, type="text", text=""),
        delta(2, "text_delta", text="c"),
        delta(0, "text_delta", text="a"),
        delta(2, "text_delta", text="d"),
    ]
    assert [each["text"] for each in content_of(*events)] == ["a", "cd"]


def test_two_blocks_of_one_index_are_both_kept():
    events = [
        block(0, type="text", text=""),
        delta(0, "text_delta", text="a"),
        block(0, type="text", text=""),
        delta(0, "text_delta", text="b"),
    ]
    assert [each["text"] for each in content_of(*events)] == ["a", "b"]


def test_a_delta_whose_block_never_began_is_text():
    assert content_of(delta(0, "text_delta", text="a"))[0]["text"] == "a"


def test_a_fallback_block_names_the_model_that_answers():
    step = block(0, type="fallback", to={"model": "claude-opus-5"}, **{"from": {"model": "x"}})
    assert answer_in(sse(begun(), step, ended(), STOP)).model == "claude-opus-5"


def test_the_container_and_the_details_of_a_refusal_come_at_the_end():
    end = ended("refusal")
    end["delta"] |= {"container": {"id": "c_1"}, "stop_details": {"category": "cyber"}}
    answer = answer_in(sse(begun(), end, STOP))
    assert (answer.container_id, answer.stop_details) == ("c_1", b'{"category": "cyber"}')


def test_message_stop_alone_makes_a_message_complete():
    stream = fold(sse(begun(), STOP))
    assert stream.is_complete
    assert parse_answer(stream.message()).stop_reason is None


def test_a_stop_reason_before_the_end_is_no_end():
    assert not fold(sse(begun(stop_reason="end_turn"))).is_complete


# --- errors and broken protocol


def error(kind="overloaded_error"):
    return {"type": "error", "error": {"type": kind, "message": "no"}}


def test_an_error_ends_a_stream_wherever_it_comes():
    for events in ([], [begun()], [begun(), block(0, type="text", text="x")]):
        stream = fold(sse(*events, error(), ended(), STOP))
        assert json.loads(stream.error)["error"]["type"] == "overloaded_error"
        assert stream.is_over
        assert not stream.is_complete


@pytest.mark.parametrize(
    "data", [b"upstream failed", b'{"error": {"message": "boom"}}', b'{"message": "boom"}']
)
def test_an_error_of_any_shape_is_one(data):
    assert fold(b"event: error\ndata: " + data + b"\n\n").error == data


def test_an_error_without_a_name_is_known_by_its_field():
    data = b'{"error": {"message": "boom"}}'
    assert fold(b"data: " + data + b"\n\n").error == data


def test_what_comes_after_the_end_changes_nothing():
    stream = sse(begun(), ended(), STOP)
    late = sse(error(), block(0, type="text", text="late"))
    assert fold(stream + late).message() == fold(stream).message()
    assert fold(stream + late).error is None


@pytest.mark.parametrize(
    "broken",
    [
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del\n\n',
        b'data: {"type":"content_block_delta","index":"zero","delta":{}}\n\n',
        b'data: {"type":"content_block_delta","delta":{"type":"text_delta","text":5}}\n\n',
        b'data: {"type":"message_delta","delta":{"stop_reason":"x"},"usage":[1]}\n\n',
        b'event: content_block_delta\ndata: {"type":"content_block_delta","x":"\xff"}\n\n',
        b"data: nonsense\n\n",
    ],
)
def test_an_event_that_cannot_be_read_breaks_the_stream(broken):
    stream = fold(sse(begun()) + broken + sse(STOP))
    assert stream.violation
    assert not stream.is_complete


@pytest.mark.parametrize(
    "strange",
    [
        b'event: future\ndata: {"type":"future","message":"text","delta":1}\n\n',
        b"event: heartbeat\ndata: ok\n\n",
        b"event: ping\ndata: \xff\n\n",
        b"data: [DONE]\n\n",
        b'data: {"type":"future_event"}\n\n',
    ],
)
def test_what_nobody_knows_is_passed_over(strange):
    stream = fold(strange + sse(begun()) + strange + sse(ended()) + strange + sse(STOP))
    assert stream.is_complete
    assert stream.violation is None


@pytest.mark.parametrize("start", [{}, {"message": None}, {"message": {"usage": 5}}])
def test_a_message_start_without_a_message_begins_nothing(start):
    stream = fold(sse({"type": "message_start"} | start, ended(), STOP))
    assert not stream.has_begun
    with pytest.raises(NotAMessage):
        stream.message()


def test_a_second_message_start_is_passed_over():
    stream = sse(begun(), block(0, type="text", text="a"), begun(id="msg_2"), ended(), STOP)
    assert (answer_in(stream).message_id, answer_in(stream).text) == ("msg_1", "a")


@pytest.mark.parametrize("plain", [b'{"type": "message"}', b"\n  [1]", b"<html>data: x\n\n"])
def test_an_answer_that_is_no_stream_is_kept_as_it_came(plain):
    for chunks in ([plain], [bytes([byte]) for byte in plain]):
        assert bytes(fold(*chunks).raw) == plain


def test_an_event_that_is_too_long_is_a_break_also_at_the_very_end():
    long = b"data: " + b"x" * (5 * 2**20)
    assert not fold(sse(begun()), long, b"\n", long).is_complete


def test_usage_that_is_no_count_does_not_cost_the_answer():
    found = answer_in(sse(begun(), ended("end_turn", {"output_tokens": -1}), STOP)).usage
    assert (found.output_tokens, found.odd) == (None, ("output_tokens",))


def streamed(*pieces):
    stream = fold(sse(*pieces))
    return stream.answer(stream.message())


def test_counts_that_fall_within_a_stream_are_kept_with_both_ends():
    delta = {"input_tokens": 0, "output_tokens": 5}
    answer = streamed(
        begun(usage={"input_tokens": 2413, "output_tokens": 8}), ended("x", delta), STOP
    )
    assert answer.evidence.fell == (("input_tokens", 0, 2413),)  # the 8 was a placeholder


@pytest.mark.parametrize(
    ("name", "part", "later"),
    [
        ("cache_creation", "ephemeral_1h_input_tokens", {"ephemeral_5m_input_tokens": 9}),
        ("cache_creation", "ephemeral_1h_input_tokens", {"ephemeral_1h_input_tokens": None}),
        ("server_tool_use", "web_search_requests", {"web_search_requests": 0}),
        ("prompt_tokens_details", "cached_tokens", "x"),
    ],
)
def test_counts_within_a_part_fall_too(name, part, later):
    counts = {"input_tokens": 1, "output_tokens": 1, name: {part: 9}}
    end = {"output_tokens": 2, name: later}
    fell = streamed(begun(usage=counts), ended("end_turn", end), STOP).evidence.fell
    assert fell == ((part, 0, 9),)
    same = {"output_tokens": 2, name: {part: 9}}
    whole = streamed(begun(usage=counts), ended("end_turn", same), STOP)
    assert whole.evidence is None


def test_counts_that_grow_within_a_stream_are_no_evidence():
    delta = {"input_tokens": 10_682, "output_tokens": 5}
    assert (
        streamed(begun(usage={"input_tokens": 2679}), ended("x", delta), STOP).evidence is None
    )
