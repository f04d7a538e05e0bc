"""Columns that would be left out of a request without a word."""

import json
import os
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet as pq

from batcher.errors import ConfigurationError
from batcher.rows.build.body import FIELDS
from batcher.rows.build.field_names import _one_edit, not_sent_words, shipped_names
from batcher.rows.read.check import check_source
from tests.rows.making import builder, built, items, params, reasons, refused, source

JOB = {"model": "m", "max_tokens": 10}
TURN = [{"role": "user", "content": "x"}]


@pytest.mark.parametrize("form", [{"prompt": "x"}, {"messages": TURN}])
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("max_completion_tokens", "max_tokens"),
        ("Max-Completion-Tokens", "max_tokens"),
        ("temprature", "temperature"),
        ("temperatrue", "temperature"),
        ("Temperature ", "temperature"),
        ("stop", "stop_sequences"),
        ("stop_sequence", "stop_sequences"),
        ("System", "system"),
        (" system", "system"),
        ("Model", "model"),
        ("top-p", "top_p"),
        ("thinkng", "thinking"),
        ("response_format", "output_config"),
        ("customId", "custom_id"),
    ],
)
def test_a_column_that_looks_like_a_field_refuses_the_row(form, name, meant):
    bad = refused({**form, name: 1}, **JOB)
    assert bad.reason == "MISNAMED_FIELD"
    assert f"{json.dumps(name)} looks like {meant}; rename it" in bad.message
    assert f"ignore = [{json.dumps(name)}]" in bad.message
    assert built({**form, name: 1}, ignored=(name,), **JOB)
    assert built({**form, name: 1}, pass_fields=(name,), **JOB)
    assert built({**form, name: None}, **JOB)
    assert built({**form, "x": form}, prompt="{{ x }}", **JOB)


def test_a_beginning_blank_in_prompt_is_seen():
    assert "looks like prompt" in refused({"messages": TURN, " prompt": "x"}, **JOB).message


def test_what_the_api_does_not_have_is_named():
    bad = refused({"prompt": "x", "seed": 1, "logprobs": True}, **JOB)
    assert bad.message.count("is no field of the Messages API") == 2
    body = json.loads(built({"prompt": "x", "seed": 1}, pass_fields=("seed",), **JOB).body)
    assert body["seed"] == 1


@pytest.mark.parametrize("name", ["model", "max_tokens", "system", "prompt", "images"])
def test_a_field_beside_params_refuses_the_row(name):
    row = {"params": params(), name: "x"}
    if name == "prompt":
        assert built(row)
        return
    bad = refused(row)
    assert (bad.reason, "beside params" in bad.message) == ("MISNAMED_FIELD", True)
    assert built(row, ignored=(name,))


def test_inside_params_everything_is_sent_but_what_is_misspelt():
    assert refused({"params": params(max_token=5)}).reason == "MISNAMED_FIELD"
    assert built({"params": params(max_token=5)}, pass_fields=("max_token",))
    assert built({"params": params(stop=["x"], seed=1, min_p=0.1, new_field={})})


def test_pictures_beside_messages_are_not_dropped():
    bad = refused({"messages": TURN, "images": "a.png"}, **JOB)
    assert bad.reason == "BAD_FILE", "these rows have no folder"
    assert built({"messages": TURN, "images": []}, **JOB)
    assert "looks like images" in refused({"prompt": "x", "imags": "a.png"}, **JOB).message


def test_what_is_ignored_is_not_sent_even_if_it_is_a_field():
    request = built({"prompt": "x", "metadata": {"my": 1}}, ignored=("metadata",), **JOB)
    assert "metadata" not in json.loads(request.body)


def test_other_columns_are_named_once():
    made = builder(system="{{ used }}", **JOB)
    for number in range(3):
        line = {"id": number, "prompt": "x", "topic": "t", "url": "u", "used": "s", "n": None}
        made.build(json.dumps(line).encode(), 1, 1, 0)
    assert not_sent_words(made.names.not_sent) == "not sent: topic, url"
    assert not_sent_words([]) == ""
    assert not_sent_words([f"c{n}" for n in range(12)]).endswith("c9 and 2 more")


