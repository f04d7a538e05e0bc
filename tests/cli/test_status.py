import json

from batcher.errors import UsageError
from tests.cli.test_report import database, invoke  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401


def test_status_tells_how_runs_stand(database):  # noqa: F811
    assert invoke("status", "--database", database) == (
        "run 1: nightly\n"
        "  inputs    rows.jsonl\n"
        "  rows      not all read yet: 1 answered\n"
        "  cost      $0.0034\n"
        "  last      invocation 1 by ana on elsewhere, process 7, began 2026-01-05T12:00:00Z,"
        " ended 2026-01-05T12:01:00Z: exit code 0 (all rows done)\n"
    )


def test_status_is_one_json_object_when_asked(database):  # noqa: F811
    document = json.loads(invoke("status", "--database", database, "--run", "1", "--json"))
    assert [run["answered"] for run in document["runs"]] == [1]


def test_a_run_that_is_not_there_is_refused(database):  # noqa: F811
    invoke("status", "--database", database, "--run", "2", error=UsageError)
