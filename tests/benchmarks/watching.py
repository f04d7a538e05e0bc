# ruff: noqa: T201 - a benchmark prints its table
"""What a log and a metrics file cost: CPU per row of a run with them against one without.

python -m tests.benchmarks.watching [--rows 20000] [--pairs 7] [--concurrency 100]
    [--database sqlite|postgresql]
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

WATCHED = ("--log-file", "run.log", "--log-format", "json", "--metrics-file", "run.prom")


def user_seconds(
    options: argparse.Namespace, rows: Path, url: str, stores: Databases, *more: str
) -> float:
    database = stores.create()
    command = processes.batcher_run(
        rows, url, concurrency=options.concurrency, database=database
    )
    measured = processes.measure([*command, *more], folder=rows.parent)
    answered(stores, database, options.rows)
    return measured.user_seconds


def pairs(options: argparse.Namespace, folder: Path, stores: Databases) -> list[float]:
    """What watching adds, of 1, pair by pair; who is first alternates."""
    rows = write_rows(folder / "rows.jsonl", options.rows)
    added = []
    with processes.fixed_server() as url:
        for number in range(options.pairs):
            seconds = {}
            ways = ((), WATCHED) if number % 2 else (WATCHED, ())
            for way in ways:
                seconds[way] = user_seconds(options, rows, url, stores, *way)
            added.append(seconds[WATCHED] / seconds[()] - 1)
            micros = [seconds[way] * 1e6 / options.rows for way in ((), WATCHED)]
            print(f"{micros[0]:>10.1f}{micros[1]:>10.1f}{added[-1]:>+10.2%}", flush=True)
    return added


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=20_000)
    arguments.add_argument("--pairs", type=int, default=7)
    arguments.add_argument("--concurrency", type=int, default=100)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    print(f"python -m tests.benchmarks.watching {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    print("user CPU, µs a row\n     alone   watched     added")
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        added = pairs(options, folder, stores)
    print(f"median of {options.pairs} pairs: {statistics.median(added):+.2%}")


if __name__ == "__main__":
    main()
