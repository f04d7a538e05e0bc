"""Work in a forked process: done there or not at all, and the parent knows which."""

import subprocess
import sys

import pytest

SCRIPT = """
import os, signal, threading
from batcher.ledger.apart import done_apart

parent = os.getpid()

def work():
    print("here" if os.getpid() == parent else "in another process", flush=True)
    {work}

{before}
print(done_apart(work))
"""


def said(before: str = "", work: str = "return True") -> list[str]:
    script = SCRIPT.format(before=before, work=work)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux forks safely")


@linux
def test_work_is_done_in_another_process():
    assert said() == ["in another process", "True"]


@linux
@pytest.mark.parametrize("work", ["return False", "raise ValueError", "os.abort()"])
def test_work_that_failed_there_was_not_done(work):
    assert said(work=work) == ["in another process", "False"]


@linux
def test_who_ignores_the_end_of_children_still_learns_that_it_was_done():
    """A process inherits that from whoever started it."""
    before = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)"
    assert said(before) == ["in another process", "True"]


def test_nothing_is_forked_beside_a_thread():
    assert said("threading.Thread(target=threading.Event().wait, daemon=True).start()") == [
        "False"
    ]


def test_nothing_is_forked_beside_threads_that_python_does_not_know():
    before = (
        "import io, pyarrow, pyarrow.parquet as parquet\n"
        "file = io.BytesIO()\n"
        "parquet.write_table(pyarrow.table({'a': [1]}), file)\n"
        "parquet.read_table(file)\n"
        "assert threading.active_count() == 1"
    )
    assert said(before) == ["False"]


@linux
def test_a_system_that_lets_nothing_fork_leaves_the_work_to_us():
    before = "def refuse(): raise BlockingIOError(11, 'no more processes')\nos.fork = refuse"
    assert said(before) == ["False"]
