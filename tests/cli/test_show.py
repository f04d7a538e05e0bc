import json

from batcher.errors import UsageError
from tests.cli.test_report import database, invoke  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401


def test_show_walks_a_request_back(database):  # noqa: F811
    text = invoke("show", "row-1", "--database", database)
    assert text.startswith("rows.jsonl:1 row-1 (run 1, claude-sonnet-5, first 2026-01-05T")
    assert "attempt 1 (first): answered  uid-1\n" in text


def test_show_is_one_json_object_when_asked(database):  # noqa: F811
    document = json.loads(invoke("show", "rows.jsonl:1", "--database", database, "--json"))
    assert document["request"]["custom_id"] == "row-1"


def test_an_unknown_name_is_refused(database):  # noqa: F811
    sentence = invoke("show", "nobody", "--database", database, error=UsageError)
    assert "nothing here is called 'nobody'" in sentence
