"""What a process that has done its part does with signals, while others do theirs."""

import os
import signal

import pytest

from batcher.pipeline.job import HEARD
from batcher.wiring.processes import passing_on

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
