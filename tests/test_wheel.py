"""What is shipped: the wheel's contents, and the wheel alone in an empty folder."""

import fnmatch
import html
import os
import pty
import re
import shutil
import subprocess
import sys
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import read_to_end

PROJECT = Path(__file__).parent.parent
SOURCES = (
    "batcher",
    "migrations",
    "jobs",
    "docs",
    "pyproject.toml",
    "README.md",
    "LICENSE",
    ".gitignore",
)
IGNORED = [
    line.strip("/")
    for line in (PROJECT / ".gitignore").read_text("utf-8").splitlines()
    if line and not line.startswith(("#", "/"))  # nothing of these folders lies at the top
]


def run(
    *command: str | Path, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The ended command, with an environment that holds only what is named."""
    return subprocess.run(
        command,
        cwd=folder,
        env={"PATH": os.defpath, "HOME": str(folder), "LANG": "C.UTF-8"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )


def is_ignored(path: Path) -> bool:
    return any(fnmatch.fnmatch(part, pattern) for part in path.parts for pattern in IGNORED)


@pytest.fixture(scope="module")
def checkout(tmp_path_factory) -> Path:
    """The project's files as a clone has them, and some that must not be shipped."""
    folder = tmp_path_factory.mktemp("checkout")
    for name in SOURCES:
        source = PROJECT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns(*IGNORED))
        else:
            shutil.copy(source, folder / name)
    for stray in (
        "batcher/.env",
        "batcher/batcher.db",
        "migrations/.env",
        "jobs/batcher.db-wal",
    ):
        (folder / stray).write_text("not for shipping")
    (folder / "tests").mkdir()
    (folder / "tests" / "test_nothing.py").write_text("")
    return folder


@pytest.fixture(scope="module")
def wheel(checkout, tmp_path_factory) -> Path:
    dist = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", dist]
    built = run(*command, folder=checkout)
    assert built.returncode == 0, built.stdout + built.stderr
    (found,) = dist.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def contents(wheel) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """The programs of a fresh environment that has the wheel; libraries come from this one."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"]
    done = run(*pip, "install", "--no-deps", "--no-index", wheel, folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    libraries = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "libraries.pth").write_text("\n".join(libraries))  # behind the wheel's own
    return folder / "bin"


@pytest.fixture
def empty(tmp_path) -> Path:
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def shipped(folder: Path, name: str) -> set[str]:
    paths = (path.relative_to(folder) for path in (folder / name).rglob("*") if path.is_file())
    return {path.as_posix() for path in paths if not is_ignored(path)}


def test_the_wheel_holds_the_package_and_nothing_else(contents, checkout):
    folders = ("migrations", "jobs", "docs")
    moved = {f"batcher/{path}" for name in folders for path in shipped(checkout, name)}
    package = {name for name in contents if ".dist-info/" not in name}
    assert package == shipped(checkout, "batcher") | moved


@pytest.mark.parametrize("pattern", ["tests/*", "*.db*", "*.env", "*.pyc", "*/test_*"])
def test_the_wheel_holds_nothing_private(contents, pattern):
    assert not fnmatch.filter(contents, pattern)


@pytest.mark.parametrize(
    "pattern",
    [
        "batcher/py.typed",
        "batcher/migrations/env.py",
        "batcher/migrations/head_sqlite.sql",
        "batcher/migrations/head_postgresql.sql",
        "batcher/migrations/versions/*.py",
        "batcher/migrations/versions/*.sql",
        "batcher/jobs/*.toml",
        "batcher/jobs/*.jsonl*",
        "batcher/jobs/*.parquet",
        "batcher/docs/index.md",
        "batcher/pricing/book/data/*",
        "*.dist-info/licenses/LICENSE",
        "*.dist-info/entry_points.txt",
    ],
)
def test_the_wheel_holds_what_the_program_needs(contents, pattern):
    assert fnmatch.filter(contents, pattern)


def test_the_installed_program_is_the_one_of_the_wheel(installed, empty):
    told = run(
        installed / "python", "-c", "import batcher; print(batcher.__file__)", folder=empty
    )
    assert Path(told.stdout.strip()).is_relative_to(installed.parent)


def test_help_works_in_an_empty_folder_and_leaves_it_empty(installed, empty):
    told = run(installed / "batcher", "--help", folder=empty)
    assert (told.returncode, told.stderr) == (0, "")
    assert "run" in told.stdout
    assert not list(empty.iterdir())


def test_a_database_is_made_by_the_shipped_migrations(installed, empty):
    url = "sqlite:///ledger.db"
    for verb in ("upgrade", "current", "check"):
        done = run(installed / "batcher", "db", verb, "--database", url, folder=empty)
        assert done.returncode == 0, f"db {verb}: {done.stdout}{done.stderr}"
    assert (empty / "ledger.db").stat().st_size


def test_an_unknown_command_is_refused_in_an_empty_folder(installed, empty):
    assert run(installed / "batcher", "rnu", folder=empty).returncode == 2


def words_of_the_picture() -> set[str]:
    """What stands in the README's picture of the demo's report."""
    picture = (PROJECT / "docs/pictures/report.svg").read_text("utf-8")
    words = html.unescape(" ".join(re.findall(r"<text[^>]*>([^<]*)", picture))).split()
    assert {"claude-opus-5-5", "$1.883", "Total"} <= set(words)
    return {word for word in words if not re.match(r"[─-╿]", word)} - {"report"}


def examples_of_the_demo() -> Iterator[tuple[str, str]]:
    """What docs/reports.md shows of the demo's ledger: a command, and all that it prints."""
    page = (PROJECT / "docs/reports.md").read_text("utf-8")
    for line, shown in re.findall(r"^```\n\$ (.*)\n((?:.*\n)*?)```", page, flags=re.M):
        if "batcher-demo.db" in line and not line.startswith("batcher export"):
            yield line, shown


def printed(line: str, installed: Path, folder: Path, on_a_terminal: bool) -> str:
    environment = {
        "PATH": f"{installed}:{os.defpath}", "HOME": str(folder), "LANG": "C.UTF-8",
        "TERM": "xterm", "NO_COLOR": "1", "COLUMNS": "80",
    }  # fmt: skip
    words = ["bash", "-c", line]
    if not on_a_terminal:
        return run(*words, folder=folder, **environment).stdout
    ours, theirs = pty.openpty()
    child = subprocess.Popen(words, cwd=folder, env=environment, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = read_to_end(ours)
    assert child.wait() == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", shown)


def without_chance(text: str) -> list[str]:
    """Its lines without what is another each time: moments, ids, who and where."""
    each_time = (
        r"[\d-]+T[\d:.]+Z|by \S+ on \S+ process \d+|\d+ ms|_[0-9a-f]{22}|  [0-9a-f-]{18,}"
    )
    return [re.sub(each_time, "…", line.rstrip()) for line in text.splitlines()]


def test_the_demo_runs_from_the_wheel_and_then_has_nothing_left_to_do(installed, empty):
    first = run(installed / "batcher", "demo", folder=empty)
    assert first.returncode == 0, first.stdout + first.stderr
    assert words_of_the_picture() - {"batcher"} <= set(first.stdout.split())
    assert (empty / "batcher-demo.db").stat().st_size
    examples = list(examples_of_the_demo())
    assert len(examples) == 8
    for line, shown in examples:
        assert without_chance(printed(line, installed, empty, "┌" in shown)) == without_chance(
            shown
        )
    again = run(installed / "batcher", "demo", folder=empty)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing left to do" in (again.stdout + again.stderr).lower()
