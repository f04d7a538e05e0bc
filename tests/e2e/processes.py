"""Whole processes: a simulator with its bill, and `batcher` as it is typed into a shell."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec

from tests.bill import read_bill
from tests.e2e.forked import Forked

Process = subprocess.Popen | Forked
STREAMS = ("stdin", "stdout", "stderr")
PIPES = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
NOTHING: Mapping[str, str] = MappingProxyType({})
BATCHER = (sys.executable, "-m", "batcher")
POLL_SECONDS = 0.002
MOST_SECONDS = 0.5
PATIENCE_SECONDS = 120


@dataclass(slots=True)
class Simulator:
    """A running `batcher simulate`; its bill outlives it."""

    process: Process
    url: str
    bill_path: Path

    def bill(self) -> list[dict[str, Any]]:
        """The whole lines of the bill, oldest first."""
        return read_bill(self.bill_path)

    def billed(self) -> int:
        """How many requests were accepted so far."""
        return self.bill_path.read_bytes().count(b"\n")

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()


def start_simulator(folder: Path, *options: str, **environment: str) -> Simulator:
    """A simulator on a free port, billing into `folder`."""
    bill = folder / "bill.jsonl"
    process = Forked(
        ("simulate", "--bill", str(bill), *options),
        folder=folder,
        environment=plain_environment(folder) | environment,
        stdout=subprocess.PIPE,
        stderr=2,
    )
    line = process.stdout.readline().decode()
    assert line.startswith("listening on http://127.0.0.1:"), line
    return Simulator(process, line.split()[-1], bill)


@dataclass(frozen=True, slots=True)
class Ended:
    """An ended command: exit code (negative: killed by that signal), output, messages."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return msgspec.json.decode(self.out)


@dataclass(slots=True)
class Folder:
    """A folder in which `batcher` is typed; its environment holds only what is said.

    With `forks` a command is forked from a process that has imported the program, unless
    something stands before it; see `tests/e2e/forked.py`.
    """

    path: Path
    environment: dict[str, str] = field(default_factory=dict)
    started: list[Process] = field(default_factory=list)
    forks: bool = False

    def batcher(self, *arguments: object, stdin: bytes | None = None, **environment) -> Ended:
        """Run the command to its end."""
        given = subprocess.DEVNULL if stdin is None else subprocess.PIPE
        process = self.start(*arguments, environment=environment, stdin=given, **PIPES)
        return finish(process, stdin)

    def start(
        self, *arguments: object, environment: Mapping[str, str] = NOTHING, **options: Any
    ) -> Process:
        """Start the command and leave it running; it is killed with its test at the latest.

        `through` is a program in front of it, the other options are those of `Popen`.
        """
        streams = dict.fromkeys(STREAMS, subprocess.DEVNULL) | options
        whole = self._environment(environment)
        if self.forks and len(streams) == len(STREAMS):
            words = [*map(str, arguments)]
            process = Forked(words, folder=self.path, environment=whole, **streams)
        else:
            words = [*streams.pop("through", ()), *command(arguments)]
            process = subprocess.Popen(words, cwd=self.path, env=whole, **streams)
        self.started.append(process)
        return process

    def clean_up(self) -> None:
        """End what is still running and close what was opened."""
        for process in self.started:
            if process.poll() is None:
                process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    stream.close()

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        return plain_environment(self.path) | self.environment | more


def command(arguments: Sequence[object]) -> list[str]:
    return [*BATCHER, *map(str, arguments)]


def plain_environment(home: Path) -> dict[str, str]:
    """What every process gets, and nothing of the person who runs the tests."""
    return {"PATH": os.defpath, "HOME": str(home), "LANG": "C.UTF-8"}


def wait_until(condition: Callable[[], bool], process: Process) -> bool:
    """Look until `condition` holds; `False` when the process ended before it did."""
    for seconds in _pauses(condition):
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            continue
        return condition()
    return True


def wait_for(condition: Callable[[], bool]) -> bool:
    """Look until `condition` holds, where no process could end before it does."""
    for seconds in _pauses(condition):
        threading.Event().wait(seconds)
    return True


def _pauses(condition: Callable[[], bool]) -> Iterator[float]:
    """How long to wait before each further look; it ends when `condition` holds.

    To look takes at most a third of the time, here or in a process that looks: what is waited
    for needs the cores.
    """
    left = PATIENCE_SECONDS
    while left > 0:
        began = time.monotonic()
        if condition():
            return
        looked = time.monotonic() - began
        yield (seconds := max(POLL_SECONDS, min(2 * looked, MOST_SECONDS)))
        left -= seconds
    raise AssertionError("what was waited for did not happen")


def finish(process: Process, given: bytes | None = None) -> Ended:
    """Wait for a started process, and collect what it said into pipes."""
    out, err = process.communicate(given, timeout=PATIENCE_SECONDS)
    return Ended(process.returncode, (out or b"").decode(), (err or b"").decode())


def suspend(process: Process) -> None:
    """Stop it with all its threads; return when they stand still."""
    process.send_signal(signal.SIGSTOP)
    tasks = Path(f"/proc/{process.pid}/task")
    wait_for(lambda: {_state(task) for task in tasks.iterdir()} <= {"T"})


def _state(task: Path) -> str:
    """One letter, behind the name in brackets."""
    return (task / "stat").read_text().rpartition(")")[2].split()[0]


def kill(process: Process) -> None:
    """End it as a power cut would."""
    process.send_signal(signal.SIGKILL)
    process.wait()
