"""What the processes of one run do with signals while others do their part."""

import os
import signal
import subprocess
import sys

import pytest

from batcher.pipeline.job import HEARD
from batcher.pipeline.progress import Ended, Progress
from batcher.wiring.processes import _rank, passing_on

pytestmark = pytest.mark.usefixtures("heeding_hang_ups")


def test_the_others_hear_of_each_and_afterwards_signals_are_whose_they_were():
    before = [signal.getsignal(number) for number in HEARD]
    told: list[signal.Signals] = []
    with passing_on(told.append):
        for number in HEARD:
            os.kill(os.getpid(), number)
    assert told == list(HEARD)
    assert [signal.getsignal(number) for number in HEARD] == before


def test_under_nohup_nobody_hears_of_a_hang_up():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    told: list[signal.Signals] = []
    with passing_on(told.append):
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
    assert told == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


@pytest.mark.parametrize("ignored", [signal.SIG_DFL, signal.SIG_IGN])
def test_one_of_the_others_is_deaf_and_programs_that_it_starts_are_not(ignored):
    """Tools and commands that print keys end when they are told to."""
    program = """if True:
        import os, signal, subprocess, sys
        from batcher.pipeline.job import HEARD
        from batcher.wiring.child import turn_deaf
        signal.signal(signal.SIGHUP, int(sys.argv[1]))
        turn_deaf()
        for number in HEARD:
            os.kill(os.getpid(), number)
        said = "import signal; print([int(signal.getsignal(n)) for n in (15, 1)])"
        subprocess.run([sys.executable, "-c", said])
    """
    done = subprocess.run(
        [sys.executable, "-c", program, str(int(ignored))],
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, f"{[0, int(ignored)]}\n"), done.stderr


def test_who_was_stopped_by_a_guard_says_how_all_ended():
    """The others were told to drain because of it, and would be continued for nothing."""

    def ended(code, error=""):
        return Ended(
            exit_code=code, error=error, rows_left=True, seconds=1, progress=Progress()
        )

    drained, guarded, finished = ended(75), ended(65, "[guard] cost"), ended(65)
    assert min([drained, guarded], key=_rank) is guarded
    assert min([drained, finished], key=_rank) is drained
    assert min([ended(70), guarded, ended(77)], key=_rank).exit_code == 70
    assert min([ended(99), guarded], key=_rank).exit_code == 99
