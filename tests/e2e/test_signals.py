"""How a run ends when it is told to, and when nobody listens any more."""

import os
import signal
import subprocess
import sys
import threading

import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.invariants import check_after_crash, check_everything, open_books
from tests.e2e.ledgers import count
from tests.e2e.processes import PIPES, finish, wait_until

pytestmark = pytest.mark.usefixtures("heeding_hang_ups")  # processes inherit what is ignored

ROWS = 200
INPUTS = {"rows.jsonl": ROWS}


@pytest.fixture
def run_in_the_middle(folder, simulate, gated):
    """Starts a run and returns it, its gate, its simulator and its command once 25 are paid.

    It gets `answers` answers; it cannot end before its gate is opened.
    """

    def start(*options, answers=100, through=None):
        simulator = simulate("--latency-ms", "20-60")
        gate = gated(simulator, answers)
        write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
        command = ("run", *INPUTS, "--endpoint", "simulator", "--base-url", gate.url)
        command = (*command, "--concurrency", 16, *options)
        streams = PIPES | ({"through": through} if through else {})
        process = folder.start(*command, **streams)
        assert wait_until(lambda: simulator.billed() >= 25, process)
        return process, gate, simulator, command

    return start


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_first_signal_drains_and_the_same_command_completes(
    folder, run_in_the_middle, number
):
    process, gate, simulator, command = run_in_the_middle("--json")
    process.send_signal(number)
    gate.open()
    ended = finish(process)
    assert (ended.code, ended.json["rows_left"]) == (75, True)
    database = str(folder.path / "batcher.db")
    books = open_books(database, simulator.bill())
    check_after_crash(books, INPUTS)
    assert {line["state"] for line in books.attempts.values()} == {"answered"}
    assert len(books.answers) == len(books.bill) == ended.json["answered"] < ROWS

    assert folder.batcher(*command).code == 0
    assert len(check_everything(folder, database, simulator, INPUTS).bill) == ROWS


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_second_signal_aborts_and_what_it_cut_off_is_in_doubt(
    folder, run_in_the_middle, number, code
):
    process, _, simulator, _ = run_in_the_middle(answers=20)
    process.send_signal(number)
    assert b"SIG" in _line_with(process, b"nothing more is sent")
    _let_a_second_pass()
    process.send_signal(number)
    ended = finish(process)
    assert ended.code == code
    assert "in doubt" in ended.err
    database = str(folder.path / "batcher.db")
    books = open_books(database, simulator.bill())
    check_after_crash(books, INPUTS)
    cut_off = [line for line in books.attempts.values() if line["state"] != "answered"]
    assert 0 < len(cut_off) <= 16
    assert {line["error_type"] for line in cut_off} == {"aborted"}
    states = {line["state"] for line in cut_off}
    assert "unknown" in states
    assert states <= {"unknown", "not_sent"}, "not sent: its intent was not durable yet"
    assert len(books.answers) + len(cut_off) == len(books.attempts)


def test_a_run_that_was_aborted_goes_on(folder, run_in_the_middle):
    process, gate, simulator, command = run_in_the_middle(answers=20)
    process.send_signal(signal.SIGTERM)
    _line_with(process, b"nothing more is sent")
    _let_a_second_pass()
    process.send_signal(signal.SIGTERM)
    assert finish(process).code == 143
    gate.open()
    assert folder.batcher(*command).code == 0
    check_everything(folder, str(folder.path / "batcher.db"), simulator, INPUTS)


def test_a_hang_up_never_aborts(folder, run_in_the_middle):
    process, gate, _, _ = run_in_the_middle()
    for _ in range(3):
        process.send_signal(signal.SIGHUP)
    gate.open()
    assert finish(process).code == 75
    assert count(str(folder.path / "batcher.db"), "v_attempts", "state <> 'answered'") == 0


def test_under_nohup_a_hang_up_does_nothing(folder, simulate):
    simulator = simulate("--latency-ms", "20-60")
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    process = folder.start(
        *("run", *INPUTS, "--endpoint", "simulator", "--base-url", simulator.url),
        through=("/bin/sh", "-c", 'trap "" HUP; exec "$@"', "sh"),
    )
    assert wait_until(lambda: simulator.billed() >= 25, process)
    process.send_signal(signal.SIGHUP)
    assert process.wait() == 0
    assert simulator.billed() == ROWS


