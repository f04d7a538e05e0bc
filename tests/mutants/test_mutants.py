"""The ordinary tests see planted mistakes: each mutant in a copy of the checkout is killed."""

import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.e2e.campaign import Campaign
from tests.mutants.table import MUTANTS, Mutant

ROOT = Path(__file__).parent.parent.parent
COPIED = ("batcher", "migrations", "jobs", "docs", "tests", "pyproject.toml", "config.toml")
ON_SQLITE = ("-k", "not postgresql")  # that is quicker, and enough to see a mistake
FAILED = 1  # pytest's exit code for tests that failed; others say that it could not run


@cache
def sources(folder: Path) -> dict[Path, str]:
    return {path: path.read_text("utf-8") for path in (folder / "batcher").rglob("*.py")}


def place(mutant: Mutant, folder: Path) -> Path:
    """The one file of that checkout which has the text, once."""
    counts = {path: source.count(mutant.text) for path, source in sources(folder).items()}
    found = [path for path, count in counts.items() for _ in range(count)]
    assert len(found) == 1, f"{mutant.id}: {found}"
    return found[0]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_still_has_its_place(mutant):
    assert place(mutant, ROOT).is_relative_to(ROOT / "batcher" / mutant.room)
    assert mutant.text != mutant.becomes
    assert all((ROOT / name.split("::")[0]).exists() for name in mutant.tests)


def test_there_are_twenty_mutants_of_ledger_pacer_and_rating():
    assert len({mutant.id for mutant in MUTANTS}) >= 20
    assert {mutant.room for mutant in MUTANTS} == {"ledger", "pacing", "pricing"}


@pytest.fixture(scope="session")
def checkout(tmp_path_factory):
    """A copy of the checkout."""
    folder = tmp_path_factory.mktemp("mutants")
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    return folder


@pytest.fixture(scope="session")
def without_mutants(checkout):
    """The exit code of tests of the unchanged copy, each run once."""
    known: dict[tuple[str, ...], int] = {}

    def run(tests: tuple[str, ...]) -> int:
        if tests not in known:
            known[tests] = run_tests(checkout, tests)
        return known[tests]

    return run


def run_tests(folder: Path, tests: tuple[str, ...]) -> int:
    """pytest's exit code for these tests in the copy; it must be the copy that they test."""
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    where = [sys.executable, "-c", "import batcher; print(batcher.__file__)"]
    found = subprocess.run(where, cwd=folder, env=environment, capture_output=True, check=True)
    assert Path(found.stdout.decode().strip()).is_relative_to(folder)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        *ON_SQLITE,
        *tests,
    ]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, timeout=600, check=False
    )
    return done.returncode


@pytest.mark.campaign
@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_is_killed(checkout, without_mutants, mutant, pytestconfig):
    campaign = Campaign("mutants", pytestconfig)
    if {"mutant": mutant.id, "killed": True} in campaign.results() or not campaign.has_time():
        return
    assert without_mutants(mutant.tests) == 0
    path = place(mutant, checkout)
    whole = path.read_text()
    path.write_text(whole.replace(mutant.text, mutant.becomes))
    try:
        killed = run_tests(checkout, mutant.tests) == FAILED
    finally:
        path.write_text(whole)
    campaign.add(mutant=mutant.id, killed=killed)
    campaign.tell(f"{mutant.id}: {'killed' if killed else 'SURVIVED'}")
    assert killed, mutant.wrong
