"""A `[guard]` in a job file, as cron meets it: a usual night, then an unusual one."""

import pytest

from tests.e2e.inputs import row, write_jsonl
from tests.e2e.invariants import check_after_crash, open_books
from tests.e2e.ledgers import read

JOB = """
name = "nightly"
inputs = ["in/{date}.jsonl"]
endpoint = "simulator"
concurrency = 4

[guard]
rows = 20
window = 40
factor = 3
"""
NIGHTS = {"2026-11-29": "", "2026-11-30": "", "2026-12-01": "[[stop:refusal]][[output:9]]"}
ROWS = 60


@pytest.fixture
def nightly(folder, simulate):
    simulator = simulate()
    (folder.path / "in").mkdir()
    (folder.path / "job.toml").write_text(
        JOB.replace("[guard]", f'base_url = "{simulator.url}"\n\n[guard]')
    )
    for night, (day, order) in enumerate(NIGHTS.items()):
        lines = [row(1_000 * night + n, order) for n in range(ROWS)]
        write_jsonl(folder.path / "in" / f"{day}.jsonl", lines)

    def run(day, *options):
        return folder.batcher("run", "job.toml", "--date", day, *options)

    run.simulator = simulator
    return run


def test_a_night_of_refusals_is_stopped_with_65_and_the_numbers(folder, nightly):
    first, second, third = NIGHTS
    started = nightly(first)
    assert (started.code, "[guard] compares nothing yet" in started.err) == (0, True), started
    assert nightly(second, "-q").err == ""
    ended = nightly(third, "-q")
    assert ended.code == 65
    (sentence,) = ended.err.splitlines()
    assert sentence.startswith("batcher: [guard] refusals: the latest 20 have 100.0% of")
    assert "where the 120 before had 0.0%, and 3 times that stops the run" in sentence
    database = str(folder.path / "batcher.db")
    codes = [line["exit_code"] for line in read(database, "SELECT exit_code FROM invocations")]
    assert codes == [0, 0, 65]
    assert nightly.simulator.billed() < 2 * ROWS + ROWS, "it did not go on"
    books = open_books(database, nightly.simulator.bill())
    check_after_crash(books, {f"in/{day}.jsonl": ROWS for day in NIGHTS})


def test_json_names_what_was_unusual(nightly):
    first, _, third = NIGHTS
    assert nightly(first).code == 0
    ended = nightly(third, "--json")
    assert (ended.code, ended.json["exit_code"], ended.json["rows_left"]) == (65, 65, True)
    assert ended.json["cause"].startswith("[guard] refusals: ")
