"""docs/orchestrators.md and docs/Dockerfile: what stands there works."""

import ast
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from batcher.cli.care import scheduling
from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.ledgers import count
from tests.e2e.processes import PATIENCE_SECONDS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "orchestrators.md").read_text()
DAY = "2026-11-30"


def section(name: str) -> str:
    return PAGE.split(f"## {name}\n")[1].split("\n## ")[0]


def snippet(name: str, language: str) -> str:
    (found,) = re.findall(rf"```{language}\n(.*?)```", section(name), re.DOTALL)
    return found


def command_of(name: str) -> str:
    """What the snippet's own `COMMAND` is, with the day filled in as that tool does."""
    for node in ast.walk(ast.parse(snippet(name, "python"))):
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMAND":
            return ast.literal_eval(node.value).replace("{{ ds }}", DAY).replace("{day}", DAY)
    raise LookupError(name)


@pytest.fixture
def place(tmp_path, simulate, programs):
    """The folder of the page's job, its key in a file, and a way to run a line there."""
    place = tmp_path / "srv"
    for name in ("inbox", "answers", ".venv"):
        (place / name).mkdir(parents=True)
    (place / ".venv" / "bin").symlink_to(programs)
    (place / "nightly.toml").write_text(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    url = simulate().url
    (place / "config.toml").write_text(f'{QUICK}[endpoints.anthropic]\nbase_url = "{url}"\n')
    return place


def run(line: str, place: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    real = line.replace("/opt/batcher", f"{place}/.venv").replace("/srv/batcher", str(place))
    given = {"PATH": "/usr/bin:/bin", "ANTHROPIC_API_KEY": "sk-ant-x"} | environment
    done = subprocess.run(
        ["env", "-i", *(f"{k}={v}" for k, v in given.items()), "/bin/sh", "-c", real],
        cwd=environment.get("HOME", "/"), stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=PATIENCE_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done
    return done


@pytest.mark.parametrize("name", ["Airflow", "Dagster", "Prefect"])
def test_the_command_of_an_orchestrator_does_the_day(place, name):
    write_jsonl(place / "inbox" / f"{DAY}.jsonl", rows(3))
    run(command_of(name), place)
    assert (place / "answers" / f"{DAY}.jsonl").read_text().count('"answered"') == 3


def test_the_steps_of_the_action_do_the_job(place):
    job = (place / "nightly.toml").read_text().replace("{date}", "rows")
    (place / "nightly.toml").write_text(job)
    write_jsonl(place / "inbox" / "rows.jsonl", rows(3))
    lines = re.findall(r"^ +- run: (.*)$", snippet("GitHub Actions", "yaml"), re.MULTILINE)
    summary = place / "summary.md"
    for line in lines[1:]:  # the first one installs
        run(line, place, HOME=str(place), GITHUB_STEP_SUMMARY=str(summary))
    assert count(str(place / "batcher.db"), "v_answers") == 3
    assert "claude-haiku-4-5" in summary.read_text()


# --- The image


def instructions() -> list[tuple[str, str]]:
    text = (ROOT / "docs" / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [tuple(line.split(maxsplit=1)) for line in lines]


def test_the_image_is_built_in_stages_of_which_the_last_has_no_sources():
    stages = [index for index, (word, _) in enumerate(instructions()) if word == "FROM"]
    assert len(stages) == 2
    last = instructions()[stages[1] :]
    assert [rest for word, rest in last if word == "COPY"] == [
        "--from=build /opt/batcher /opt/batcher"
    ]


def test_the_image_runs_as_nobody_s_user_which_the_pod_has_too():
    (user,) = [rest for word, rest in instructions() if word == "USER"]
    assert user == f"{scheduling._USER}:{scheduling._USER}"
    assert ("ENTRYPOINT", '["batcher"]') in instructions()


def test_all_that_the_image_copies_is_there_and_versions_are_those_that_were_tested():
    copied = [shlex.split(rest)[:-1] for word, rest in instructions() if word == "COPY"]
    names = [name for words in copied for name in words if not words[0].startswith("--")]
    assert all((ROOT / name).exists() for name in names)
    assert ".ci/constraints.txt" in names
    environment = " ".join(rest for word, rest in instructions() if word == "ENV")
    assert "PIP_CONSTRAINT=/src/constraints.txt" in environment
