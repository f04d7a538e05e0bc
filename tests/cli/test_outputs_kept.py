"""Commands with an output leave alone what is not theirs, whatever it is called."""

import json
import resource
import shutil
import sqlite3
from contextlib import closing
from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import CannotCreate
from batcher.rows.read.source import fingerprint, input_naming
from tests.databases import sqlite_template  # noqa: F401
from tests.report.ledger_rows import LedgerRows

FORMATS = ["table", "csv", "json", "markdown", "html", "parquet", "focus"]
PRICES = "model,valid_from,input,output\nm,2026-01-01,1,2\n"


@pytest.fixture
def folder(tmp_path, sqlite_template, monkeypatch):  # noqa: F811
    """A ledger with one run over `q.jsonl`, in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(sqlite_template, "batcher.db")
    Path("q.jsonl").write_text('{"prompt": "a"}\n{"broken\n')
    Path("prices.csv").write_text(PRICES)
    Path("usage.json").write_text(json.dumps({"data": [], "has_more": False}))
    rows = LedgerRows("batcher.db")
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1, name="q.jsonl", location=str(tmp_path / "q.jsonl"))
    rows.charge(rows.answer(1, 1, 1), 3_400_000_000)
    rows.engine.dispose()
    return tmp_path


def seen(folder):
    return {
        path.name: sha256(path.read_bytes()).hexdigest()
        for path in folder.iterdir()
        if not path.name.endswith(("-wal", "-shm"))
    }


def invoke(*words):
    return CliRunner().invoke(group, words)


COMMANDS = {
    **{f"report {form}": ["report", "--format", form] for form in FORMATS},
    "view": ["report", "--view", "top"],
    "export": ["export", "--format", "csv"],
    "failures": ["export", "--failures", "--format", "jsonl"],
    "recorded": ["reconcile", "--recorded"],
    "import": ["prices", "import", "prices.csv"],
}


@pytest.mark.parametrize("forced", [False, True])
@pytest.mark.parametrize("name", ["batcher.db", "batcher.db-wal", "q.jsonl", "soft", "hard"])
@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_no_output_replaces_an_input_or_a_ledger(folder, words, name, forced):
    Path("soft").symlink_to("batcher.db")
    Path("hard").hardlink_to("q.jsonl")
    before = seen(folder)
    done = invoke(*words, "-o", name, *(["--force"] if forced else []))
    assert isinstance(done.exception, CannotCreate), done.exception
    assert "name another file" in str(done.exception)
    assert seen(folder) == before


@pytest.mark.parametrize("words", [COMMANDS["report csv"], COMMANDS["failures"]])
def test_an_input_is_known_by_what_is_in_it_where_it_was_renamed_since(folder, words):
    with closing(sqlite3.connect("batcher.db")) as ledger, ledger:
        ledger.execute("UPDATE sources SET fingerprint = ?", [fingerprint(Path("q.jsonl"))])
    Path("q.jsonl").rename("old.jsonl")
    before = seen(folder)
    done = invoke(*words, "-o", "old.jsonl", "--force")
    assert isinstance(done.exception, CannotCreate), done.exception
    assert "an input of a run" in str(done.exception)
    assert seen(folder) == before


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_a_file_of_somebody_else_is_replaced_by_force_only(folder, words):
    Path("mine").write_text("my notes\n")
    before = seen(folder)
    done = invoke(*words, "-o", "mine")
    assert isinstance(done.exception, CannotCreate), done.exception
    assert "--force" in str(done.exception)
    assert seen(folder) == before
    assert invoke(*words, "-o", "mine", "--force").exception is None
    assert Path("mine").read_bytes() != b"my notes\n"


@pytest.mark.parametrize("form", FORMATS)
def test_a_report_of_yesterday_is_replaced_by_that_of_today(folder, form):
    words = ["report", "--format", form, "-o", "report"]
    assert invoke(*words, "--until", "2026-01-01").exception is None  # nothing was sent yet
    for more in ([], ["--until", "2026-01-01"], []):
        assert invoke(*words, *more).exception is None
    assert Path("report").read_bytes()
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet", "jsonl.gz", "csv.zst"])
def test_an_export_is_replaced_by_a_later_one(folder, ending):
    words = ["export", "-o", f"answers.{ending}"]
    assert invoke(*words).exception is None
    Path(f"answers.{ending}").chmod(0o640)
    assert invoke(*words, "--answered-only").exception is None
    assert Path(f"answers.{ending}").stat().st_mode & 0o777 == 0o640


def test_behind_a_link_it_is_the_file_that_is_replaced(folder):
    Path("current.csv").symlink_to("answers-2026.csv")
    for _ in range(2):
        assert invoke("export", "-o", "current.csv").exception is None
    assert Path("current.csv").is_symlink()
    assert Path("answers-2026.csv").read_text().startswith("custom_id,")


def test_a_backup_and_new_files_keep_the_places_of_a_ledger_free(folder):
    for words in (["db", "backup"], ["config", "init"], ["simulate", "--bill"]):
        done = invoke(*words, "batcher.db-journal")
        assert isinstance(done.exception, CannotCreate), words
    Path("q.jsonl").unlink()
    assert isinstance(invoke("db", "backup", "q.jsonl").exception, CannotCreate)


@pytest.mark.parametrize("target", ["q.jsonl", "new.jsonl", "batcher.db", "batcher.db.lock"])
@pytest.mark.parametrize("option", ["-o", "--log-file"])
def test_a_run_writes_into_none_of_its_own_files(folder, target, option):
    Path("new.jsonl").write_text('{"prompt": "a"}\n')
    before = seen(folder)
    words = ["run", "q.jsonl", "new.jsonl", "-m", "claude-haiku-4-5", "-e", "simulator"]
    done = invoke(*words, option, target, "--force")
    assert isinstance(done.exception, CannotCreate), done.exception
    assert seen(folder) == before


def test_a_run_says_before_it_sends_that_its_output_is_somebody_elses(folder):
    Path("mine.csv").write_text("a,b\n1,2\n")
    words = ["run", "q.jsonl", "-m", "claude-haiku-4-5", "-e", "simulator", "-o", "mine.csv"]
    assert "--force" in str(invoke(*words).exception)
    assert Path("mine.csv").read_text() == "a,b\n1,2\n"


@pytest.mark.parametrize("place", ["batcher.db-journal", "batcher.db-wal", "batcher.db-shm/a"])
def test_a_folder_of_views_takes_no_place_beside_a_ledger(folder, place):
    """SQLite opens no database beside which a folder has the name of its journal."""
    done = invoke("export", "--all-views", "-o", place)
    assert isinstance(done.exception, CannotCreate), done.exception
    assert invoke("status").exception is None


def test_a_new_file_is_there_whole_or_not_at_all(folder):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        done = invoke("config", "init", "new.toml")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert isinstance(done.exception, CannotCreate)
    assert not Path("new.toml").exists()


@pytest.mark.parametrize(
    ("given", "output"),
    [
        ("r*.jsonl", "r-out.jsonl"),
        ("./r*.jsonl", "rows/../r-out.jsonl"),
        ("rows", "rows/out.csv"),
        ("rows", "link/deep/out.jsonl.gz"),
        ("**/r?.jsonl", "rows/deep/r2.jsonl"),
    ],
)
def test_a_run_writes_no_output_that_it_would_read_the_next_time(folder, given, output):
    """Its answers stand beside the rows' own prompts: they would be sent and paid again."""
    Path("rows/deep").mkdir(parents=True)
    if output.startswith("link"):
        Path("link").symlink_to("rows")
    for name in ("r1.jsonl", "rows/r1.jsonl"):
        Path(name).write_text('{"prompt": "a"}\n')
    words = ["run", given, "-m", "claude-haiku-4-5", "-e", "simulator", "-o"]
    done = invoke(*words, output, "--force")
    assert isinstance(done.exception, CannotCreate)
    assert "next time" in str(done.exception)
    assert not Path(output).exists()


