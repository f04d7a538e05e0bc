"""A signal that comes where no row is under way, to the first process, or to a whole group."""

import contextlib
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import text

from batcher.ledger.connect import open_engine, writing
from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_everything
from tests.e2e.ledgers import count
from tests.e2e.processes import finish, wait_until

pytestmark = pytest.mark.usefixtures("heeding_hang_ups")

NEW_NUMBERS = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child")
NOT_HERE = "NOT TESTED: the first process of a container; unshare makes none here"


def can_be_first():
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run([*NEW_NUMBERS, "true"], capture_output=True, check=False)
    return done.returncode == 0


def children_of(number):
    listed = Path(f"/proc/{number}/task/{number}/children").read_text()
    return [int(child) for child in listed.split()]


@pytest.fixture
def run(folder, simulate):
    """Starts a run of twenty rows with these options; its messages come through a pipe."""
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", rows(20))
    where = ("--endpoint", "simulator", "--base-url", simulator.url)

    def start(*options, source="rows.jsonl", **how):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | how
        return folder.start("run", source, *where, *options, **pipes)

    start.simulator = simulator
    return start


@pytest.fixture
def other(run, gated):
    """A run that is on until its gate is opened."""
    gate = gated(run.simulator, 0)
    process = run("--base-url", gate.url)
    assert wait_until(lambda: run.simulator.billed() > 0, process)
    process.gate = gate
    return process


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_run_that_waits_for_its_input_ends_with_75_and_one_sentence(run, number):
    process = run("-q", source="-", stdin=subprocess.PIPE)
    spool = Path(f"/proc/{process.pid}/fd")
    assert wait_until(lambda: any(".stdin-" in name for name in links(spool)), process)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 75, err
    assert out == b""
    (sentence,) = err.decode().splitlines()
    assert f"{number.name} received" in sentence
    assert "type the same command again" in sentence


def until_it_waits(process):
    while b"nother run is on" not in (line := process.stderr.readline()):
        assert line, "it has ended"


def links(folder):
    for name in folder.iterdir():
        try:
            yield str(name.readlink())
        except OSError:
            continue


