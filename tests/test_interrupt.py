"""A test run that stands still, is interrupted or killed leaves no process behind."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.processes import wait_for

PROJECT = Path(__file__).parent.parent
WAITING = """
import subprocess, sys, threading
from pathlib import Path

import pytest

from tests.databases import running_server

HERE = Path(__file__).parent


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as process:
        yield process
        process.kill()


def test_that_waits(child):
    with running_server() as server:
        (HERE / "data").symlink_to(server.folder / "data")
        (HERE / "child.part").write_text(str(child.pid))
        (HERE / "child.part").rename(HERE / "child")
        threading.Event().wait()
"""

STANDING_STILL = """
import subprocess, sys, threading
from pathlib import Path

import pytest


@pytest.fixture
def child():
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3600)"]) as process:
        Path(__file__).with_name("child").write_text(str(process.pid))
        yield
        process.kill()


@pytest.mark.timeout(1, func_only=True)
def test_that_stands_still(child):
    threading.Event().wait()


def test_after_it():
    pass
"""
OPTIONS = ("-p", "no:cacheprovider", "-p", "tests.conftest", "-c", PROJECT / "pyproject.toml")


@pytest.fixture
def waiting(tmp_path):
    """A pytest with a process of its own for tests, in the middle of one that never ends."""
    (tmp_path / "test_waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-n", "1", tmp_path]
    with (tmp_path / "said").open("wb") as said:
        process = subprocess.Popen(
            command, cwd=PROJECT, stdout=said, stderr=said, start_new_session=True
        )
    wait_for(lambda: (tmp_path / "child").exists() or process.poll() is not None)
    assert process.poll() is None, (tmp_path / "said").read_text()
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_nothing_of_an_interrupted_test_run_stays(waiting, tmp_path):
    child = int((tmp_path / "child").read_text())
    server = int((tmp_path / "data" / "postmaster.pid").read_text().splitlines()[0])
    waiting.send_signal(signal.SIGINT)  # to this process alone, as `kill` does
    waiting.wait()
    wait_for(lambda: not lives(server) and not lives(child))


def test_the_server_of_a_killed_test_run_is_stopped_and_its_data_removed(waiting, tmp_path):
    child = int((tmp_path / "child").read_text())
    server = int((tmp_path / "data" / "postmaster.pid").read_text().splitlines()[0])
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.wait()
    wait_for(lambda: not lives(server) and not (tmp_path / "data").exists())
    wait_for(lambda: not lives(child))  # it is of the same process group


def test_a_test_that_stands_still_fails_and_the_others_go_on(tmp_path):
    (tmp_path / "test_still.py").write_text(STANDING_STILL)
    command = [sys.executable, "-m", "pytest", *OPTIONS, "-q", tmp_path]
    done = subprocess.run(command, check=False, cwd=PROJECT, capture_output=True, text=True)
    assert "1 failed, 1 passed" in done.stdout
    assert not lives(int((tmp_path / "child").read_text()))


def test_every_test_of_this_run_ends(request):
    seconds = float(request.config.getini("timeout"))
    assert 0 < seconds < float(request.config.getini("faulthandler_timeout"))
    assert request.config.getini("faulthandler_exit_on_timeout")
