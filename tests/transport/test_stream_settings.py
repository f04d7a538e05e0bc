"""Where `stream` may be set, and which setting wins."""

from pathlib import Path

import pytest

from batcher import wiring
from batcher.errors import ConfigurationError
from batcher.ledger.connect import open_engine
from batcher.messages.request import StreamMode
from tests.making_runs import ask

ENDPOINT = '[endpoints.anthropic]\nstream = "never"\nstream_idle_seconds = 7\n'


def endpoint_of(folder, monkeypatch, *, config="", job=""):
    (folder / "config.toml").write_text(config)
    (folder / "job.toml").write_text(f'inputs = ["rows.jsonl"]\n{job}')
    monkeypatch.chdir(folder)
    return wiring.resolve(wiring.asked((), folder / "job.toml", None)).endpoint


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, StreamMode.AUTO),
        ({"config": ENDPOINT}, StreamMode.NEVER),
        ({"config": 'stream = "always"\n' + ENDPOINT}, StreamMode.ALWAYS),
        ({"config": 'stream = "always"\n', "job": 'stream = "auto"\n'}, StreamMode.AUTO),
        ({"job": 'stream = "always"\n'}, StreamMode.ALWAYS),
    ],
    ids=["nothing", "endpoint", "config", "job over config", "job"],
)
def test_the_nearest_setting_wins(tmp_path, monkeypatch, files, expected):
    assert endpoint_of(tmp_path, monkeypatch, **files).stream is expected


def test_the_environment_wins_over_files(tmp_path, monkeypatch):
    monkeypatch.setenv("BATCHER_STREAM", "never")
    endpoint = endpoint_of(tmp_path, monkeypatch, job='stream = "always"\n')
    assert endpoint.stream is StreamMode.NEVER


def test_an_endpoint_says_how_long_a_stream_may_be_silent(tmp_path, monkeypatch):
    endpoint = endpoint_of(tmp_path, monkeypatch, config=ENDPOINT)
    assert (endpoint.stream_idle_seconds, endpoint.stream_timeout_seconds) == (7, 3600)


def test_a_wrong_mode_is_refused_by_name(tmp_path, monkeypatch):
    with pytest.raises(ConfigurationError, match="stream"):
        endpoint_of(tmp_path, monkeypatch, job='stream = "sometimes"\n')


def test_the_query_of_the_documentation_runs(sqlite_url):
    open_engine(sqlite_url).dispose()
    text = (Path(__file__).parents[2] / "docs" / "streaming.md").read_text()
    (query,) = [part.partition("```")[0] for part in text.split("```sql\n")[1:]]
    assert ask(sqlite_url, query) == []