def test_a_run_that_waits_for_another_ends_with_75_and_one_sentence(run, other):
    process = run("--if-running", "wait")
    until_it_waits(process)
    process.send_signal(signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 75, ended
    (sentence,) = ended.err.splitlines()
    assert "SIGTERM received" in sentence
    other.gate.open()
    assert finish(other).code == 0


@pytest.mark.skipif(not can_be_first(), reason=NOT_HERE)
def test_the_first_process_of_a_container_ends_too(run, other):
    process = run("--if-running", "wait", through=NEW_NUMBERS)
    until_it_waits(process)
    (first,) = children_of(process.pid)
    os.kill(first, signal.SIGTERM)
    ended = finish(process)
    assert ended.code == 75, ended
    assert "SIGTERM received" in ended.err
    other.gate.open()
    assert finish(other).code == 0


def test_two_sigterms_within_a_second_are_one(folder, run, other):
    other.send_signal(signal.SIGTERM)
    other.send_signal(signal.SIGTERM)
    while b"nothing more is sent" not in (line := other.stderr.readline()):
        assert line, "it has ended"
    other.gate.open()
    assert finish(other).code == 75
    database = str(folder.path / "batcher.db")
    assert count(database, "v_attempts", "state <> 'answered'") == 0


def test_a_service_manager_that_signals_everybody_aborts_nobody(
    folder, simulate, gated, postgres_url
):
    simulator = simulate()
    gate = gated(simulator, 10)
    write_jsonl(folder.path / "rows.jsonl", rows(200))
    where = ("--endpoint", "simulator", "--base-url", gate.url, "--concurrency", 8)
    command = ("run", "rows.jsonl", *where, "--database", postgres_url, "--json")
    process = folder.start(*command, "--processes", 2, stdout=subprocess.PIPE)
    under_way = "SELECT COUNT(DISTINCT invocation_id) FROM v_attempts WHERE state = 'open'"
    engine = open_engine(postgres_url)

    def both_work():
        with writing(engine) as connection:
            return connection.scalar(text(under_way)) == 2

    assert wait_until(both_work, process)
    engine.dispose()
    everybody = [process.pid, *children_of(process.pid)]
    assert len(everybody) == 2
    for number in (signal.SIGTERM, signal.SIGHUP):
        for each in everybody:
            os.kill(each, number)
    os.kill(everybody[1], signal.SIGINT)
    gate.open()
    ended = finish(process)
    assert (ended.code, ended.json["rows_left"]) == (75, True), ended
    assert count(postgres_url, "attempts", "state <> 'answered'") == 0
    assert folder.batcher(*command).code == 0
    check_everything(folder, postgres_url, simulator, {"rows.jsonl": 200})


def test_a_container_that_starts_again_waits_for_the_lease_of_the_one_before(
    folder, simulate, postgres_url
):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", rows(5))
    where = ("--endpoint", "simulator", "--base-url", simulator.url)
    command = ("run", "rows.jsonl", *where, "--database", postgres_url, "--name", "nightly")
    engine = open_engine(postgres_url)
    with writing(engine) as connection:
        connection.execute(
            text(
                "INSERT INTO leases"
                " (name, token, owner, process, acquired_at, expires_at, written)"
                " VALUES ('run nightly', 1, 'batcher pid 1', 'boot/pid:[1]/1/5 of pod 4f1c', 1,"
                " CAST(EXTRACT(EPOCH FROM now() + interval '10 s') * 1e6 AS bigint),"
                " 0)"
            )
        )
    engine.dispose()
    other_pod = folder.batcher(*command, POD_UID="4f1d")
    assert other_pod.code == 75, other_pod
    same_pod = folder.batcher(*command, POD_UID="4f1c")
    assert same_pod.code == 0, same_pod


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (signal.SIGTERM, 75, "SIGTERM received"),
        (signal.SIGHUP, 75, "SIGHUP received"),
        (signal.SIGINT, 130, "every answer is in the ledger"),
    ],
)
def test_a_run_that_writes_its_output_ends_with_one_sentence(folder, run, number, code, words):
    pipe = folder.path / "answers.jsonl"
    os.mkfifo(pipe)  # nobody reads it, so that the writing does not end
    process = run("-q", "-o", pipe.name)
    database = str(folder.path / "batcher.db")
    ended = "ended_at IS NOT NULL"
    assert wait_until(lambda: Path(database).exists() and _is_made(database), process)
    assert wait_until(lambda: count(database, "invocations", ended) == 1, process)
    out, err = signalled(process, number)
    assert (process.returncode, out) == (code, b""), err
    *_, sentence = err.decode().splitlines()
    assert words in sentence
    pipe.unlink()
    again = finish(run("-q", "-o", pipe.name))
    assert (again.code, pipe.read_bytes().count(b"\n")) == (0, 20)
    assert run.simulator.billed() == 20


def signalled(process, number, times=40):
    """What it wrote. In its last moment the run takes a signal, and has nothing to drain.

    Two within a second would be one.
    """
    for _ in range(times):
        process.send_signal(number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=1.5)
    raise AssertionError("it goes on")


def _is_made(database):
    try:
        return count(database, "invocations") >= 0
    except sqlite3.OperationalError:
        return False


# A stack beyond all addresses: the first thread has its own, no further one can have any.
NO_THREADS = ("sh", "-c", 'ulimit -s 214748364800 && exec "$@"', "sh")


@pytest.mark.skipif(sys.maxsize < 2**32, reason="addresses of 64 bits")
def test_a_limit_of_threads_is_a_sentence_and_known_to_whoever_watches(folder, run):
    process = run("--json", "--metrics-file", "m.prom", through=NO_THREADS)
    ended = finish(process)
    assert ended.code == 74, ended
    assert "lets this user start no more threads or processes" in ended.json["error"]
    assert ended.json["exit_code"] == 74
    assert "Traceback" not in ended.err
    assert "Unclosed" not in ended.err
    assert "} 74\n" in (folder.path / "m.prom").read_text()
    assert finish(run("-q")).code == 0
