# ruff: noqa: T201 - a benchmark prints its table
"""Requests per second and CPU per request, as a ratio to a bare aiohttp loop in the same run.

python -m tests.benchmarks.throughput [--rows 60000] [--concurrency 1000]
    [--database sqlite|postgresql] [--repeat 3] [--way plain|tls|proxy]
"""

import argparse
import shlex
import statistics
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import Databases, answered, databases
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import write_rows

HEAD = (
    f"{'process':<12}{'requests/s':>12}{'CPU ms/request':>16}{'peak MB':>10}{'kB written':>12}"
    f"{'wall s':>9}"
)


@dataclass(frozen=True, slots=True)
class Line:
    """One measured process, per request."""

    name: str
    per_second: float
    cpu_ms: float
    peak_mb: float
    written_kb: float
    wall_seconds: float

    def __str__(self) -> str:
        figures = f"{self.per_second:>12,.0f}{self.cpu_ms:>16.3f}{self.peak_mb:>10.1f}"
        return f"{self.name:<12}{figures}{self.written_kb:>12.1f}{self.wall_seconds:>9.2f}"


def line_of(name: str, measured: processes.Measured, rows: int) -> Line:
    cpu_ms = measured.cpu_seconds * 1000 / rows
    per_second = rows / measured.wall_seconds
    written_kb = measured.written_bytes / 1000 / rows
    return Line(name, per_second, cpu_ms, measured.peak_mb, written_kb, measured.wall_seconds)


def median_of(lines: Iterable[Line]) -> Line:
    lines = list(lines)
    columns = ("per_second", "cpu_ms", "peak_mb", "written_kb", "wall_seconds")
    middle = (statistics.median(getattr(line, column) for line in lines) for column in columns)
    return Line(lines[0].name, *middle)


def alternate(options: argparse.Namespace, folder: Path, stores: Databases) -> list[Line]:
    """Measure the two in turn, so that a slow minute of the machine meets both."""
    rows = write_rows(folder / "rows.jsonl", options.rows)
    lines = []
    print(HEAD, flush=True)
    with processes.way_to_server(options.way, delay_ms=options.delay_ms) as way:
        processes.configure(folder, way)
        for _ in range(options.repeat):
            database = stores.create()
            commands = {
                "bare loop": processes.bare_loop(
                    rows, way.base_url, concurrency=options.concurrency, proxy=way.proxy
                ),
                "batcher run": processes.batcher_run(
                    rows, way.base_url, concurrency=options.concurrency, database=database
                ),
            }
            for name, command in commands.items():
                measured = processes.measure(command, folder=folder)
                lines.append(line_of(name, measured, options.rows))
                print(lines[-1], flush=True)
            answered(stores, database, options.rows)
    return lines


def conclude(lines: list[Line], options: argparse.Namespace) -> None:
    bare = median_of(line for line in lines if line.name == "bare loop")
    ours = median_of(line for line in lines if line.name == "batcher run")
    print(f"medians\n{bare}\n{ours}")
    print(f"requests/s, batcher run to bare loop: {ours.per_second / bare.per_second:.1%}")
    print(f"CPU per request, the same: {ours.cpu_ms / bare.cpu_ms:.2f} times")
    if options.delay_ms:
        ideal = options.concurrency * 1000 / options.delay_ms
        print(f"of the ideal {ideal:,.0f} requests/s: {ours.per_second / ideal:.1%}")


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=60_000)
    arguments.add_argument("--concurrency", type=int, default=1_000)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--way", choices=["plain", "tls", "proxy"], default="plain")
    arguments.add_argument("--delay-ms", type=float, default=0, help="latency of the server")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    print(f"python -m tests.benchmarks.throughput {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        conclude(alternate(options, folder, stores), options)


if __name__ == "__main__":
    main()
