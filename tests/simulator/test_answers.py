"""What is answered: a function of the seed and the body, with every stop reason."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.simulator.asking import TOOL, WEB_SEARCH, Counter, body_of

FULL_USAGE = {
    "input_tokens",
    "cache_creation_input_tokens",
    "cache_read_input_tokens",
    "cache_creation",
    "output_tokens",
    "output_tokens_details",
    "server_tool_use",
    "service_tier",
    "inference_geo",
    "speed",
}


def test_the_same_request_gets_the_same_answer_from_another_simulator():
    assert Counter(seed=3).ask("Why is the sky blue?") == Counter(seed=3).ask(
        "Why is the sky blue?"
    )


def test_another_seed_gives_another_answer():
    answers = {json.dumps(Counter(seed=seed).ask("Why?")) for seed in range(5)}
    assert len(answers) > 1


def test_key_order_and_white_space_do_not_change_the_answer():
    body = body_of("Why?")
    turned = json.dumps(dict(reversed(body.items())), indent=4).encode()
    assert Counter().decide(turned).payload == Counter().decide(body).payload


def test_the_answer_speaks_of_the_prompt_and_has_the_full_usage():
    answer = Counter().ask("Why is the sky blue?")
    assert "Why is the sky blue?" in answer["content"][0]["text"]
    assert answer["usage"].keys() == FULL_USAGE
    assert (answer["type"], answer["role"], answer["stop_reason"]) == (
        "message",
        "assistant",
        "end_turn",
    )


def test_a_longer_prompt_costs_more_input():
    short, long = (Counter().ask(prompt)["usage"] for prompt in ("why", "why " * 500))
    assert long["input_tokens"] > short["input_tokens"] + 400


def test_input_is_never_more_than_the_bytes_of_the_body():
    body = body_of("x", model="claude-opus-5-5")
    answer = json.loads(Counter().decide(body).payload)
    assert 0 < answer["usage"]["input_tokens"] < len(json.dumps(body))


def test_a_picture_counts_as_tokens_and_not_as_bytes():
    picture = {"type": "base64", "media_type": "image/png", "data": "A" * 400_000}
    message = {"role": "user", "content": [{"type": "image", "source": picture}]}
    answer = json.loads(Counter().decide(body_of("", messages=[message])).payload)
    assert answer["usage"]["input_tokens"] < 2_000


@given(max_tokens=st.integers(1, 300), planned=st.integers(0, 300))
def test_output_never_exceeds_max_tokens_and_fills_it_when_cut(max_tokens, planned):
    answer = Counter().ask(f"[[output:{planned}]] hello", max_tokens=max_tokens)
    is_cut = planned > max_tokens
    assert answer["stop_reason"] == ("max_tokens" if is_cut else "end_turn")
    assert answer["usage"]["output_tokens"] == min(planned, max_tokens)


def test_a_prewarm_with_no_tokens_has_no_content():
    answer = Counter().ask("warm up", max_tokens=0)
    assert (answer["content"], answer["stop_reason"]) == ([], "max_tokens")
    assert answer["usage"]["output_tokens"] == 0


def test_a_stop_sequence_is_named_when_it_is_met():
    answer = Counter().ask("[[stop:stop_sequence]] hi", stop_sequences=["END", "###"])
    assert answer["stop_reason"] == "stop_sequence"
    assert answer["stop_sequence"] in ("END", "###")


def test_stop_sequences_are_met_by_some_prompts_and_not_by_others():
    reasons = {Counter().ask(f"{n}", stop_sequences=["END"])["stop_reason"] for n in range(20)}
    assert reasons == {"stop_sequence", "end_turn"}


def test_a_tool_is_called_with_input_that_fits_its_schema():
    answer = Counter().ask("weather in Bern", tools=[TOOL])
    assert answer["stop_reason"] == "tool_use"
    assert answer["content"][-1]["name"] == "weather"
    assert answer["content"][-1]["input"] == {"city": "example", "days": 7}


def test_a_tool_result_ends_the_turn():
    use = Counter().ask("weather", tools=[TOOL])["content"]
    result = [{"type": "tool_result", "tool_use_id": use[-1]["id"], "content": "rain"}]
    messages = [
        {"role": "user", "content": "weather"},
        {"role": "assistant", "content": use},
        {"role": "user", "content": result},
    ]
    assert Counter().ask("", messages=messages, tools=[TOOL])["stop_reason"] == "end_turn"


def test_no_tool_is_called_when_the_choice_is_none():
    answer = Counter().ask("weather", tools=[TOOL], tool_choice={"type": "none"})
    assert answer["stop_reason"] == "end_turn"


def test_a_structured_answer_fits_its_schema():
    schema = {"type": "object", "properties": {"mood": {"enum": ["good", "bad"]}}}
    answer = Counter().ask(
        "how?", output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert json.loads(answer["content"][0]["text"]) == {"mood": "good"}


def continue_until_the_end(prompt, **fields):
    body, legs = body_of(prompt, **fields), []
    while not legs or legs[-1]["stop_reason"] == "pause_turn":
        legs.append(json.loads(Counter().decide(body).payload))
        turn = {"role": "assistant", "content": legs[-1]["content"]}
        body = body | {"messages": [*body["messages"], turn]}
    return legs


def test_a_server_tool_pauses_once_and_its_search_is_counted_in_the_next_leg():
    first, second = continue_until_the_end("news", tools=[WEB_SEARCH])
    assert first["content"][-1]["type"] == "server_tool_use"
    assert second["content"][0]["tool_use_id"] == first["content"][-1]["id"]
    assert first["usage"]["server_tool_use"] is None
    assert second["usage"]["server_tool_use"]["web_search_requests"] == 1
    assert second["stop_reason"] == "end_turn"


@pytest.mark.parametrize("pauses", [0, 1, 4])
def test_a_marker_sets_the_number_of_pauses(pauses):
    legs = continue_until_the_end(f"[[pause:{pauses}]] news")
    reasons = [leg["stop_reason"] for leg in legs]
    assert reasons == ["pause_turn"] * pauses + ["end_turn"]


def test_a_pause_ordered_by_its_stop_reason_also_comes_to_an_end():
    assert len(continue_until_the_end("[[stop:pause_turn]]")) == 2


def test_a_refusal_is_empty_and_stays_off_the_bill():
    counter = Counter()
    answer = counter.ask("[[stop:refusal]] no")
    assert (answer["content"], answer["usage"]["output_tokens"]) == ([], 0)
    assert answer["stop_details"]["type"] == "refusal"
    assert not counter.bill.lines()[0].billed


def test_a_refusal_in_the_middle_of_the_answer_is_charged():
    counter = Counter()
    answer = counter.ask("[[stop:refusal]] [[output:9]] no")
    assert answer["usage"]["output_tokens"] == 9
    assert counter.bill.lines()[0].billed


@pytest.mark.parametrize("reason", ["model_context_window_exceeded", "compaction", "brand_new"])
def test_any_stop_reason_can_be_ordered(reason):
    assert Counter().ask(f"[[stop:{reason}]] hi")["stop_reason"] == reason


def test_a_null_stop_reason_can_be_ordered():
    assert Counter().ask("[[stop:null]] hi")["stop_reason"] is None


@pytest.mark.parametrize(
    ("form", "keys"),
    [
        ("two_fields", {"input_tokens", "output_tokens"}),
        ("openai", {"prompt_tokens", "completion_tokens", "total_tokens"}),
        ("nulls", FULL_USAGE),
        ("cache", FULL_USAGE),
    ],
)
def test_usage_comes_in_the_form_that_is_ordered(form, keys):
    assert Counter().ask(f"[[usage:{form}]] hi")["usage"].keys() == keys


def test_usage_can_be_null_or_absent_and_the_bill_still_knows():
    counter = Counter()
    assert counter.ask("[[usage:null]] hi")["usage"] is None
    assert "usage" not in counter.ask("[[usage:none]] hi")
    assert all(line.output_tokens > 0 for line in counter.bill.lines())


def test_the_cache_marker_uses_every_cache_meter():
    usage = Counter().ask("[[usage:cache]] hello there")["usage"]
    split = usage["cache_creation"]
    assert min(*split.values(), usage["cache_read_input_tokens"]) > 0
    assert usage["cache_creation_input_tokens"] == sum(split.values())


def test_thinking_is_a_part_of_the_output():
    usage = Counter().ask("[[output:90]]", thinking={"type": "enabled", "budget_tokens": 1024})
    assert usage["usage"]["output_tokens_details"]["thinking_tokens"] == 30
    assert [block["type"] for block in usage["content"]] == ["thinking", "text"]


def test_markers_force_input_model_and_custom_id():
    counter = Counter()
    answer = counter.ask("[[input:100001]] [[model:claude-haiku-5-5]] [[custom:row-7]] hi")
    line = counter.bill.lines()[0]
    assert (answer["usage"]["input_tokens"], answer["model"]) == (100_001, "claude-haiku-5-5")
    assert (line.custom, line.model, line.input_tokens) == (
        "row-7",
        "claude-haiku-5-5",
        100_001,
    )


def test_double_brackets_that_are_no_marker_are_text():
    assert "[[File:x.png]]" in Counter().ask("[[File:x.png]] what is it?")["content"][0]["text"]


@pytest.mark.parametrize(
    "marker", ["fault:nonsense", "usage:odd", "output:many", "fault:429*x"]
)
def test_a_marker_that_means_nothing_is_refused(marker):
    status, message = Counter().refusal(body_of(f"[[{marker}]]"))
    assert status == 400
    assert message


@given(prompt=st.text(max_size=200), max_tokens=st.integers(1, 64_000))
def test_every_text_can_be_a_prompt(prompt, max_tokens):
    decision = Counter().decide(body_of(f"a {prompt}", max_tokens=max_tokens))
    answer = json.loads(decision.payload)
    assert answer["type"] in ("message", "error")
    assert decision.status in (200, 400)
