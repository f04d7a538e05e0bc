"""What goes in and comes out: standard input, globs, compressed files; answers in order."""

import csv
import json
import stat
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from tests.e2e.inputs import jsonl_text, row, rows, write_jsonl, write_parquet
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read
from tests.e2e.processes import BATCHER, kill, wait_until


@pytest.fixture
def sending(folder, simulate):
    """The words of a run of `inputs`; `sending.simulator` gets the requests."""
    simulator = simulate("--latency-ms", "1-10")

    def command(*inputs):
        return ("run", *inputs, "--endpoint", "simulator", "--base-url", simulator.url)

    command.simulator = simulator
    return command


def test_standard_input_is_kept_for_its_owner_and_continued(folder, simulate, gated):
    slow = simulate("--latency-ms", "20-60")
    gate, text = gated(slow, answers=100), jsonl_text(rows(200))
    command = ("run", "-", "--endpoint", "simulator", "--base-url", gate.url)
    command = (*command, "--concurrency", "8")
    (folder.path / "text").write_bytes(text)
    with (folder.path / "text").open("rb") as stdin:
        process = folder.start(*command, stdin=stdin)
    assert wait_until(lambda: slow.billed() >= 50, process)
    kill(process)
    gate.open()
    (spool,) = folder.path.glob("stdin-*.jsonl")
    assert stat.S_IMODE(spool.stat().st_mode) == 0o600

    ended = folder.batcher(*command, stdin=text)
    assert ended.code == 0, ended.err
    books = check_everything(folder, str(folder.path / "batcher.db"), slow, {"-": 200})
    assert len(books.answers) == 200
    assert folder.batcher(*command, stdin=text).code == 0
    assert slow.billed() == len(books.bill), "the third time had nothing to send"


def test_an_argument_in_another_encoding_is_refused_in_one_sentence(folder, sending):
    ended = folder.batcher(*sending("rows.jsonl"), "--tag", "place=Z\udcfcrich")
    assert ended.code == 2
    assert "is not UTF-8" in ended.err
    assert "Traceback" not in ended.err


