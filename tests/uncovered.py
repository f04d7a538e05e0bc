"""The lines of the program that no test executes, by function, without those with a reason.

    .venv/bin/pip install coverage
    .venv/bin/python -m tests.uncovered                     # the whole suite
    .venv/bin/python -m tests.uncovered tests/pacing        # what one room leaves

Reasons stand in docs/development/uncovered.md. Processes that the tests start are measured too,
but for the last moment of those that are killed: what they executed is lost with them.
"""

import ast
import json
import os
import re
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import click

ROOT = Path(__file__).parent.parent
REASONS = ROOT / "docs/development/uncovered.md"
SETTINGS = """\
[run]
source = batcher
data_file = {folder}/lines
parallel = true
concurrency = thread, multiprocessing
patch = _exit, fork, execv
sigterm = true
disable_warnings = no-data-collected, module-not-measured, module-not-imported
[report]
exclude_also =
    if TYPE_CHECKING:
    assert_never
    @overload
    ^ *\\.\\.\\.$
"""
# In each process, also where the environment holds nothing of ours; none where the settings are
# gone, as after a kill that left this line behind.
START = """import os; exec("try:\\n if os.path.exists({settings!r}):\\n  \\
os.environ['COVERAGE_PROCESS_START'] = {settings!r}; import coverage; \\
coverage.process_startup()\\nexcept Exception: pass")
""".replace("\\\n", "")


@contextmanager
def measured(folder: Path) -> Iterator[Path]:
    """Each process of this environment notes the lines that it executes; the settings."""
    settings = folder / "settings.ini"
    settings.write_text(SETTINGS.format(folder=folder))
    hook = Path(sysconfig.get_path("purelib")) / "zz_uncovered.pth"
    hook.write_text(START.format(settings=str(settings)))
    try:
        yield settings
    finally:
        hook.unlink()


def missing(tests: Sequence[str]) -> dict[str, list[int]]:
    """The lines of each module that these tests did not execute."""
    with tempfile.TemporaryDirectory(prefix="batcher-lines-") as name:
        folder = Path(name)
        told = folder / "lines.json"
        with measured(folder) as settings:
            played = [sys.executable, "-m", "pytest", "-q", *(tests or ("-n", "4"))]
            subprocess.run(played, cwd=ROOT, check=False)
        rest = ("--rcfile", settings, "--data-file", folder / "lines")
        coverage = [sys.executable, "-m", "coverage"]
        subprocess.run([*coverage, "combine", "-q", *rest], cwd=ROOT, check=True)
        subprocess.run([*coverage, "json", "-q", *rest, "-o", told], cwd=ROOT, check=True)
        files = json.loads(told.read_text())["files"]
        ours = {module: file for module, file in files.items() if (ROOT / module).is_file()}
        here = (module for module in sorted(ours) if not Path(module).is_absolute())
        return {module: ours[module]["missing_lines"] for module in here}


@cache
def functions(module: str) -> list[tuple[int, int, str]]:
    """First line, last line and name of each function, the inner ones last."""
    found = []

    def look(node: ast.AST, outer: str) -> None:
        for each in ast.iter_child_nodes(node):
            name = outer
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                name = f"{outer}.{each.name}".lstrip(".")
                found.append((each.lineno, each.end_lineno or each.lineno, name))
            look(each, name)

    look(ast.parse((ROOT / module).read_text("utf-8")), "")
    return found


def by_function(module: str, lines: Sequence[int]) -> dict[str, list[int]]:
    around = functions(module)
    named: dict[str, list[int]] = {}
    for line in lines:
        inside = [name for first, last, name in around if first <= line <= last]
        named.setdefault(inside[-1] if inside else "(module)", []).append(line)
    return named


def reasons() -> set[tuple[str, str]]:
    """(module, function) of each line of the page's tables; `*` stands for all of a module."""
    found = re.findall(r"^\| `([^`]+)` \| (`.+`) \|$", REASONS.read_text("utf-8"), flags=re.M)
    return {
        (module, name) for module, names in found for name in names.strip("`").split("`, `")
    }


def main() -> int:
    """Print what has no reason yet, as lines for one of the page's tables."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the hook goes
    known, left = reasons(), 0
    for module, lines in missing(sys.argv[1:]).items():
        for function, places in by_function(module, lines).items():
            if not known & {(module, function), (module, "*")}:
                click.echo(f"| `{module}` | `{function}` | {places}")
                left += len(places)
    click.echo(f"{left} lines have no reason")
    return left > 0


if __name__ == "__main__":
    os.chdir(ROOT)
    sys.exit(main())
