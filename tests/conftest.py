"""Fixtures every test shares."""

import faulthandler
import ipaddress
import os
import signal
import socket
import sys

import pytest
from hypothesis import settings

from tests.databases import *  # noqa: F403 - pytest finds fixtures by name
from tests.object_store import *  # noqa: F403 - as above

# Commands that tests start would compile the program anew each time: a quarter of a short one.
# So would each process of the suite the tests themselves: half of what collecting takes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# No test asserts a time, and none fails by chance: property tests draw the same examples each
# time. Others are looked for on purpose, see docs/development/testing.md.
settings.register_profile("patient", deadline=None, derandomize=True, database=None)
settings.register_profile("hunting", deadline=None, derandomize=False, database=None)
settings.load_profile("patient")


def pytest_addoption(parser):
    """What the campaigns may be told, see docs/development/testing.md."""
    parser.addoption("--budget-minutes", type=float, help="end each campaign after this time")
    parser.addoption("--rows", type=int, help="how many rows the soak has")


def pytest_configure(config):
    """An interrupted test run ends what its tests have started, in all of its processes."""
    if hasattr(config, "workerinput"):
        signal.signal(signal.SIGINT, interrupt_once)
    elif (controller := config.pluginmanager.get_plugin("dsession")) is not None:
        config.pluginmanager.register(Interruption(controller))


def interrupt_once(*_):
    """A Ctrl-C reaches every process, and then comes from `Interruption` once more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


class Interruption:
    """Tells the processes of pytest-xdist, which are only killed: their children would stay."""

    def __init__(self, controller):
        self.controller = controller

    def pytest_keyboard_interrupt(self):
        nodes = self.controller.nodemanager
        nodes.EXIT_TIMEOUT = 60
        for gateway in nodes.group:
            gateway._io.popen.send_signal(signal.SIGINT)


_LONG = ("campaign", "ray")


def pytest_collection_modifyitems(items):
    """Whoever asks for hours of tests waits for them; all others end, see pyproject.toml."""
    for item in items:
        if any(map(item.get_closest_marker, _LONG)):
            item.add_marker(pytest.mark.timeout(0))


def pytest_runtest_setup(item):
    """As above, for the clock of pytest itself."""
    if any(map(item.get_closest_marker, _LONG)):
        faulthandler.cancel_dump_traceback_later()


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch):
    """Fail any test that connects to another machine, even from code that catches Exception."""
    connect = socket.socket.connect

    def guarded(self, address):
        inet = self.family in (socket.AF_INET, socket.AF_INET6)
        if inet and not ipaddress.ip_address(address[0]).is_loopback:
            self.close()
            pytest.fail(f"a test tried to reach {address}")
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture
def heeding_hang_ups():
    """SIGHUP is heard, also where the suite runs under `nohup`."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


_NOT_OURS = ("_api_key", "http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch):
    """No setting of the person who runs the tests reaches them."""
    import os

    for name in list(os.environ):
        if name.startswith(("BATCHER_", "ANTHROPIC_")) or name.lower().endswith(_NOT_OURS):
            monkeypatch.delenv(name)
