"""What a scheduled run does when the one before it is still on."""

import json
import subprocess

import pytest

from tests.e2e.inputs import row, rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count
from tests.e2e.processes import finish, kill, wait_until

ROWS = 20
INPUTS = {"rows.jsonl": ROWS}


@pytest.fixture
def on(folder, simulate, empty_database_url):
    """A run that is on and would last for minutes; `on.command` is what was typed."""
    simulator = simulate()
    slow = [row(number, "[[latency:60000]]") for number in range(3)]
    write_jsonl(folder.path / "rows.jsonl", [*slow, *rows(ROWS - 3, first=3)])
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    command = ("run", *INPUTS, *where, "--database", empty_database_url, "--concurrency", 3)
    process = folder.start(*command)
    assert wait_until(lambda: simulator.billed() >= 1, process)
    process.simulator, process.command, process.database = (
        simulator,
        command,
        empty_database_url,
    )
    return process


def test_without_a_word_it_fails_and_with_skip_it_is_well_and_nothing_is_recorded(folder, on):
    refused = folder.batcher(*on.command)
    assert (refused.code, refused.out) == (75, "")
    assert "another run" in refused.err.lower()
    skipped = folder.batcher(*on.command, "--if-running", "skip")
    assert skipped.code == 0
    assert len(skipped.err.splitlines()) == 1
    assert "othing was done: another run" in skipped.err
    quiet = folder.batcher(*on.command, "--if-running", "skip", "--quiet")
    assert (quiet.code, quiet.out, quiet.err) == (0, "", ""), "cron sends no mail"
    (folder.path / "rows.jsonl").unlink()  # no input is touched
    told = folder.batcher(*on.command, "--if-running", "skip", "--json")
    assert json.loads(told.out)["exit_code"] == told.code == 0
    assert count(on.database, "invocations") == 1
    assert on.poll() is None


def test_wait_runs_when_the_other_is_gone_with_what_was_added_meanwhile(folder, on):
    waiting = folder.start(*on.command, "--if-running", "wait", stderr=subprocess.PIPE)
    assert b"nother run is on" in waiting.stderr.readline()
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS + 5))
    kill(on)
    ended = finish(waiting)
    assert ended.code == 0, ended.err
    check_everything(folder, on.database, on.simulator, {"rows.jsonl": ROWS + 5})


def test_waiting_ends_with_max_runtime(folder, on):
    patient = folder.batcher(*on.command, "--if-running", "wait", "--max-runtime", "1s")
    assert patient.code == 75
    assert "another run" in patient.err.splitlines()[-1].lower()
    assert on.poll() is None


def test_the_setting_may_stand_in_the_job_and_a_wrong_one_is_refused(folder, on):
    lines = [
        'inputs = ["quick.jsonl"]',
        'name = "nightly"',
        'endpoint = "simulator"',
        f'base_url = "{on.simulator.url}"',
        f'database = "{on.database}"',
        'if_running = "skip"',
    ]
    write_jsonl(folder.path / "quick.jsonl", rows(3, first=100))
    job = folder.path / "nightly.toml"
    job.write_text("\n".join(lines))
    nightly = folder.batcher("run", "--job", job)
    alone = "://" in on.database  # on a server another job goes beside it
    assert nightly.code == 0, nightly.err
    assert ("othing was done" in nightly.err) != alone
    job.write_text("\n".join([*lines[:-1], 'if_running = "queue"']))
    wrong = folder.batcher("run", "--job", job)
    assert wrong.code == 78
    assert "if_running is 'queue', not fail, skip or wait" in wrong.err
