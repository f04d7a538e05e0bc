"""Settings can be seen: what holds, where it comes from, what was meant, and as a schema."""

import json
import os
import tomllib

import pytest
from click.testing import CliRunner
from jsonschema import Draft202012Validator

from batcher.cli.menu import group
from batcher.config.files import read_toml
from batcher.config.tables import ConfigFile, JobFile, schema_of
from batcher.errors import ConfigurationError
from tests.config.test_config_sample import ROOT, uncommented


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("BATCHER_"):
            monkeypatch.delenv(name)
    return tmp_path


def shown(*words):
    done = CliRunner().invoke(group, ["config", "show", *words, "--json"])
    assert done.exit_code == 0, done.output
    settings = json.loads(done.stdout)["settings"]
    return {each["name"]: (each["value"], each["origin"]) for each in settings}


def test_each_setting_tells_who_said_it(folder, monkeypatch):
    (folder / "config.toml").write_text(
        "rpm = 50\nconcurrency = 8\n[retry]\nmax_attempts = 3\n[parameters]\ntop_k = 1\n"
    )
    (folder / "job.toml").write_text(
        'inputs = ["rows.jsonl"]\nconcurrency = 4\n[parameters]\ntop_k = 2\ntop_p = 0.5\n'
    )
    monkeypatch.setenv("BATCHER_MAX_COST", "25")
    found = shown("job.toml", "-m", "claude-haiku-4-5")
    config = str(folder.resolve() / "config.toml")
    assert found["model"] == ("claude-haiku-4-5", "option")
    assert found["max_cost"] == ("25", "environment")
    assert found["concurrency"] == (4, "job.toml")
    assert found["rpm"] == (50, config)
    assert found["retry.max_attempts"] == (3, config)
    assert found["parameters.top_k"] == (2, "job.toml")
    assert found["store"] == ("full", "default")
    assert "itpm" not in found


def test_no_password_is_shown(folder):
    url = "postgresql+psycopg://me:hunter2@host/name"
    assert shown("-d", url)["database"][0] == "postgresql+psycopg://me:***@host/name"


def test_a_header_that_is_written_out_may_be_a_key(folder):
    (folder / "config.toml").write_text(
        '[headers]\nx-team = "sk-secret"\nx-other = { env = "THE_NAME" }\n'
    )
    found = shown()
    assert found["headers.x-team"][0] == "***"
    assert found["headers.x-other"][0] == {"env": "THE_NAME", "file": None}


def test_a_table_for_people_has_a_line_for_each(folder):
    output = CliRunner().invoke(group, ["config", "show"]).output.splitlines()
    assert output[0].split() == ["Setting", "Value", "From"]
    assert ["concurrency", "64", "default"] in [line.split() for line in output]


def test_a_new_config_is_the_sample_and_never_replaces_one(folder):
    done = CliRunner().invoke(group, ["config", "init"])
    assert (folder / "config.toml").read_text() == (ROOT / "config.toml").read_text()
    assert "batcher config show" in done.output
    again = CliRunner().invoke(group, ["config", "init"])
    assert "config.toml: is there already" in str(again.exception)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("concurency = 4", "unknown setting `concurency`; did you mean 'concurrency'?"),
        ("[retry]\nmax_atempts = 4", "unknown setting `max_atempts`; did you mean"),
        ("[endpoints.x]\nbase_ur = 'a'", "unknown setting `base_ur`; did you mean 'base_url'?"),
        (
            "[request]\nmodel = 'm'",
            "unknown setting `model`; model stands at the top of the file",
        ),
        ("max_attempts = 4", "`max_attempts`; max_attempts stands in [retry]"),
        ("store = 'ful'", "store is 'ful', not full, answer or usage; did you mean 'full'?"),
        ("[endpoints.x]\nauth = 'q'", "is 'q', not "),
        ("[endpoints.x]\nerrors_billed = 'q'", "is 'q', not maybe or no"),
        ("concurrency = 'many'", "concurrency: must be a whole number"),
    ],
)
def test_a_key_that_is_wrong_is_told_what_was_meant(folder, text, sentence):
    (folder / "config.toml").write_text(text)
    with pytest.raises(ConfigurationError) as wrong:
        read_toml(folder / "config.toml", ConfigFile)
    assert sentence in str(wrong.value)


def test_a_role_that_is_none_is_answered_with_those_that_are(folder):
    (folder / "job.toml").write_text("[[messages]]\nrole = 'usr'\ncontent = 'x'")
    with pytest.raises(ConfigurationError) as wrong:
        read_toml(folder / "job.toml", JobFile)
    assert "messages[0].role is 'usr', not assistant or user; did you mean" in str(wrong.value)


def test_contents_of_messages_are_a_text_or_blocks(folder):
    blocks = '{type = "image", column = "photo"}, {type = "text", text = "{{ q }}"}'
    text = "[[messages]]\nrole = 'user'\ncontent = "
    (folder / "job.toml").write_text(f"{text}'x'\n{text}[{blocks}]")
    plain, mixed = read_toml(folder / "job.toml", JobFile).messages
    assert plain.parts == "x"
    assert mixed.parts == (("image", "photo"), ("text", "{{ q }}"))


@pytest.mark.parametrize(
    ("block", "sentence"),
    [
        ("{type = 'image'}", "messages[0].content[0]: column is missing"),
        ("{type = 'image', column = 'a', text = 'b'}", "content[0]: unknown setting `text`"),
        (
            "{type = 'video', column = 'a'}",
            "messages[0].content[0].type: Invalid value 'video'",
        ),
    ],
)
def test_a_block_that_is_wrong_is_told_where_it_stands(folder, block, sentence):
    (folder / "job.toml").write_text(f"[[messages]]\nrole = 'user'\ncontent = [{block}]")
    with pytest.raises(ConfigurationError) as wrong:
        read_toml(folder / "job.toml", JobFile)
    assert sentence in str(wrong.value)
    assert "did you mean" not in str(wrong.value)


def test_an_endpoint_that_is_nearly_one_is_told(folder):
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    done = CliRunner().invoke(group, ["check", "rows.jsonl", "-e", "antropic"])
    assert "did you mean 'anthropic'?" in str(done.exception)


def test_the_schemas_accept_what_is_shipped_and_refuse_what_is_not_a_setting():
    job, config = (
        Draft202012Validator(json.loads(schema_of(kind))) for kind in ("job", "config")
    )
    for path in (ROOT / "jobs").glob("*.toml"):
        assert not list(job.iter_errors(tomllib.loads(path.read_text())))
        read_toml(path, JobFile)
    sample = uncommented()
    del sample["model_database"]
    assert not list(config.iter_errors(sample))
    assert list(job.iter_errors({"modle": "x"}))
    assert list(config.iter_errors({"store": "ful"}))


def test_the_command_prints_the_schema():
    done = CliRunner().invoke(group, ["jobs", "schema"])
    assert done.output == schema_of("job")
    assert CliRunner().invoke(group, ["jobs", "schema", "config"]).output == schema_of("config")
