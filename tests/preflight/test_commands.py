"""Pre-flight rules as a person meets them: check, run, configuration."""

import json
from contextlib import closing
from pathlib import Path
from sqlite3 import connect

import pytest

from batcher import wiring
from batcher.config.endpoints import endpoint_named, endpoint_names
from batcher.config.keys import read_key
from batcher.errors import ConfigurationError
from batcher.preflight.rules import shipped_rules
from batcher.wiring.examine import examine
from tests.cli.test_report import invoke
from tests.making_runs import Watcher, row, simulating, write_rows

BAD = row("warm", "bad", model="claude-opus-5-5", temperature=0.7)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", [row("first", "good"), BAD, row("last", "fine")])
    return tmp_path


def inspected(*inputs, **options):
    asked = wiring.asked(inputs or ("rows.jsonl",), None, None, options=options)
    return wiring.inspect_inputs(wiring.resolve(asked))


def test_check_tells_which_rows_would_be_refused_and_why(folder):
    found = inspected()
    assert (found.requests, found.reasons) == (2, {"TEMPERATURE_NOT_DEFAULT": 1})


def test_no_preflight_sends_them_all(folder, monkeypatch):
    assert inspected(preflight=False).requests == 3
    monkeypatch.setenv("BATCHER_PREFLIGHT", "false")
    assert inspected().requests == 3
    assert inspected(preflight=True).requests == 2


def test_the_option_is_one_of_check_and_of_run(folder):
    assert "2 requests" in invoke("check", "rows.jsonl")
    for command in (("check",), ("run", "--dry-run")):
        assert "3 requests" in invoke(*command, "rows.jsonl", "--no-preflight")


def test_a_setting_switches_the_rules_off(folder):
    (folder / "config.toml").write_text("preflight = false\n")
    assert inspected().requests == 3


def test_the_rules_are_those_of_the_endpoint(folder):
    assert inspected(endpoint="litellm").requests == 3
    (folder / "config.toml").write_text(
        '[endpoints.mine]\nbase_url = "http://127.0.0.1:1"\ndialect = "litellm"\n'
    )
    assert inspected(endpoint="mine").requests == 3


def test_a_dialect_that_nobody_knows_is_an_error_of_configuration(folder):
    (folder / "config.toml").write_text('[endpoints.anthropic]\ndialect = "antropic"\n')
    for options in ({}, {"preflight": False}):
        with pytest.raises(ConfigurationError, match="unknown dialect 'antropic'"):
            inspected(**options)
    found = examine(wiring.asked(("rows.jsonl",), None, None))
    assert [f.what for f in found if "unknown dialect" in f.words] == ["endpoint"]


def test_a_refused_row_is_never_sent_and_the_others_are(folder):
    with simulating() as simulator:
        options = {"endpoint": "simulator", "base_url": simulator.base_url}
        job = wiring.resolve(wiring.asked(("rows.jsonl",), None, None, options=options))
        ended = wiring.run(job, Watcher())
        assert len(simulator.bill) == 2
    assert ended.exit_code == 65
    with closing(connect("batcher.db")) as ledger:
        query = "SELECT row_number, custom_id, kind, reason, message FROM v_failures"
        ((number, custom_id, kind, reason, message),) = ledger.execute(query).fetchall()
    assert (number, custom_id, kind) == (2, "bad", "quarantined")
    assert reason == "TEMPERATURE_NOT_DEFAULT"
    assert message.startswith("temperature is 0.7; claude-opus-5-5 takes only the default")


def test_a_setting_that_is_none_is_refused(folder):
    (folder / "config.toml").write_text('preflight = "some"\n')
    with pytest.raises(ConfigurationError, match="preflight"):
        inspected()


PRESETS = {
    "anthropic": (
        "https://api.anthropic.com/v1/messages",
        "x-api-key",
        "2023-06-01",
        "ANTHROPIC_API_KEY",
    ),
    "crun": ("https://api.crun.ai/api/v1/messages", "bearer", "2023-06-01", "CRUN_API_KEY"),
    "sunra": ("https://api-llm.sunra.ai/v1/messages", "bearer", None, "SUNRA_API_KEY"),
    "litellm": ("http://127.0.0.1:4000/v1/messages", "bearer", "2023-06-01", "LITELLM_API_KEY"),
    "vllm": ("http://127.0.0.1:8000/v1/messages", "none", None, None),
    "llamacpp": ("http://127.0.0.1:8080/v1/messages", "none", None, None),
    "ollama": ("http://127.0.0.1:11434/v1/messages", "none", None, None),
    "openrouter": (
        "https://openrouter.ai/api/v1/messages",
        "bearer",
        "2023-06-01",
        "OPENROUTER_API_KEY",
    ),
    "deepseek": (
        "https://api.deepseek.com/anthropic/v1/messages",
        "x-api-key",
        None,
        "DEEPSEEK_API_KEY",
    ),
    "simulator": ("http://127.0.0.1:8089/v1/messages", "x-api-key", "2023-06-01", None),
}


@pytest.mark.parametrize("name", PRESETS)
def test_each_preset_knows_its_server(name):
    endpoint = endpoint_named(name, {})
    assert PRESETS[name] == (
        endpoint.messages_url,
        endpoint.auth,
        endpoint.anthropic_version,
        endpoint.api_key_env,
    )
    own = name != "simulator"
    assert endpoint.dialect == (name if own else "anthropic")
    assert endpoint.dialect in shipped_rules().dialects
    assert endpoint.price_list == ("anthropic" if name in {"anthropic", "simulator"} else None)
    assert endpoint.simulated is not own


def test_there_is_a_line_for_every_preset_and_every_dialect_has_one():
    clouds = {"claude-aws", "bedrock", "foundry"}  # see tests/transport/test_clouds.py
    assert set(endpoint_names({})) == PRESETS.keys() | clouds
    assert shipped_rules().dialects.keys() == PRESETS.keys() - {"simulator"}


@pytest.mark.parametrize("name", ["vllm", "llamacpp", "ollama"])
def test_servers_on_this_machine_need_no_key(name):
    assert read_key(endpoint_named(name, {})) is None


def test_statuses_have_the_meaning_of_the_server():
    verdicts = {n: endpoint_named(n, {}).verdicts for n in PRESETS}
    assert verdicts["sunra"] == {403: "pause quota"}
    assert verdicts["llamacpp"] == verdicts["ollama"] == {503: "overloaded"}


def test_the_endpoint_of_the_documentation_is_one(folder):
    page = (Path(__file__).parent.parent.parent / "docs/endpoints.md").read_text()
    example = page.split("```toml\n[endpoints.inference]")[1].split("```")[0]
    example = f"[endpoints.inference]{example}"
    assert len(example.splitlines()) <= 10
    (folder / "config.toml").write_text(example)
    write_rows(folder / "docs.jsonl", [json.dumps({"prompt": "hi", "model": "m"})])
    assert inspected("docs.jsonl", endpoint="inference").requests == 1
