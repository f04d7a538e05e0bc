"""What is installed: bounds in pyproject.toml, exact versions in .ci/constraints.txt."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = Path(__file__).parent.parent
TABLE = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))
LINES = (PROJECT / ".ci" / "constraints.txt").read_text("utf-8").splitlines()
EXTRAS = TABLE["project"]["optional-dependencies"]
REQUIRED = [
    requirement
    for line in chain(TABLE["project"]["dependencies"], *EXTRAS.values())
    if (requirement := Requirement(line)).name != TABLE["project"]["name"]
]


def pinned() -> dict[str, Version]:
    pins = [re.match(r"([a-z0-9-]+)==([\w.]+)(?: ; |$)", line) for line in LINES[1:]]
    return {pin[1]: Version(pin[2]) for pin in pins}


def test_every_line_is_a_name_and_a_version():
    assert len(pinned()) == len(LINES) - 1 > 50


@pytest.mark.parametrize("required", REQUIRED, ids=lambda required: required.name)
def test_what_was_tested_is_what_is_allowed(required):
    assert pinned()[required.name.lower()] in required.specifier


@pytest.mark.parametrize("required", REQUIRED, ids=lambda required: required.name)
def test_a_library_without_promises_is_capped_at_its_next_minor_version(required):
    tested = pinned()[required.name.lower()]
    if tested.major == 0:
        assert f"0.{tested.minor + 1}" not in required.specifier


def test_what_builds_the_wheel_is_bounded():
    for line in TABLE["build-system"]["requires"]:
        assert {each.operator for each in Requirement(line).specifier} == {">=", "<"}


@pytest.mark.parametrize(
    "page", ["README.md", "docs/contributing.md", "docs/development/testing.md"]
)
def test_every_documented_installation_uses_the_tested_versions(page):
    commands = re.findall(r"pip install .*", (PROJECT / page).read_text("utf-8"))
    ours = [command for command in commands if "'.[" in command]
    assert ours
    assert all("--constraint .ci/constraints.txt" in command for command in ours)
