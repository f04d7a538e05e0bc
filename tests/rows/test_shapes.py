"""Rows in the shape of other tools."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.preflight.preflight import Preflight
from batcher.preflight.rules import shipped_rules
from batcher.rows.build.body import FIELDS, check_body
from batcher.rows.build.chat import other_apis
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
from batcher.rows.read.check import check_source
from tests.rows.making import builder, built, items, lines_of, refused, source

JOB = {"model": "claude-haiku-4-5", "max_tokens": 10}
TURN = [{"role": "user", "content": "x"}]
SYSTEM = {"role": "system", "content": "s"}
URL = "/v1/chat/completions"


def batch_line(url=URL, **body):
    body = {"model": "gpt-4o-mini", "messages": TURN, **body}
    return {"custom_id": "a", "method": "POST", "url": url, "body": body}


def body_of(row, **settings):
    return json.loads(built(row, **{**JOB, **settings}).body)


def test_a_batch_line_for_messages_is_sent_as_its_body_came():
    text = b'{"model" : "m","max_tokens":5, "messages":[{"role":"user","content":"\\u00e9"}]}'
    line = b'{"custom_id":"a","method":"POST","url":"/v1/messages","body":' + text + b"}"
    request = built(line)
    assert (request.custom_id, request.body, request.model) == ("a", text, "m")
    again = built({"custom_id": "a", "params": json.loads(text)})
    assert request.params_hash == again.params_hash, "the shape of the row is no part of it"


@pytest.mark.parametrize("url", [URL, URL + "/", "https://api.example.com/v1/chat/completions"])
def test_a_batch_line_for_chat_is_translated(url):
    request = built(batch_line(url, messages=[SYSTEM, *TURN], max_tokens=1000), **JOB)
    assert (request.custom_id, request.model, request.max_tokens) == (
        "a",
        "claude-haiku-4-5",
        1000,
    )
    assert json.loads(request.body) == {
        "model": "claude-haiku-4-5",
        "max_tokens": 1000,
        "system": "s",
        "messages": TURN,
    }


@pytest.mark.parametrize(
    "fields", [{"messages": [SYSTEM, *TURN]}, {"messages": TURN, "tools": [
        {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    ]}],
)  # fmt: skip
def test_params_made_for_chat_are_translated(tmp_path, fields):
    row = {
        "custom_id": "a",
        "params": {"model": "gpt-4o", "stop": "X", "thinking": {}, **fields},
    }
    request = built(row, **JOB)
    body = json.loads(request.body)
    assert (request.custom_id, body["model"], body["messages"]) == ("a", JOB["model"], TURN)
    assert (body["stop_sequences"], body["thinking"]) == (["X"], {}), "what is ours stays"
    with pytest.raises(ConfigurationError, match="'gpt-4o' is a model of another API"):
        check_source(source(tmp_path / "a.jsonl", lines_of([row])), builder())


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"recordId": "1", "modelInput": {"messages": TURN}}, "'modelInput' holds a request"),
        (
            {"custom_id": "a", "body": {"messages": TURN}},
            "'body' holds a request: call it params",
        ),
        ({"id": 1, "dialog": TURN}, "'dialog' holds messages: call it messages"),
        (
            {"id": 1, "turns": [1], "more": {}},
            "no prompt template; its columns: id, more, turns",
        ),
    ],
)
def test_where_the_request_stands_is_said(row, words):
    bad = refused(row, **JOB)
    assert (bad.reason, words in bad.message) == ("NO_PROMPT", True), bad.message


FUNCTION = {"name": "f", "description": "d", "parameters": {"type": "object"}}
TOOLS = [{"type": "function", "function": FUNCTION}]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ({"max_completion_tokens": 7}, {"max_tokens": 7}),
        ({"max_completion_tokens": 7, "max_tokens": 7}, {"max_tokens": 7}),
        ({"stop": "x"}, {"stop_sequences": ["x"]}),
        ({"stop": ["x", "y"]}, {"stop_sequences": ["x", "y"]}),
        (
            {"temperature": 0.5, "top_p": 1, "stream": True},
            {"temperature": 0.5, "top_p": 1, "stream": True},
        ),
        ({"user": "u"}, {"metadata": {"user_id": "u"}}),
        ({"reasoning_effort": "low"}, {"output_config": {"effort": "low"}}),
        ({"response_format": {"type": "text"}}, {}),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "n", "schema": {"type": "object"}},
                }
            },
            {
                "output_config": {
                    "format": {"type": "json_schema", "schema": {"type": "object"}}
                }
            },
        ),
        (
            {"tools": TOOLS},
            {"tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}}]},
        ),
        ({"tools": [], "tool_choice": "auto"}, {}),
        ({"n": 1, "logprobs": False, "presence_penalty": 0.0, "frequency_penalty": 0}, {}),
        ({"seed": None, "top_logprobs": None, "logit_bias": {}, "store": False}, {}),
    ],
)
def test_fields_of_chat_completions(theirs, ours):
    made = body_of(batch_line(**theirs))
    expected = {"model": "claude-haiku-4-5", "max_tokens": 10, "messages": TURN}
    assert made == {**expected, **ours}


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("auto", {"type": "auto"}),
        ("none", {"type": "none"}),
        ("required", {"type": "any"}),
        ({"type": "function", "function": {"name": "f"}}, {"type": "tool", "name": "f"}),
    ],
)
def test_the_choice_of_a_tool(theirs, ours):
    assert body_of(batch_line(tools=TOOLS, tool_choice=theirs))["tool_choice"] == ours
    made = body_of(batch_line(tools=TOOLS, tool_choice=theirs, parallel_tool_calls=False))
    several = {} if ours["type"] == "none" else {"disable_parallel_tool_use": True}
    assert made["tool_choice"] == {**ours, **several}, "the API takes none alone"


def test_a_choice_of_single_calls_alone_has_a_type():
    made = body_of(batch_line(tools=TOOLS, parallel_tool_calls=False))
    assert made["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    assert "tool_choice" not in body_of(batch_line(parallel_tool_calls=False))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("n", 2),
        ("logprobs", True),
        ("seed", 1),
        ("presence_penalty", 0.1),
        ("functions", []),
        ("frequency_penalty", -1),
        ("response_format", {"type": "json_object"}),
        ("best_of", 3),
        ("reasoning_effort", "minimal"),
        ("made_up", "x"),
        ("audio", {"voice": "v"}),
        ("service_tier", "flex"),
        ("tool_choice", "maybe"),
        ("tools", [{"type": "custom"}]),
    ],
)
def test_what_has_no_counterpart_refuses_the_row_by_name(field, value):
    bad = refused(batch_line(**{field: value}), **JOB)
    assert (bad.reason, bad.custom_id, field in bad.message) == ("UNTRANSLATABLE", "a", True)
    made = body_of(batch_line(**{field: value}), ignored=(field,))
    assert field not in made
    assert body_of(batch_line(made_up="x"), pass_fields=("made_up",))["made_up"] == "x"


def test_two_fields_that_say_different_things_refuse_the_row():
    bad = refused(batch_line(max_tokens=1, max_completion_tokens=2), **JOB)
    assert "both say max_tokens" in bad.message


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}
USE = {"type": "tool_use", "id": "c1", "name": "f", "input": {"a": 1}}


def test_calls_of_tools_and_their_results():
    second = {**CALL, "id": "c2", "function": {"name": "f", "arguments": ""}}
    messages = [
        *TURN,
        {"role": "assistant", "content": None, "tool_calls": [CALL, second]},
        {"role": "tool", "tool_call_id": "c1", "content": "5"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "6"}]},
        {"role": "user", "content": "go on"},
        {"role": "assistant", "content": "yes", "refusal": None, "tool_calls": []},
        {"role": "user", "content": "end"},
    ]
    assert body_of({"messages": messages})["messages"] == [
        *TURN,
        {"role": "assistant", "content": [USE, {**USE, "id": "c2", "input": {}}]},
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "c1", "content": "5"},
                {"type": "tool_result", "tool_use_id": "c2", "content": "6"},
                {"type": "text", "text": "go on"},
            ],
        },
        {"role": "assistant", "content": "yes"},
        {"role": "user", "content": "end"},
    ]


def test_pictures_and_files():
    parts = [
        {"type": "text", "text": "what?"},
        {
            "type": "image_url",
            "image_url": {"url": "data:image/png;base64,iVBORw0KGgo=", "detail": "low"},
        },
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,JVBERi0="}},
    ]
    (message,) = body_of({"messages": [{"role": "user", "content": parts}]})["messages"]
    base64 = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    pdf = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert message["content"] == [
        {"type": "text", "text": "what?"},
        {"type": "image", "source": base64},
        {"type": "image", "source": {"type": "url", "url": "https://x.example/a.png"}},
        {"type": "document", "source": pdf},
    ]


NOTHING = {"tool_calls": None, "name": None, "refusal": None, "audio": None, "annotations": []}


@pytest.mark.parametrize(
    ("message", "ours"),
    [
        ({"role": "user", "content": "y", **NOTHING}, "y"),
        ({"role": "user", "content": "y", "name": None}, "y"),
        ({"role": "assistant", "content": None, **NOTHING, "tool_calls": [CALL]}, [USE]),
        (
            {"role": "user", "content": [{"type": "text", "text": "y", "image_url": None}]},
            "y",
        ),
        (
            {
                "role": "user",
                "content": [
                    {"type": "image_url", "text": None, "image_url": {"url": "https://x/a"}},
                    {"type": "text", "text": "y", "image_url": None},
                ],
            },
            [
                {"type": "image", "source": {"type": "url", "url": "https://x/a"}},
                {"type": "text", "text": "y"},
            ],
        ),
    ],
)
def test_fields_that_tables_fill_up_with_nulls_say_nothing(message, ours):
    turns = [*TURN, message]
    for row in (batch_line(messages=turns), {"messages": turns}):
        assert body_of(row)["messages"][1] == {"role": message["role"], "content": ours}


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": "x", "name": "bob"}, "messages[1].name"),
        (
            {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
            "input_audio",
        ),
        ({"role": "function", "content": "x"}, "function"),
        ({"role": "tool", "content": "x", "name": "f"}, "name"),
        ({"role": "assistant", "function_call": {"name": "f"}}, "function_call"),
        (
            {"role": "developer", "content": [{"type": "image_url", "image_url": "u"}]},
            "more than text",
        ),
        ({"role": "assistant", "refusal": "no", "tool_calls": [CALL]}, "refusal"),
    ],
)
def test_messages_that_cannot_be_said_are_named(message, words):
    bad = refused({"messages": [*TURN, message]}, **JOB)
    assert (bad.reason, words in bad.message) == ("UNTRANSLATABLE", True)


def test_a_message_of_nothing_is_told_so():
    bad = refused(batch_line(messages=[{"role": "user", "content": None}]), **JOB)
    assert (bad.reason, bad.message) == ("NO_PROMPT", "messages[0].content is missing")


def test_arguments_that_are_no_json_refuse_the_row():
    call = {**CALL, "function": {"name": "f", "arguments": "{"}}
    row = {"messages": [*TURN, {"role": "assistant", "tool_calls": [call]}]}
    assert refused(row, **JOB).reason == "BAD_JSON"


def test_a_chat_row_keeps_its_other_columns_and_fields_of_ours():
    row = {"id": 7, "topic": "t", "messages": [SYSTEM, *TURN], "thinking": {"type": "disabled"}}
    made = builder(**JOB)
    request = made.build(json.dumps(row).encode(), 1, 1, 0)
    assert request.custom_id == "7"
    assert json.loads(request.body)["thinking"] == {"type": "disabled"}
    assert made.notices == ["translated: OpenAI chat completions", "not sent: topic"]
    bad = refused({**row, "max_token": 1}, **JOB)
    assert (bad.reason, "looks like max_tokens" in bad.message) == ("MISNAMED_FIELD", True)


def test_system_messages_join_and_later_ones_stay_in_their_place():
    developer = {"role": "developer", "content": [{"type": "text", "text": "d"}]}
    made = body_of({"messages": [SYSTEM, developer, *TURN, developer]})
    assert made["system"] == "s\n\nd"
    assert made["messages"] == [*TURN, {"role": "system", "content": "d"}]


@pytest.mark.parametrize("role", ["user", "assistant", "tool"])
def test_a_system_message_may_stand_before_any_turn(role):
    said = {"user": {}, "assistant": {}, "tool": {"tool_call_id": "c"}}[role]
    turns = [*TURN, SYSTEM, {"role": role, "content": "y", **said}]
    made = body_of(batch_line(messages=turns))["messages"]
    assert made[:2] == [*TURN, {"role": "system", "content": "s"}]
    assert made[2]["role"] == ("assistant" if role == "assistant" else "user")


SPOKEN = [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "ho"}]


@pytest.mark.parametrize("column", ["conversations", "messages"])
def test_conversations_of_training_data(column):
    turns = [{"from": "system", "value": "s"}, *SPOKEN, {"from": "human", "value": "x"}]
    made = body_of({"id": "c", column: turns})
    assert made["system"] == "s"
    assert made["messages"] == [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "ho"},
        *TURN,
    ]
    assert body_of({column: SPOKEN[:1]})["messages"] == [{"role": "user", "content": "hi"}]
    bad = refused({column: [{"from": "tool", "value": "x"}]}, **JOB)
    assert (bad.reason, "'tool'" in bad.message) == ("UNTRANSLATABLE", True)


def test_a_prompt_may_be_messages():
    assert body_of({"prompt": TURN})["messages"] == TURN
    assert refused({"prompt": ["x"]}, **JOB).reason == "WRONG_TYPE"


def test_models_of_others_are_replaced():
    models = {"gpt-4o": "claude-sonnet-4-5"}
    made = RequestBuilder(RequestSettings(**JOB, models=models))
    found = [
        made.build(json.dumps(batch_line(model=model)).encode(), 1, 1, 0).model
        for model in ("gpt-4o", "gpt-4o-mini")
    ]
    assert found == ["claude-sonnet-4-5", "claude-haiku-4-5"]
    assert made.notices[1] == (
        "models replaced: gpt-4o becomes claude-sonnet-4-5,"
        " gpt-4o-mini becomes claude-haiku-4-5"
    )
    assert RequestSettings().digest() != RequestSettings(models=models).digest()


def test_without_a_model_of_ours_nothing_is_sent(tmp_path):
    file = source(tmp_path / "a.jsonl", lines_of([batch_line()]))
    with pytest.raises(ConfigurationError, match="'gpt-4o-mini' is a model of another"):
        check_source(file, builder())
    check_source(file, builder(model="m"))
    check_source(file, builder(models={"gpt-4o-mini": "m"}))
    check_source(file, builder(prompt="{{ body }}"))
    (bad,) = items(file, RequestSettings())
    assert (bad.reason, "[models] map" in bad.message) == ("MISSING_MODEL", True)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"url": "/v1/embeddings"}, "made for /v1/embeddings"),
        ({"method": "GET"}, "the method is 'GET'"),
        ({"body": "x"}, "body is a string"),
    ],
)
def test_other_batch_lines_are_refused(change, words):
    assert words in refused({**batch_line(), **change}, **JOB).message


def test_what_only_looks_alike_is_left_alone():
    assert refused({"url": "https://x", "text": "t"}, **JOB).reason == "NO_PROMPT"
    assert refused({"messages": [{"role": "narrator"}]}, **JOB).reason == "BAD_ROLE"
    assert body_of({"prompt": "x", "url": "u", "body": {}})["messages"] == TURN
    tools = [{"name": "f", "input_schema": {"type": "object"}}]
    assert body_of({"messages": TURN, "tools": tools})["tools"] == tools


def test_the_shipped_table_is_of_fields():
    table = other_apis().chat
    assert {*table.fields.values()} <= FIELDS.keys()
    assert not (table.fields.keys() | table.defaults.keys()) & table.refused


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(0, 3)
    | st.sampled_from(["", "user", "function", "tool"]),
    lambda x: (
        st.lists(x, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "role",
                    "content",
                    "type",
                    "function",
                    "name",
                    "text",
                    "url",
                    "tool_calls",
                    "image_url",
                    "from",
                    "value",
                    "arguments",
                ]
            ),
            x,
        )
    ),
    max_leaves=12,
)
NAMES = st.sampled_from(
    [*other_apis().chat.fields, *other_apis().chat.defaults, "messages", "x"]
)


@given(st.dictionaries(NAMES, JSON, max_size=4), st.lists(JSON, max_size=4))
def test_whatever_a_row_holds_it_is_refused_or_a_body(fields, messages):
    rules = Preflight(
        shipped_rules(),
        api_version="2023-06-01",
        dialect="anthropic",
        endpoint_name="anthropic",
        betas=(),
    )
    made = RequestBuilder(RequestSettings(**JOB), rules.problem)
    for row in (
        batch_line(**{**fields, "messages": messages}),
        {**fields, "messages": messages},
        {"conversations": messages},
    ):
        found = made.build(json.dumps(row).encode(), 1, 1, 0)
        if hasattr(found, "body"):
            check_body(json.loads(found.body))


CALL = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"type": "tool_use", "id": "c", "name": "f", "input": {}}


def test_the_name_of_a_result_is_that_of_its_call():
    result = {"role": "tool", "tool_call_id": "c", "name": "f", "content": "r"}
    turns = [*TURN, {"role": "assistant", "tool_calls": [CALL]}, result]
    made = body_of(batch_line(messages=turns, tools=TOOLS))["messages"]
    found = {"type": "tool_result", "tool_use_id": "c", "content": "r"}
    assert made[2] == {"role": "user", "content": [found]}


@pytest.mark.parametrize("content", [None, "", " \n", [{"type": "text", "text": ""}]])
def test_blanks_beside_calls_are_nothing_said(content):
    turns = [*TURN, {"role": "assistant", "content": content, "tool_calls": [CALL]}]
    made = body_of(batch_line(messages=turns, tools=TOOLS))["messages"]
    assert made[1] == {"role": "assistant", "content": [USE]}


@pytest.mark.parametrize("head", ["", "data:application/pdf;base64,"])
def test_a_file_is_base64_with_or_without_its_type(head):
    part = {"type": "file", "file": {"filename": "a.pdf", "file_data": f"{head}JVBERi0="}}
    made = body_of(batch_line(messages=[{"role": "user", "content": [part]}]))
    source = {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}
    assert made["messages"][0]["content"] == [{"type": "document", "source": source}]


def test_what_a_data_url_holds_is_looked_at_as_files_are():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,aGVsbG8="}}
    bad = refused(batch_line(messages=[{"role": "user", "content": [part]}]), **JOB)
    assert (bad.reason, "the content is no JPEG" in bad.message) == ("BAD_FILE", True)


def test_a_picture_called_jpg_is_a_jpeg():
    part = {"type": "image_url", "image_url": {"url": "data:image/jpg;base64,/9j/"}}
    made = body_of(batch_line(messages=[{"role": "user", "content": [part]}]))
    assert made["messages"][0]["content"][0]["source"]["media_type"] == "image/jpeg"


@pytest.mark.parametrize("parameters", [None, {}, {"properties": {}}])
def test_parameters_of_a_tool_are_an_object_where_they_do_not_say_so(parameters):
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    made = body_of(batch_line(tools=[tool]))["tools"]
    assert made == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]


@pytest.mark.parametrize(
    ("row", "is_said"),
    [
        ({"conversations": SPOKEN}, True),
        ({"conversations": SPOKEN[:1]}, False),
        (batch_line(messages=[*TURN, {"role": "assistant", "content": "y"}]), True),
        (batch_line(), False),
    ],
)
def test_a_line_says_that_answers_go_on_from_last_words_of_the_assistant(row, is_said):
    maker = builder(**JOB)
    maker.build(json.dumps(row).encode(), 1, 1, 0)
    assert ("leave the last turn out" in " ".join(maker.translator.sentences)) is is_said
