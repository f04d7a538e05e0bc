"""A first job file: it fits its input, works as it is, and says what to type next."""

import json
import tomllib

import pytest
from click.testing import CliRunner

from batcher import wiring
from batcher.cli.menu import group
from batcher.errors import CannotCreate, ConfigurationError
from batcher.estimate.new_job import job_path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def init(name, *more):
    words = ["init", "--input", name, "-e", "simulator", "-m", "claude-haiku-4-5", "-y", *more]
    return CliRunner().invoke(group, words)


def inspected(name):
    return wiring.inspect_inputs(wiring.resolve(wiring.asked((name,), None, None)))


def test_rows_that_are_requests_are_sent_as_they_are(folder):
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n' * 3)
    done = init("rows.jsonl")
    assert done.exit_code == 0, done.output
    assert "next: batcher run rows.toml --dry-run" in done.output
    assert "prompt" not in tomllib.loads((folder / "rows.toml").read_text())
    assert (inspected("rows.toml").requests, inspected("rows.toml").bad_rows) == (3, 0)


@pytest.mark.parametrize("name", ["tickets.jsonl", "tickets.csv"])
def test_other_rows_get_a_prompt_of_their_columns(folder, name):
    if name.endswith("csv"):
        (folder / name).write_text("id,subject,text\n7,Late,Where is it?\n8,Cold,Soup.\n")
    else:
        row = {"id": 7, "subject": "Late", "text": "Where is it?"}
        (folder / name).write_text(f"{json.dumps(row)}\n" * 2)
    done = init(name)
    assert done.exit_code == 0, done.output + str(done.exception)
    job = tomllib.loads((folder / "tickets.toml").read_text())
    assert job["prompt"] == "subject: {{ subject }}\ntext: {{ text }}\n"
    found = inspected("tickets.toml")
    assert (found.requests, found.bad_rows) == (2, 0)
    assert b"subject: Late\\ntext: Where is it?" in found.first_body


def test_columns_of_any_name_are_read(folder):
    (folder / "people.csv").write_text("First Name,for,Größe\nAda,x,1\nBob,y,2\n")
    assert init("people.csv").exit_code == 0
    prompt = tomllib.loads((folder / "people.toml").read_text())["prompt"]
    assert prompt.splitlines()[:2] == [
        'First Name: {{ row["First Name"] }}',
        'for: {{ row["for"] }}',
    ]
    assert inspected("people.toml").requests == 2


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"prompt": "Hello", "max_token": 5}\n' * 3),
        ("a.csv", "prompt,max_token\nHello,5\n"),
    ],
)
def test_no_template_is_made_of_a_column_that_looks_like_a_field(folder, name, text):
    (folder / name).write_text(text)
    done = init(name)
    assert isinstance(done.exception, ConfigurationError) or done.exit_code == 78
    assert "looks like max_tokens" in f"{done.output}{done.exception}"


def test_gaps_in_a_column_are_no_reason_to_refuse_a_row(folder):
    rows = [{"text": "x", "n": 1}, {"text": "y"}, {"text": None, "n": 0}]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "quarantined" not in init("rows.jsonl").output
    found = inspected("rows.toml")
    assert (found.requests, found.bad_rows) == (3, 0)
    assert b"text: x\\nn: 1" in found.first_body


def test_an_empty_file_is_called_empty(folder):
    (folder / "rows.jsonl").write_text("")
    assert "rows.jsonl: is empty" in str(init("rows.jsonl").exception)


def test_what_a_run_would_lack_is_said(folder, monkeypatch):
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    done = init("rows.jsonl", "-e", "anthropic", "-m", "haiku")
    assert "no price for haiku, whose answers stay unpriced; did you mean 'claude-haiku" in (
        done.output
    )
    assert "set the environment variable ANTHROPIC_API_KEY" in done.output


def test_every_suggestion_can_be_switched_on(folder):
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    init("rows.jsonl")
    text = (folder / "rows.toml").read_text()
    switched = [line[1:] if line[:1] == "#" and line[1:2] not in " :" else line
                for line in text.splitlines()]  # fmt: skip
    (folder / "all.toml").write_text("\n".join(switched))
    assert wiring.job_file(folder / "all.toml").output


def test_the_schema_that_it_names_is_written_beside_it(folder):
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    init("rows.jsonl")
    first = (folder / "rows.toml").read_text().splitlines()[0]
    schema = json.loads((folder / first.removeprefix("#:schema ")).read_text())
    assert "$defs" in schema


def test_an_existing_job_stays(folder):
    (folder / "rows.jsonl").write_text('{"prompt": "Hello"}\n')
    (folder / "rows.toml").write_text("mine")
    assert isinstance(init("rows.jsonl").exception, CannotCreate)
    assert (folder / "rows.toml").read_text() == "mine"


def test_rows_of_which_nothing_can_be_made_are_refused(folder):
    (folder / "rows.jsonl").write_text("[1, 2]\n[3]\n")
    done = init("rows.jsonl")
    assert isinstance(done.exception, ConfigurationError)
    assert not (folder / "rows.toml").exists()


def test_without_a_terminal_nothing_is_asked(folder):
    done = CliRunner().invoke(group, ["init", "--input", "rows.jsonl"])
    assert done.exit_code == 2
    assert "--endpoint is missing" in done.output


@pytest.mark.parametrize(
    ("name", "job"),
    [("a.jsonl.gz", "a.toml"), ("b.parquet", "b.toml"), ("config.csv", "config-job.toml")],
)
def test_the_job_is_named_after_its_input(tmp_path, name, job):
    assert job_path(tmp_path / name) == tmp_path / job