def test_a_current_folder_that_is_gone_is_said_to_be(folder, tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    words = "import os, sys; os.rmdir(os.getcwd()); os.execv(sys.argv[1], sys.argv[1:])"
    told = subprocess.run(
        [sys.executable, "-c", words, *BATCHER, "status"],
        cwd=gone,
        capture_output=True,
        text=True,
        timeout=30,
        env={"PYTHONPATH": str(Path.cwd())},
        check=False,
    )
    assert told.returncode == 2
    assert "the current folder is not there" in told.stderr
    assert "Traceback" not in told.stderr


def test_empty_standard_input_is_a_run_without_rows(folder, sending):
    ended = folder.batcher(*sending("-"), stdin=b"")
    assert ended.code == 0
    assert "the input has no rows" in ended.err


@pytest.mark.parametrize("name", ["rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"])
def test_compressed_and_columnar_files_are_read(folder, sending, name):
    write = write_parquet if name.endswith(".parquet") else write_jsonl
    write(folder.path / name, rows(50))
    assert folder.batcher(*sending(name)).code == 0
    database = str(folder.path / "batcher.db")
    check_everything(folder, database, sending.simulator, {name: 50})


def test_a_cut_compressed_file_is_said_to_be_cut_and_its_good_rows_are_sent(folder, sending):
    items = [row(n, "padding " * 2000) for n in range(200)]
    whole = write_jsonl(folder.path / "whole.jsonl.gz", items).read_bytes()
    (folder.path / "rows.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    ended = folder.batcher(*sending("rows.jsonl.gz"))
    assert ended.code == 65
    database = str(folder.path / "batcher.db")
    (failure,) = read(database, "SELECT * FROM v_failures")
    assert failure["reason"] in {"TRUNCATED_FILE", "TRUNCATED_TAIL"}
    assert 0 < count(database, "v_answers") < 200


def test_a_glob_in_quotes_is_expanded_and_grows(folder, sending):
    for name, first in (("b.jsonl", 10), ("a.jsonl", 0)):
        write_jsonl(folder.path / name, rows(10, first=first))
    assert folder.batcher(*sending("*.jsonl")).code == 0
    write_jsonl(folder.path / "c.jsonl", rows(5, first=20))
    assert folder.batcher(*sending("*.jsonl")).code == 0
    inputs = {"a.jsonl": 10, "b.jsonl": 10, "c.jsonl": 5}
    database = str(folder.path / "batcher.db")
    books = check_everything(folder, database, sending.simulator, inputs)
    assert len(books.bill) == 25


def read_back(path):
    """The records of an output file, as dictionaries."""
    match path.suffix:
        case ".jsonl":
            return [json.loads(line) for line in path.read_text().splitlines()]
        case ".csv":
            with path.open(newline="") as file:
                return list(csv.DictReader(file))
        case _:
            return pq.read_table(path).to_pylist()


@pytest.mark.parametrize("name", ["out.jsonl", "out.csv", "out.parquet"])
def test_answers_are_written_in_input_order_beside_the_rows_own_columns(folder, sending, name):
    items = [
        {"custom_id": f"row-{n}", "prompt": f"hi {n}", "colour": f"c{n}"} for n in range(99)
    ]
    items[40]["prompt"] = 5
    write_jsonl(folder.path / "rows.jsonl", items)
    model = ("--model", "claude-haiku-4-5")
    ended = folder.batcher(*sending("rows.jsonl"), *model, "-o", name)
    assert ended.code == 65
    assert "99 rows written" in ended.err
    written = read_back(folder.path / name)
    assert [line["custom_id"] for line in written] == [f"row-{n}" for n in range(99)]
    assert [line["colour"] for line in written] == [f"c{n}" for n in range(99)]
    texts = {
        line["custom_id"]: line["text"]
        for line in read(str(folder.path / "batcher.db"), "SELECT * FROM v_answers")
    }
    for line in written:
        assert (line["text"] or None) == texts.get(line["custom_id"])


def test_export_writes_the_same_file_later(folder, sending):
    write_jsonl(folder.path / "rows.jsonl", rows(30))
    assert folder.batcher(*sending("rows.jsonl"), "-o", "now.jsonl").code == 0
    assert folder.batcher("export", "-o", "later.jsonl").code == 0
    assert (folder.path / "now.jsonl").read_bytes() == (
        folder.path / "later.jsonl"
    ).read_bytes()


@pytest.mark.parametrize(
    ("target", "code"),
    [("nowhere/out.jsonl", 73), ("out.xlsx", 2), ("rows.jsonl", 73), (".", 2)],
)
def test_an_output_that_cannot_be_is_told_before_anything_is_paid(
    folder, sending, target, code
):
    write_jsonl(folder.path / "rows.jsonl", rows(10))
    before = (folder.path / "rows.jsonl").read_bytes()
    ended = folder.batcher(*sending("rows.jsonl"), "-o", target)
    assert ended.code == code, ended.err
    assert sending.simulator.billed() == 0
    assert (folder.path / "rows.jsonl").read_bytes() == before


def test_a_limit_takes_the_next_rows_each_time(folder, sending):
    write_jsonl(folder.path / "rows.jsonl", rows(25))
    ended = folder.batcher(*sending("rows.jsonl"), "--limit", "10")
    assert ended.code == 0
    assert sending.simulator.billed() == 10
    for total in (20, 25, 25):
        assert folder.batcher(*sending("rows.jsonl"), "--limit", "10").code == 0
        assert sending.simulator.billed() == total


def test_a_run_out_of_time_ends_with_75_and_goes_on(folder, simulate):
    slow = simulate("--latency-ms", "100-300")
    write_jsonl(folder.path / "rows.jsonl", rows(60))
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", slow.url)
    ended = folder.batcher(*command, "--concurrency", "4", "--max-runtime", "1s")
    assert ended.code == 75
    assert "max-runtime" in ended.err
    database = str(folder.path / "batcher.db")
    assert count(database, "v_answers") < 60
    assert count(database, "v_attempts", "state <> 'answered'") == 0
    assert folder.batcher(*command).code == 0
    check_everything(folder, database, slow, {"rows.jsonl": 60})


def test_a_dry_run_sends_and_makes_nothing(folder, sending):
    write_jsonl(folder.path / "rows.jsonl", rows(10))
    before = sorted(folder.path.iterdir())
    ended = folder.batcher(*sending("rows.jsonl"), "--dry-run")
    assert ended.code == 0
    assert "10 requests" in ended.out
    assert '"Question 0. "' in ended.out
    told = folder.batcher(*sending("rows.jsonl"), "--dry-run", "--json").json
    assert told["requests"] == 10
    assert sending.simulator.billed() == 0
    assert sorted(folder.path.iterdir()) == before


def test_a_dry_run_needs_no_key(folder):
    write_jsonl(folder.path / "rows.jsonl", rows(3))
    ended = folder.batcher("run", "rows.jsonl", "--dry-run", "--endpoint", "anthropic")
    assert ended.code == 0
