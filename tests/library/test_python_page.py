"""docs/python.md says what happens: its examples run against the simulator."""

import doctest
from pathlib import Path

import pytest

from tests.making_runs import simulating

PAGE = Path(__file__).parent.parent.parent / "docs/python.md"


def test_every_example_of_the_page_gives_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with simulating() as simulator:
        monkeypatch.setenv("BATCHER_BASE_URL", simulator.base_url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-of-nobody")
        done = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8")
    assert done.attempted > 10
    assert not done.failed
