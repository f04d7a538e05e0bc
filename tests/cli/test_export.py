import json
import subprocess
import sys

import click
import pytest

from batcher.cli.menu import group
from batcher.errors import UsageError
from tests.cli.test_report import database, invoke  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401


def test_standard_output_carries_rows_and_nothing_else(database):  # noqa: F811
    words = [sys.executable, "-m", "batcher", "export", "--database", database]
    child = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    (line,) = child.stdout.splitlines()
    assert (child.returncode, json.loads(line)["text"]) == (0, "Hello")
    assert child.stderr == (
        "warning: rows.jsonl: the file /gone/rows.jsonl is not there any more, so its rows come"
        " without their own columns\n"
        "1 row to standard output, 1 answered\n"
    )


def test_the_name_of_the_file_tells_what_to_write(database, tmp_path):  # noqa: F811
    target = tmp_path / "answers.csv"
    invoke("export", "--database", database, "-o", str(target), "--answered-only")
    assert target.read_text().splitlines()[1].startswith("row-1,rows.jsonl,1,answered,")


def test_batch_results_are_told_as_lines(database, tmp_path):  # noqa: F811
    target = tmp_path / "results.jsonl"
    invoke("export", "--database", database, "-o", str(target), "--format", "batch-results")
    (line,) = map(json.loads, target.read_text().splitlines())
    assert (line["custom_id"], line["result"]["type"]) == ("row-1", "succeeded")


def test_an_unknown_kind_of_file_is_refused(database, tmp_path):  # noqa: F811
    target = str(tmp_path / "answers.doc")
    sentence = invoke("export", "--database", database, "-o", target, error=UsageError)
    assert "unknown kind of file" in sentence


def test_columns_rows_and_views_are_chosen(database, tmp_path):  # noqa: F811
    target = tmp_path / "answers.csv"
    words = ("export", "--database", database, "-o", str(target))
    invoke(*words, "--columns", "custom_id, text", "--where", "status=answered")
    assert target.read_text() == "custom_id,text\nrow-1,Hello\n"
    folder = tmp_path / "views"
    said = invoke("export", "--database", database, "--all-views", "-o", str(folder))
    assert (folder / "v_texts.parquet").is_file(), said


@pytest.mark.parametrize(
    "words",
    [
        ("--failures", "--columns", "text"),
        ("--format", "batch-results", "--where", "status=answered"),
        ("--all-views",),
        ("--all-views", "--failures", "-o", "folder"),
        ("--failures", "--run", "1", "--run", "2"),
    ],
)
def test_options_that_exclude_each_other_are_named(database, words):  # noqa: F811
    with pytest.raises(click.UsageError):
        group.main(["export", "--database", database, *words], standalone_mode=False)
