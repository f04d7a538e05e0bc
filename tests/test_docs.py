"""The documentation says what the program does: commands, help, jobs, the README's own tour."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batcher import wiring
from batcher.cli.menu import COMMANDS, group
from tests.uncovered import functions, reasons

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_line_in_the_table(name):
    command = group.get_command(click.Context(group), name)
    assert COMMANDS[name][1] == (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert f"| `batcher {name}` |" in (ROOT / "docs/commands.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_explained(name):
    command = group.get_command(click.Context(group), name)
    subcommands = command.commands.values() if isinstance(command, click.Group) else [command]
    for each in subcommands:
        for parameter in each.params:
            assert isinstance(parameter, click.Argument) or parameter.help, parameter.name


@pytest.mark.parametrize("path", sorted((ROOT / "jobs").glob("*.toml")), ids=lambda p: p.name)
def test_every_shipped_job_is_whole(path):
    found = wiring.inspect_inputs(wiring.resolve(wiring.asked((), path, None)))
    assert found.requests > 500
    assert not found.bad_rows


def test_every_link_of_the_documentation_leads_somewhere():
    for page in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_every_function_that_no_test_executes_is_there():
    for module, name in reasons():
        there = {each for _, _, each in functions(module)}
        assert name in {*there, "*", "(module)"}, f"{module}: {name}"


def test_every_page_is_reached_from_an_index():
    pages = set((ROOT / "docs").rglob("*.md"))
    indexes = {page for page in pages if page.name == "index.md"}
    linked = {
        (index.parent / target).resolve()
        for index in indexes
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", index.read_text())
    }
    assert not pages - linked - {ROOT / "docs/index.md"}


# `timeout -s KILL 3 COMMAND`, but by what happened: it kills when something is in flight.
CUT_OFF = """
import sqlite3, subprocess, sys
assert sys.argv[1:4] == ["-s", "KILL", "3"]
run = subprocess.Popen(sys.argv[4:])
ledger = sqlite3.connect("file:batcher.db?mode=ro", uri=True, timeout=60)
while not ledger.execute("SELECT 1 FROM attempts WHERE state = 'open'").fetchone():
    assert run.poll() is None
run.kill()
sys.exit(run.wait() and 137)
"""


def _elsewhere(block, folder):
    """The first commands of the tour on a port that nobody else has, whoever runs tests too."""
    numbers = (10_000 + (os.getpid() + n) % 20_000 for n in range(20_000))  # none is given out
    port = next(number for number in numbers if _is_free(number))
    assert block.count("--port 8089") == 1
    (folder / "config.toml").write_text(
        f"[endpoints.simulator]\nbase_url = 'http://127.0.0.1:{port}'\n"
    )
    return block.replace("--port 8089", f"--port {port}")


def _is_free(port):
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) != 0


def test_the_readme_is_read_in_a_few_minutes():
    assert len(README.split()) <= 700


def without_pace(words: str) -> str:
    return re.sub(r"in \d+ s \([\d.]+ rows/s\)", "in so many seconds", words)


def test_the_tour_of_the_readme_works_as_it_stands(tmp_path):
    tour = README.split("## Five minutes")[1].split("## What the ledger promises")[0]
    blocks = re.findall(r"```sh\n(.*?)```", tour, flags=re.S)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    blocks[0] = _elsewhere(blocks[0], tmp_path)
    (tmp_path / "timeout").write_text(f"#!{sys.executable}\n{CUT_OFF}")
    (tmp_path / "timeout").chmod(0o755)
    script = "trap 'kill $(jobs -p)' EXIT\n" + "".join(f"{b}\necho ::$?\n" for b in blocks)
    environment = {
        "PATH": f"{tmp_path}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    codes = re.findall(r"^::(\d+)$", done.stdout, flags=re.M)
    assert codes == ["65", "0", "0", "65"], done.stdout + done.stderr
    shown = tour.split("```text\n")[1].split("```")[0]
    said = done.stderr.replace(str(tmp_path), "/home/you")
    assert without_pace(shown).splitlines() == without_pace(said).splitlines()[:9]
    assert "an earlier run was cut off" in done.stderr
    assert "input 26 x 1 USD per million = 0.000026 USD" in done.stdout
    assert (tmp_path / "answers.csv").read_text().count(",answered,") == 3
    assert "dry run: nothing was sent" in done.stdout
