"""The sample config.toml says what the program does."""

import re
import tomllib
from pathlib import Path

import msgspec

from batcher.config.files import read_config
from batcher.config.tables import DEFAULTS, ConfigFile
from batcher.pacing.backoff import BreakerPolicy, RetryPolicy
from batcher.pipeline.job import RunLimits

ROOT = Path(__file__).parent.parent.parent
SAMPLE = ROOT / "config.toml"


def uncommented():
    """The sample with every setting switched on; the second `database` is an alternative."""
    text = re.sub(r"^#(?=[a-z\[])", "", SAMPLE.read_text(), flags=re.M)
    return tomllib.loads(text.replace('database = "postgresql', 'model_database = "', 1))


def test_the_sample_changes_nothing_as_it_is():
    assert read_config(str(SAMPLE)) == ConfigFile()


def test_every_setting_of_the_sample_is_one():
    table = uncommented()
    del table["model_database"]
    msgspec.convert(table, ConfigFile)


def test_the_sample_shows_the_presets():
    presets = tomllib.loads((ROOT / "batcher/data/endpoints.toml").read_text())
    shown = uncommented()["endpoints"]
    shown.pop("local")
    assert shown == {name: presets[name] for name in shown}
    assert {"anthropic", "crun", "sunra", "simulator"} <= shown.keys()


def test_the_sample_shows_the_defaults():
    table = uncommented()
    policies = {**vars_of(RunLimits()), **vars_of(RetryPolicy()), **vars_of(BreakerPolicy())}
    assert table["retry"] == {name: policies[name] for name in table["retry"]}
    defaults = msgspec.to_builtins(DEFAULTS)
    stated = {name: value for name, value in defaults.items() if value is not None}
    assert {name: table[name] for name in stated if name in table} == {
        name: value for name, value in stated.items() if name in table
    }
    assert stated.keys() & table.keys() >= {"concurrency", "max_tokens", "store", "lease"}
    assert table["database"] == "batcher.db"


def vars_of(policy):
    return {name: getattr(policy, name) for name in policy.__dataclass_fields__}
