# ruff: noqa: T201 - a benchmark prints its table
"""What it costs to start: `batcher --help` beside an interpreter that does nothing.

python -m tests.benchmarks.startup [--repeat 20]
"""

import argparse
import statistics
import subprocess
import sys
from pathlib import Path

from tests.benchmarks import processes

COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "batcher --help": processes.batcher("--help"),
}


def median_ms(seconds: list[float]) -> float:
    return statistics.median(seconds) * 1000


def slowest_imports(folder: Path, count: int = 10) -> list[str]:
    """The modules whose own code took longest, as the interpreter tells it, slowest first."""
    command = [sys.executable, "-X", "importtime", *processes.batcher("--help")[1:]]
    child = subprocess.run(
        command,
        cwd=folder,
        env=processes.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in child.stderr.splitlines() if line.startswith("import time:")]
    return sorted(lines[1:], key=lambda line: -int(line[12:].split("|")[0]))[:count]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--repeat", type=int, default=20)
    repeat = arguments.parse_args().repeat
    print(processes.versions())
    walls: dict[str, list[float]] = {name: [] for name in COMMANDS}
    with processes.scratch_folder() as folder:
        for _ in range(repeat + 1):
            for title, command in COMMANDS.items():
                walls[title].append(processes.measure(command, folder=folder).wall_seconds)
        imports = slowest_imports(folder)
    nothing, ours = (
        median_ms(seconds[1:]) for seconds in walls.values()
    )  # the first one warms
    print(f"python -c pass {nothing:8.0f} ms\nbatcher --help {ours:8.0f} ms")
    print(f"ratio          {ours / nothing:8.1f}\n", *imports, sep="\n")


if __name__ == "__main__":
    main()
