import json
import os

import pytest

from batcher.errors import UsageError
from batcher.ledger.connect import open_engine, writing
from tests.cli.terminal import on_a_terminal
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


@pytest.mark.parametrize("words", [["answers"], ["show", "row-1"]], ids=" ".join)
def test_a_terminal_gets_lines_of_its_width(database, words):  # noqa: F811
    text = "A sentence of words that is longer than any line. " * 9
    with writing(engine := open_engine(database)) as connection:
        connection.exec_driver_sql("UPDATE answers SET text = ?", (text,))
    engine.dispose()
    asked = [*words, "--database", database]
    whole = invoke(*asked)
    code, shown = on_a_terminal(*asked, environment={"PATH": os.defpath}, width=60)
    lines = shown.splitlines()
    assert (code, shown.split()) == (0, whole.split())
    assert max(map(len, lines)) <= 60 < max(map(len, whole.splitlines()))
    assert len(lines) < 2 * len(text) / 50 + len(whole.splitlines())
