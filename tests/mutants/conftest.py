"""Tells what a campaign found, where the tests of whole processes are not there to tell it."""

from pathlib import Path

from tests.e2e.campaign import TOLD

TELLER = str(Path(__file__).parent.parent / "e2e/conftest.py")


def pytest_terminal_summary(terminalreporter, config):
    if not config.pluginmanager.has_plugin(TELLER):
        for sentence in TOLD:
            terminalreporter.write_line(sentence, yellow=True)
