"""What a model, a row or a file says does not steer a terminal, whichever command shows it."""

import json
from pathlib import Path

import pytest

from batcher.ledger.connect import open_engine, writing
from tests.cli.terminal import on_a_terminal
from tests.cli.test_report import database  # noqa: F401
from tests.databases import sqlite_template, sqlite_url  # noqa: F401

EVIL = "a\x1b[31m\x9b2J\u202eb"


@pytest.mark.parametrize(
    "words",
    [
        *(["report", "--format", form] for form in ("table", "csv", "json", "markdown")),
        *(["export", "--format", form] for form in ("jsonl", "csv")),
        ["show", "row-1"], ["show", "row-1", "--json"], ["status"],
        ["check", "evil.jsonl", "-m", "claude-haiku-4-5"],
        ["run", "evil.jsonl", "-m", "claude-haiku-4-5", "--dry-run"],
        ["config", "show", "evil.toml"],
    ],
    ids=" ".join,
)  # fmt: skip
def test_nothing_steers_a_terminal(database, words, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)
    with writing(engine := open_engine(database)) as connection:
        for table, column in (("answers", "model"), ("answers", "text"), ("runs", "job")):
            connection.exec_driver_sql(f"UPDATE {table} SET {column} = ?", (EVIL,))
    engine.dispose()
    row = {"messages": EVIL, "max_tokens": EVIL}
    fine = {"prompt": EVIL}
    lines = "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in (fine, row))
    Path("evil.jsonl").write_text(lines)
    Path("evil.toml").write_text(f"inputs = ['e.jsonl']\nsystem = {json.dumps(EVIL)}\n")
    environment = {
        "BATCHER_DATABASE": database, "PATH": "/usr/bin:/bin", "NO_COLOR": "1", "TERM": "dumb",
    }  # fmt: skip
    _, shown = on_a_terminal(*words, environment=environment)
    assert not any(sign in shown for sign in "\x1b\x9b\u202e"), shown
    assert "Traceback" not in shown