# Leads a session of its own, with a terminal or without one, and becomes the command.
IN_A_SESSION = """
import os, pty, sys
os.setsid()
if sys.argv[1] == "on a terminal":
    ends = pty.openpty()
    os.open(os.ttyname(ends[1]), os.O_RDWR)
    for end in ends:
        os.set_inheritable(end, True)
os.execv(sys.argv[2], sys.argv[2:])
"""


@pytest.mark.parametrize(
    ("where", "options", "code"),
    [
        ("without a terminal", ("--log-file", "run.log"), 0),
        ("without a terminal", (), 75),
        ("on a terminal", ("--log-file", "run.log"), 75),
    ],
)
def test_a_hang_up_is_for_the_log_where_there_is_one_and_no_terminal(
    folder, run_in_the_middle, where, options, code
):
    """What logrotate does: move the log, tell the process. The run goes on, in a new file."""
    session = (sys.executable, "-c", IN_A_SESSION, where)
    process, gate, _, _ = run_in_the_middle(*options, through=session)
    log, moved = folder.path / "run.log", folder.path / "run.log.1"
    if options:
        log.rename(moved)
    process.send_signal(signal.SIGHUP)
    gate.open()
    assert finish(process).code == code
    if options:
        assert "ended with" not in moved.read_text()
        assert f"ended with {code}" in log.read_text()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_drain_has_a_deadline_and_what_it_cuts_off_is_in_doubt(
    folder, run_in_the_middle, number
):
    config = folder.path / "config.toml"
    config.write_text(config.read_text() + "drain_timeout_seconds = 1\n")
    process, _, simulator, _ = run_in_the_middle(answers=20)
    process.send_signal(number)
    assert finish(process).code == 143
    books = open_books(str(folder.path / "batcher.db"), simulator.bill())
    check_after_crash(books, INPUTS)
    states = {line["state"] for line in books.attempts.values()}
    assert "unknown" in states
    assert "open" not in states


@pytest.mark.parametrize(
    ("closed", "options"),
    [("stdout", ("--json",)), ("stderr", ()), ("both", ()), ("both", ("--json",))],
)
def test_a_reader_that_went_away_does_not_end_paid_work(folder, simulate, closed, options):
    simulator = simulate("--latency-ms", "20-60")
    write_jsonl(folder.path / "rows.jsonl", rows(ROWS))
    reading, writing = os.pipe()
    names = ("stdout", "stderr") if closed == "both" else (closed,)
    process = folder.start(
        *("run", *INPUTS, "--endpoint", "simulator", "--base-url", simulator.url, *options),
        **dict.fromkeys(names, writing),
    )
    os.close(writing)
    os.close(reading)
    assert process.wait() == 0
    books = check_everything(folder, str(folder.path / "batcher.db"), simulator, INPUTS)
    assert len(books.bill) == ROWS


def test_a_run_without_any_open_stream_works(folder, simulate):
    simulator = simulate()
    write_jsonl(folder.path / "rows.jsonl", rows(50))
    closed = 'exec "$@" <&- >&- 2>&-'
    process = folder.start(
        *("run", *INPUTS, "--endpoint", "simulator", "--base-url", simulator.url),
        through=("/bin/sh", "-c", closed, "sh"),
    )
    assert process.wait() == 0
    assert count(str(folder.path / "batcher.db"), "v_answers") == 50


def _let_a_second_pass():
    """Two SIGTERMs within a second are one."""
    threading.Event().wait(1.1)


def _line_with(process: subprocess.Popen, words: bytes) -> bytes:
    """The next line of messages that holds `words`."""
    for line in process.stderr:
        if words in line:
            return line
    raise AssertionError(f"{words!r} was not said")


def test_signals_are_heeded_before_what_takes_long_to_import():
    said = "import sys, batcher.cli; print({'click', 'msgspec', 'pathlib'} & {*sys.modules})"
    words = [sys.executable, "-S", "-c", f"import sys; sys.path[:0] = {sys.path!r}; {said}"]
    assert subprocess.run(words, capture_output=True, check=True).stdout == b"set()\n"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_after_all_is_told_changes_no_code(number):
    said = (
        "import atexit, os; from batcher.cli.interrupts import end_with, heed_signals;"
        f"heed_signals(); atexit.register(os.kill, os.getpid(), {int(number)}); end_with(65)"
    )
    done = subprocess.run([sys.executable, "-c", said], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (65, b"")
