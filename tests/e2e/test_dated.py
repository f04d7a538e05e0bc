"""Inputs and outputs of a day, and inboxes that are empty on some days."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.e2e.inputs import row, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count, read

MONDAY, TUESDAY = "2026-11-30", "2026-12-01"
JOB = """
name = "nightly"
inputs = ["in/{date}.jsonl"]
output = "out/{date}.jsonl"
endpoint = "simulator"
"""


@pytest.fixture
def daily(folder, simulate):
    """A folder with a job of dated files, and a way to run it."""
    simulator = simulate()
    for name in ("in", "out"):
        (folder.path / name).mkdir()
    (folder.path / "job.toml").write_text(JOB + f'base_url = "{simulator.url}"\n')

    def run(*options, day=None):
        return folder.batcher("run", "job.toml", *options, *(("--date", day) if day else ()))

    run.simulator, run.path = simulator, folder.path
    return run


def write(daily, day, content):
    write_jsonl(daily.path / "in" / f"{day}.jsonl", content)


def written(daily, day):
    text = (daily.path / "out" / f"{day}.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def test_each_day_is_work_of_its_own_under_the_same_job(folder, daily):
    write(daily, MONDAY, rows(6))
    write(daily, TUESDAY, rows(6))  # the same questions, asked again
    assert daily(day=MONDAY).code == 0
    assert daily(day=TUESDAY).code == 0
    assert daily.simulator.billed() == 12
    for day in (MONDAY, TUESDAY):
        assert {(line["source"], line["status"]) for line in written(daily, day)} == {
            (f"in/{day}.jsonl", "answered")
        }
        assert len(written(daily, day)) == 6
    database = str(daily.path / "batcher.db")
    assert count(database, "runs") == 1
    verified = folder.batcher("verify", "-d", database, "--bill", daily.simulator.bill_path)
    assert verified.code == 0, verified


def test_an_older_day_is_continued_by_its_date_and_the_command_says_so(folder, daily):
    write(daily, MONDAY, rows(6))
    write(daily, TUESDAY, rows(4, first=10))
    ended = daily("--limit", 2, day=MONDAY)
    assert ended.err.rstrip().endswith(f"--date {MONDAY}")
    assert daily(day=TUESDAY).code == 0
    assert daily.simulator.billed() == 6
    assert daily(day=MONDAY).code == 0
    assert daily(day=MONDAY).code == 0
    assert daily.simulator.billed() == 10
    assert len(written(daily, MONDAY)) == 6
    inputs = {f"in/{MONDAY}.jsonl": 6, f"in/{TUESDAY}.jsonl": 4}
    check_everything(folder, str(daily.path / "batcher.db"), daily.simulator, inputs)


def test_a_day_whose_file_grows_pays_the_new_rows_only(daily):
    write(daily, MONDAY, rows(3))
    write(daily, TUESDAY, rows(5))
    assert daily(day=TUESDAY).code == 0
    assert daily(day=MONDAY).code == 0
    write(daily, MONDAY, rows(5))
    assert daily(day=MONDAY).code == 0
    assert daily.simulator.billed() == 10
    assert [len(written(daily, day)) for day in (MONDAY, TUESDAY)] == [5, 5]


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Etc/GMT+12"])
def test_without_a_date_it_is_the_day_where_the_job_s_clock_is(daily, zone):
    with (daily.path / "job.toml").open("a") as job:
        job.write(f'[schedule]\ntz = "{zone}"\n')
    today = datetime.now(UTC).date()
    for number, days in enumerate((-1, 0, 1, 2)):
        write(daily, (today + timedelta(days)).isoformat(), [row(number)])
    before = datetime.now(ZoneInfo(zone)).date()
    assert daily().code == 0
    after = datetime.now(ZoneInfo(zone)).date()
    (answer,) = read(str(daily.path / "batcher.db"), "SELECT source FROM v_answers")
    assert answer["source"] in {f"in/{before}.jsonl", f"in/{after}.jsonl"}


def test_the_command_that_continues_names_the_day_it_began_on(daily):
    write(daily, day := datetime.now().astimezone().date().isoformat(), rows(3))
    write(daily, next_day := (datetime.now().astimezone().date() + timedelta(1)).isoformat(),
          rows(3))  # fmt: skip
    command = daily("--limit", 1).err.splitlines()[-1]
    assert command.endswith((f"--date {day}", f"--date {next_day}"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--date", "yesterday"), "is no day"),
        (("--again", "--date", MONDAY), "new round would begin for every day"),
    ],
)
def test_what_cannot_be_meant_is_refused(daily, options, sentence):
    write(daily, MONDAY, rows(1))
    ended = daily(*options)
    assert (ended.code, sentence in ended.err) == (2, True), ended


def test_a_date_that_nothing_is_named_by_is_refused(folder, daily):
    write(daily, MONDAY, rows(1))
    ended = folder.batcher("run", f"in/{MONDAY}.jsonl", "--date", MONDAY)
    assert (ended.code, "{date}" in ended.err) == (2, True)


def test_the_day_is_filled_into_inputs_on_the_command_line_too(folder, daily):
    write(daily, MONDAY, rows(2))
    options = ("-e", "simulator", "--base-url", daily.simulator.url, "-o", "{date}.csv")
    ended = folder.batcher("run", "in/{date}.jsonl", *options, "--date", MONDAY)
    assert ended.code == 0, ended
    assert (daily.path / f"{MONDAY}.csv").is_file()


def test_check_estimate_and_doctor_look_at_the_same_day(folder, daily):
    write(daily, MONDAY, rows(3))
    checked = folder.batcher("check", "job.toml", "--date", MONDAY)
    assert (checked.code, "3 requests" in checked.out) == (0, True), checked
    assert folder.batcher("estimate", "job.toml", "--date", MONDAY).code == 0
    tried = folder.batcher("doctor", "job.toml", "--date", MONDAY)
    assert tried.out.count("1 file can be read") == 1, tried


# --- Empty inboxes


@pytest.mark.parametrize("pattern", ["in/{date}.jsonl", "in/*.jsonl", "in", "in/{date}/*.csv"])
def test_an_empty_inbox_is_well_where_the_job_says_so(folder, daily, pattern):
    job = (daily.path / "job.toml").read_text().replace("in/{date}.jsonl", pattern)
    (daily.path / "job.toml").write_text('empty = "ok"\n' + job)
    ended = daily(day=MONDAY)
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.count("nothing to do: the inbox is empty (in") == 1
    assert daily("--quiet", day=MONDAY).err == ""
    assert daily("--json", day=MONDAY).json["exit_code"] == 0
    assert daily("--pilot", 5, day=MONDAY).code == 0
    assert daily("--dry-run", day=MONDAY).code == 0
    assert written(daily, MONDAY) == []
    assert folder.batcher("status", "-d", "batcher.db").code == 0
    assert daily.simulator.billed() == 0


@pytest.mark.parametrize(
    "pattern", ["in/{date}.jsonl", "in/*.jsonl", "in", "inn/*.jsonl", "in/rows.jsonl"]
)
def test_otherwise_it_is_an_error(daily, pattern):
    job = (daily.path / "job.toml").read_text().replace("in/{date}.jsonl", pattern)
    (daily.path / "job.toml").write_text(job)
    assert daily("--date", MONDAY).code == 2


@pytest.mark.parametrize("pattern", ["inn/{date}.jsonl", "inn/*.jsonl", "inn", "in/rows.jsonl"])
def test_a_wrong_name_is_no_empty_inbox(daily, pattern):
    job = (daily.path / "job.toml").read_text().replace("in/{date}.jsonl", pattern)
    (daily.path / "job.toml").write_text('empty = "ok"\n' + job)
    ended = daily("--date", MONDAY)
    assert (ended.code, "inn" in ended.err or "rows.jsonl" in ended.err) == (2, True), ended


def empty_parquet(path: Path) -> None:
    pq.write_table(pa.table({"prompt": pa.array([], pa.string())}), path)


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("a.jsonl", Path.touch),
        ("a.jsonl", lambda path: path.write_text("\n\n")),
        ("a.csv", Path.touch),
        ("a.csv", lambda path: path.write_text("prompt\n")),
        ("a.parquet", empty_parquet),
        ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(b""))),
    ],
    ids=["jsonl", "blank lines", "csv", "header", "parquet", "gzip"],
)
def test_files_without_rows_are_an_empty_inbox(daily, name, make):
    job = (daily.path / "job.toml").read_text().replace("in/{date}.jsonl", "in/*")
    (daily.path / "job.toml").write_text('empty = "ok"\nmodel = "claude-haiku-4-5"\n' + job)
    make(daily.path / "in" / name)
    ended = daily(day=MONDAY)
    assert (ended.code, "inbox is empty" in ended.err) == (0, True), ended