def test_any_number_of_names_is_bounded():
    made = builder(**JOB)
    for number in range(1_500):
        made.build(json.dumps({"prompt": "x", f"col {number:05}": 1}).encode(), 1, 1, 0)
    assert len(made.names.not_sent) == 1_000


def test_a_header_that_looks_like_a_field_is_refused(tmp_path):
    file = source(tmp_path / "a.csv", b"prompt,max_token,stop,topic\nx,1,y,z\n")
    with pytest.raises(ConfigurationError, match=r'a.csv: column "max_token".*; column "stop"'):
        check_source(file, builder())
    made = builder(ignored=("max_token", "stop"))
    check_source(file, made)
    assert made.names.not_sent == ["topic"]
    check_source(file, builder(prompt="{{ stop }}"))


def test_a_parquet_schema_that_looks_like_a_field_is_refused(tmp_path):
    pq.write_table(pa.table({"params": ["{}"], "model": ["m"]}), tmp_path / "a.parquet")
    with pytest.raises(ConfigurationError, match="column model stands beside params"):
        check_source(source(tmp_path / "a.parquet"), builder())
    pq.write_table(pa.table({"prompt": ["x"], "messages": [None]}), tmp_path / "b.parquet")
    check_source(source(tmp_path / "b.parquet"), builder())


def test_blanks_around_the_names_of_a_csv_header_are_trimmed(tmp_path):
    file = source(tmp_path / "a.csv", b"prompt, system\nx,s\n")
    check_source(file, builder())
    (row,) = items(file)
    assert (reasons([row]), json.loads(row.body)["system"]) == (["ok"], "s")
    with pytest.raises(ConfigurationError, match="several columns called prompt"):
        check_source(source(tmp_path / "b.csv", b"prompt, prompt\nx,s\n"), builder())


def test_the_shipped_table_means_fields():
    known = {*FIELDS, "custom_id", "prompt", "images", "documents"}
    table = shipped_names()
    assert {*table.meant.values()} <= known
    assert not ({*table.meant} | {*table.unknown["names"]}) & known


def test_no_field_of_the_api_looks_like_another():
    for name in FIELDS:
        assert build_reason({"prompt": "x", name: 1}) != "MISNAMED_FIELD"


def build_reason(row):
    return getattr(builder(**JOB).build(json.dumps(row).encode(), 1, 1, 0), "reason", "ok")


LETTERS = st.text("abc", max_size=6)


def edits(word):
    for i in range(len(word) + 1):
        yield from (word[:i] + letter + word[i:] for letter in "abc")
    for i in range(len(word)):
        yield word[:i] + word[i + 1 :]
        yield from (word[:i] + letter + word[i + 1 :] for letter in "abc")
        yield word[:i] + word[i : i + 2][::-1] + word[i + 2 :]


@given(LETTERS, LETTERS)
def test_one_edit_is_one_letter(one, other):
    assert _one_edit(one, other) == (one != other and one in {*edits(other)})


REFUSE = """
from batcher.rows.build.requests import RequestBuilder
from batcher.rows.build.settings import RequestSettings
row = b'{"prompt": "x", "stop": 1, "seed": 1, "Model": 1, "temprature": 1}'
print(RequestBuilder(RequestSettings()).build(row, 1, 1, 0).message)
"""


def test_the_sentence_is_the_same_in_every_process():
    def say(seed):
        env = {**os.environ, "PYTHONHASHSEED": seed}
        command = [sys.executable, "-c", REFUSE]
        return subprocess.run(command, env=env, capture_output=True, check=True).stdout

    assert say("1") == say("2") != b""


@pytest.mark.parametrize("name", [" prompt", "Prompt", "promt", "mesages", "PARAMS"])
def test_a_prompt_that_is_written_wrongly_is_told_from_one_that_is_not_there(name):
    bad = refused({name: "x", "topic": "y"})
    assert bad.reason == "MISNAMED_FIELD"
    assert "looks like" in bad.message
    assert refused({"topic": "y", "stop": "x"}).reason == "NO_PROMPT"
