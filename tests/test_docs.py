"""The documentation says what the program does: commands, help, jobs, the README's own tour."""

import os
import re
import subprocess
import sys
from pathlib import Path

import click
import pytest

from batcher import wiring
from batcher.cli import COMMANDS, group

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_a_line_in_the_readme(name):
    command = group.get_command(click.Context(group), name)
    assert COMMANDS[name][1] == (command.help or "").split("\n\n")[0].replace("\n", " ")
    assert f"| `batcher {name}` |" in README


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
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_tour_of_the_readme_works_as_it_stands(tmp_path):
    tour = README.split("## Five minutes")[1].split("## What the ledger promises")[0]
    blocks = re.findall(r"```sh\n(.*?)```", tour, flags=re.S)
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    script = "trap 'kill $(jobs -p)' EXIT\n" + "".join(f"{b}\necho ::$?\n" for b in blocks)
    environment = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
    }
    done = subprocess.run(
        ["bash", "-c", script],
        check=False,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    codes = re.findall(r"^::(\d+)$", done.stdout, flags=re.M)
    assert codes == ["65", "0", "0", "0", "65"], done.stdout + done.stderr
    assert "3 rows answered, 1 quarantined" in done.stderr
    assert "an earlier run was cut off" in done.stderr
    assert "input 26 x 1 USD per million = 0.000026 USD" in done.stdout
    assert (tmp_path / "answers.csv").read_text().count(",answered,") == 3
    assert "dry run: nothing was sent" in done.stdout
