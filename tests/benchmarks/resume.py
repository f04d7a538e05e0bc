# ruff: noqa: T201 - a benchmark prints its table
"""Rows skipped per second when the same command runs again on an unchanged, finished input.

    python -m tests.benchmarks.resume [--rows 200000] [--repeat 3]
        [--database sqlite|postgresql]

The same is done with a thousand rows; the difference of the two is the skipping, what they have
in common is starting and ending.
"""

import argparse
import shlex
import statistics
import sys
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import Databases, answered, databases
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import write_rows

FEW_ROWS = 1_000


def finished_again(folder: Path, stores: Databases, rows: int, repeat: int) -> float:
    """The median seconds that a run takes which finds all `rows` done."""
    path = write_rows(folder / f"rows{rows}.jsonl", rows)
    database = stores.create()
    with processes.fixed_server() as url:
        command = processes.batcher_run(path, url, concurrency=100, database=database)
        first = processes.measure(command, folder=folder)
        answered(stores, database, rows)
        again = [processes.measure(command, folder=folder) for _ in range(repeat)]
    seconds = statistics.median(measured.wall_seconds for measured in again)
    print(
        f"{rows:>10,} rows: first {first.wall_seconds:.2f} s, again {seconds:.3f} s", flush=True
    )
    return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=200_000)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.resume {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        few = finished_again(folder, stores, FEW_ROWS, options.repeat)
        many = finished_again(folder, stores, options.rows, options.repeat)
    print(f"all of it: {options.rows / many:,.0f} rows/s")
    if many > few:
        print(f"skipping:  {(options.rows - FEW_ROWS) / (many - few):,.0f} rows/s")


if __name__ == "__main__":
    main()
