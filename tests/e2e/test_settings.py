"""What wins over what: row > options > environment > job > config.toml > built in."""

import pytest

from tests.e2e.inputs import write_jsonl
from tests.e2e.ledgers import read

MODELS = {
    "config": "claude-haiku-4-5",
    "job": "claude-sonnet-4-6",
    "environment": "claude-opus-5-5",
    "option": "claude-opus-4-8",
    "row": "claude-sonnet-5-5",
}


def model_sent(folder, url, layers) -> str:
    """Which model a row was sent to when those layers name one each."""
    named = {layer: f'model = "{MODELS[layer]}"\n' for layer in layers}
    (folder.path / "config.toml").write_text(named.get("config", ""))
    job = f'inputs = ["rows.jsonl"]\nendpoint = "simulator"\nbase_url = "{url}"\n'
    (folder.path / "job.toml").write_text(job + named.get("job", ""))
    own = {"model": MODELS["row"]} if "row" in layers else {}
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": "hi", **own}])
    option = ("--model", MODELS["option"]) if "option" in layers else ()
    environment = {}
    if "environment" in layers:
        environment["BATCHER_MODEL"] = MODELS["environment"]
    ended = folder.batcher(
        "run", "--job", "job.toml", "--accept-change", *option, **environment
    )
    assert ended.code == 0, ended.err
    last = "SELECT * FROM v_attempts ORDER BY opened_at DESC LIMIT 1"
    return read(str(folder.path / "batcher.db"), last)[0]["requested_model"]


def test_each_layer_wins_over_the_ones_below_it(folder, simulate):
    url, layers = simulate().url, []
    for layer, model in MODELS.items():
        layers.append(layer)
        assert model_sent(folder, url, layers) == model


def test_a_database_is_found_where_it_is_said(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": "hi", "model": "claude-haiku-4-5"}])
    (folder.path / "config.toml").write_text('database = "from-config.db"\n')
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulate().url)
    assert folder.batcher(*command).code == 0
    assert folder.batcher(*command, BATCHER_DATABASE="from-environment.db").code == 0
    option = ("--database", "from-option.db")
    assert folder.batcher(*command, *option, BATCHER_DATABASE="other.db").code == 0
    found = {path.name for path in folder.path.glob("*.db")}
    assert found == {"from-config.db", "from-environment.db", "from-option.db"}


def test_a_configuration_elsewhere_names_files_beside_itself(folder, simulate):
    place = folder.path / "elsewhere"
    place.mkdir()
    (place / "system.txt").write_text("Answer in one word.")
    text = 'database = "there.db"\nsystem = "@system.txt"\nmodel = "claude-haiku-4-5"\n'
    (place / "mine.toml").write_text(text)
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": "hi"}])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulate().url)
    ended = folder.batcher(*command, "--dry-run", BATCHER_CONFIG=str(place / "mine.toml"))
    assert "Answer in one word." in ended.out
    assert folder.batcher(*command, "--config", "elsewhere/mine.toml").code == 0
    assert (place / "there.db").exists()
    assert not (folder.path / "batcher.db").exists()


def test_a_job_keeps_its_database_and_inputs_beside_itself(folder, simulate):
    place = folder.path / "jobs"
    place.mkdir()
    write_jsonl(place / "rows.jsonl", [{"topic": "fog"}, {"topic": "ink"}])
    (place / "words.toml").write_text(
        'inputs = ["rows.jsonl"]\nprompt = "Row {{ row_number }}: {{ topic }}"\n'
        'model = "claude-haiku-4-5"\noutput = "out.jsonl"\n[tags]\nteam = "ours"\n'
    )
    where = ("--endpoint", "simulator", "--base-url", simulate().url)
    assert folder.batcher("run", "--job", "jobs/words.toml", *where).code == 0
    made = {path.name for path in place.iterdir()}
    assert {"batcher.db", "out.jsonl"} <= made
    told = folder.batcher(
        *("report", "--by", "tag:team", "--format", "json"),
        *("--database", "jobs/batcher.db"),
    )
    assert [line["key"] for line in told.json["lines"]] == [{"tag:team": "ours"}]


@pytest.mark.parametrize(
    ("name", "value", "word"),
    [
        ("BATCHER_CONCURRENCY", "many", "BATCHER_CONCURRENCY: must be a whole number"),
        ("BATCHER_ON_UNKNOWN", "panic", "BATCHER_ON_UNKNOWN (on_unknown) is"),
    ],
)
def test_a_wrong_variable_is_refused_by_name(folder, name, value, word):
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": "hi", "model": "claude-haiku-4-5"}])
    command = ("run", "rows.jsonl", "--endpoint", "simulator")
    ended = folder.batcher(*command, **{name: value})
    assert ended.code == 78
    assert word in ended.err


def test_an_empty_variable_says_nothing(folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", [{"prompt": "hi", "model": "claude-haiku-4-5"}])
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulate().url)
    assert folder.batcher(*command, BATCHER_MODEL="", BATCHER_CONFIG="").code == 0
