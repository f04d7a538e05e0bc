import json
import os
import subprocess
import sys

import pytest

from tests.databases import sqlite_template, sqlite_url  # noqa: F401
from tests.report.ledger_rows import LedgerRows

MODEL = "claude-opus-5-5"


@pytest.fixture
def database(sqlite_url):  # noqa: F811
    rows = LedgerRows(sqlite_url)
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.rate_set(model=MODEL, input_rate=4_000_000, output_rate=20_000_000)
    rows.charge(rows.answer(1, 1, model=MODEL), 140_000_000, model=MODEL, rate_set_id=1,
                input_amount=40_000_000, output_amount=100_000_000)  # fmt: skip
    rows.engine.dispose()
    return sqlite_url


def usage(tmp_path, output):
    result = {"uncached_input_tokens": 10, "output_tokens": output, "model": MODEL,
              "service_tier": "standard", "inference_geo": "global"}  # fmt: skip
    bucket = {"starting_at": "2026-01-05T00:00:00Z", "ending_at": "2026-01-06T00:00:00Z",
              "results": [result]}  # fmt: skip
    path = tmp_path / "usage.json"
    path.write_text(json.dumps({"data": [bucket], "has_more": False}))
    return str(path)


def reconcile(*words):
    command = [sys.executable, "-m", "batcher", "reconcile", *words]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=30, check=False,
        env={"PATH": os.defpath},
    )  # fmt: skip


def test_agreement_is_exit_0_and_one_sentence(database, tmp_path):
    done = reconcile(usage(tmp_path, 5), "--database", database)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Compared: 2 lines over 1 day, endpoint anthropic: 2 agree, 0 do not.\n"
    )


def test_a_difference_is_exit_1_with_its_cause(database, tmp_path):
    done = reconcile(usage(tmp_path, 9), "--database", database, "--format", "csv")
    assert done.returncode == 1
    line = done.stdout.splitlines()[1]
    assert line.startswith(f"2026-01-05,{MODEL},standard,global,output,5,9,4,USD,")
    assert line.endswith("other users")


def test_all_lines_can_be_seen(database, tmp_path):
    done = reconcile(usage(tmp_path, 5), "--database", database, "--all")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 6


def test_no_file_is_a_question_of_usage(database):
    done = reconcile("--database", database)
    assert done.returncode == 2
