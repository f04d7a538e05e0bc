import json
from pathlib import Path

import pytest

from tests.databases import sqlite_template, sqlite_url  # noqa: F401
from tests.e2e.processes import Folder
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
    return Folder(Path.cwd(), forks=True).batcher("reconcile", *words)


def test_agreement_is_exit_0_and_one_sentence(database, tmp_path):
    done = reconcile(usage(tmp_path, 5), "--database", database)
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Compared: 2 lines over 1 day, endpoint anthropic: 2 agree, 0 do not.\n"
    )


def test_a_further_page_is_exit_1_also_where_all_agrees(database, tmp_path):
    path = Path(usage(tmp_path, 5))
    path.write_text(path.read_text().replace('"has_more": false', '"has_more": true'))
    done = reconcile(str(path), "--database", database)
    assert (done.code, "There is a further page" in done.out) == (1, True)


def test_a_difference_is_exit_1_with_its_cause(database, tmp_path):
    done = reconcile(usage(tmp_path, 9), "--database", database, "--format", "csv")
    assert done.code == 1
    line = done.out.splitlines()[1]
    assert line.startswith(f"2026-01-05,{MODEL},standard,global,output,5,9,4,USD,")
    assert line.endswith("other users")


def test_all_lines_can_be_seen(database, tmp_path):
    done = reconcile(usage(tmp_path, 5), "--database", database, "--all")
    assert done.code == 0
    assert len(done.out.splitlines()) == 6


def test_no_file_is_a_question_of_usage(database):
    done = reconcile("--database", database)
    assert done.code == 2


def costs(tmp_path, cents):
    result = {"amount": cents, "currency": "USD", "cost_type": "tokens", "model": MODEL,
              "token_type": "output_tokens", "service_tier": "standard",
              "inference_geo": "global"}  # fmt: skip
    bucket = {"starting_at": "2026-01-05T00:00:00Z", "ending_at": "2026-01-06T00:00:00Z",
              "results": [result, {**result, "token_type": "uncached_input_tokens",
                                   "amount": "0.004"}]}  # fmt: skip
    path = tmp_path / "costs.json"
    path.write_text(json.dumps({"data": [bucket], "has_more": False}))
    return str(path)


def report(*words):
    told = Folder(Path.cwd(), forks=True).batcher("report", *words)
    assert told.code == 0, told.err
    return told.out


def test_what_is_left_over_can_be_recorded_shown_and_taken_back(database, tmp_path):
    here, path = ("--database", database), costs(tmp_path, "0.012")
    done = reconcile(path, "--record", *here)
    assert done.code == 0
    assert "Recorded in" in done.out
    assert "1 adjustment, $0.00002, over 1 whole day of costs." in done.out
    assert reconcile(path, *here).code == 0
    shown = report(*here)
    assert shown.count("Adjustments") == 2
    assert "Reconciliation: 1 day, 2026-01-05 to 2026-01-05, 1 adjustment, the last by" in shown
    assert "2026-01-05" in reconcile("--recorded", *here).out
    assert reconcile("--undo", "1", *here).out.startswith("Taken back: adjustment 1")
    assert reconcile(path, *here).code == 1
    assert "Adjustments" not in report(*here)


def test_recording_the_same_file_twice_changes_no_report(database, tmp_path):
    here, path = ("--database", database), costs(tmp_path, "0.012")
    reconcile(path, "--record", *here)
    before = report("--format", "json", *here)
    assert reconcile(path, "--record", *here).code == 0
    assert report("--format", "json", *here) == before


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("--record",), "give the provider's files"),
        (("--record", "--undo", "1", "FILE"), "--record and --undo are two commands"),
        (("--recorded", "FILE"), "--recorded reads no report: leave out"),
        (("--undo", "3"), "there is no adjustment 3"),
    ],
)
def test_what_makes_no_sense_is_refused(database, tmp_path, words, sentence):
    path = usage(tmp_path, 5)
    done = reconcile(*(path if word == "FILE" else word for word in words),
                     "--database", database)  # fmt: skip
    assert (done.code, done.out) == (2, "")
    assert sentence in done.err