@pytest.mark.parametrize("output", ["out.jsonl", "r1.csv", "rows/_r.jsonl", "r/r3.jsonl"])
def test_an_output_beside_a_pattern_is_none_of_its_files(folder, output):
    assert input_naming(["r*.jsonl", "-", "rows"], folder, str(folder / output)) is None


@pytest.mark.parametrize(
    ("given", "output", "is_found"),
    [
        ("s3://bucket/in/*.jsonl", "s3://bucket/in/out.jsonl", True),
        ("s3://bucket/**/a*.jsonl", "s3://bucket/in/deep/answers.jsonl", True),
        ("s3://bucket/in/", "s3://bucket/in/deep/out.jsonl.gz", True),
        ("s3://bucket/in", "s3://bucket/in/out.csv", True),
        ("s3://bucket/in", "s3://bucket/input.jsonl", False),
        ("s3://bucket/in", "s3://bucket/in/_out.jsonl", False),
        ("s3://bucket/in", "gs://bucket/in/out.jsonl", False),
        ("s3://bucket/in/*.jsonl", "s3://bucket/in/deep/out.jsonl", False),
        ("in/*.jsonl", "s3://bucket/in/out.jsonl", False),
        ("**/*.jsonl", "s3://bucket/in/out.jsonl", False),
    ],
)
def test_the_same_in_an_object_store(tmp_path, given, output, is_found):
    assert input_naming([given], tmp_path, output) == (given if is_found else None)
