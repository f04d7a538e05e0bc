"""Fixtures: a folder to type commands in, and simulators as processes."""

import select
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.e2e.campaign import TOLD
from tests.e2e.gate import Gate
from tests.e2e.inputs import QUICK
from tests.e2e.processes import Folder, Simulator, start_simulator
from tests.e2e.shell import shell_program


def pytest_terminal_summary(terminalreporter):
    """What was counted, and what could not be tested here."""
    for sentence in TOLD:
        terminalreporter.write_line(sentence, yellow=True)


@pytest.fixture
def folder(tmp_path) -> Iterator[Folder]:
    """An empty folder with a configuration that waits shortly before it tries again."""
    path = tmp_path / "work"
    path.mkdir()
    (path / "config.toml").write_text(QUICK)
    place = Folder(path, forks=True)
    yield place
    place.clean_up()


@pytest.fixture
def folder_anew(folder) -> Folder:
    """The same folder, for commands whose own start matters: nothing is imported before."""
    return replace(folder, forks=False)


@pytest.fixture(scope="session")
def programs(tmp_path_factory) -> Iterator[Path]:
    """A folder with a `batcher` for shells, which forks; see `tests/e2e/shell.py`."""
    with shell_program(tmp_path_factory.mktemp("bin")) as folder:
        yield folder


@pytest.fixture
def simulate(tmp_path) -> Iterator[Callable[..., Simulator]]:
    """Starts simulators; each call with options as typed. They share one bill."""
    running: list[Simulator] = []

    def start(*options: str, **environment: str) -> Simulator:
        running.append(start_simulator(tmp_path, *options, **environment))
        return running[-1]

    yield start
    for simulator in running:
        simulator.stop()


@pytest.fixture
def gated() -> Iterator[Callable[[Simulator, int], Gate]]:
    """Puts a gate before a simulator, which lets so many answers through until it is opened."""
    gates: list[Gate] = []

    def put(simulator: Simulator, answers: int) -> Gate:
        gates.append(Gate(simulator.url, answers))
        return gates[-1]

    yield put
    for gate in gates:
        gate.close()


class Nobody:
    """An address where nobody may call: it only notices who did."""

    def __init__(self, listener: socket.socket) -> None:
        self._listener = listener
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    def was_called(self) -> bool:
        return bool(select.select([self._listener], [], [], 0)[0])


@pytest.fixture
def nobody() -> Iterator[Nobody]:
    """For commands that must be refused before anything is sent."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield Nobody(listener)
