# ruff: noqa: T201 - a benchmark prints its table
"""What a row costs in Message Batches, packed and collected, beside the same row sent live.

    python -m tests.benchmarks.batches [--rows 60000] [--concurrency 1000]

Each is a whole process: `--lane batch --no-wait` packs, the same command collects once the
batches have ended, and a third sends the rows live to the same simulator. Starting is measured
by short runs and taken out. Collecting waits for the batches, so its wall time says nothing.
Ends with 1 where a bar is missed: collecting costs at most 0.6 times the CPU of live, packing
and collecting need less than 200 MB.
"""

import argparse
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.processes import Measured, scratch_folder
from tests.benchmarks.rows import write_rows

MOST_OF_LIVE, MOST_MB = 0.6, 200
SHORT_ROWS = 100
ROWS_PACKED_PER_SECOND = 3_000  # at least, so that no batch ends while others are packed
BATCHES_OUT = 75
STEPS = ("packing", "collecting", "live")


@contextmanager
def simulator(batch_seconds: int) -> Iterator[str]:
    """The address of a simulator in a process of its own."""
    command = processes.batcher("simulate", "--batch-seconds", str(batch_seconds))
    child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=processes.PROJECT)
    try:
        yield processes.said(child).split()[-1]
    finally:
        child.terminate()
        child.wait(timeout=60)
        child.stdout.close()


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one step: CPU per row past the start, wall seconds, and the peak of its memory."""

    milliseconds_per_row: float
    wall_seconds: float
    peak_mb: float


def steps(folder: Path, rows: int, concurrency: int) -> dict[str, Measured]:
    path = write_rows(folder / f"rows{rows}.jsonl", rows)
    with simulator(5 + rows // ROWS_PACKED_PER_SECOND) as url:
        packed, live = (
            processes.batcher_run(
                path,
                url,
                concurrency=concurrency,
                database=f"sqlite:///{folder / name}{rows}.db",
            )
            for name in ("packed", "live")
        )
        packed += ["--lane", "batch"]
        return {
            "packing": processes.measure(
                [*packed, "--no-wait"], folder=folder, expected=BATCHES_OUT
            ),
            "collecting": processes.measure(packed, folder=folder),
            "live": processes.measure(live, folder=folder),
        }


def costs(folder: Path, rows: int, concurrency: int) -> dict[str, Cost]:
    short, long = (steps(folder, count, concurrency) for count in (SHORT_ROWS, rows))
    return {
        name: Cost(
            1e3 * (long[name].cpu_seconds - short[name].cpu_seconds) / (rows - SHORT_ROWS),
            long[name].wall_seconds,
            long[name].peak_mb,
        )
        for name in STEPS
    }


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=60_000)
    arguments.add_argument("--concurrency", type=int, default=1_000, help="of the live run")
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.batches {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder:
        found = costs(folder, options.rows, options.concurrency)
    live = found["live"].milliseconds_per_row
    print(f"{'step':>12}{'CPU ms/row':>12}{'to live':>9}{'wall s':>9}{'peak MB':>9}")
    for name, cost in found.items():
        each = cost.milliseconds_per_row
        times = f"{each:>12.3f}{each / live:>9.2f}{cost.wall_seconds:>9.1f}"
        print(f"{name:>12}{times}{cost.peak_mb:>9.0f}")
    is_dear = found["collecting"].milliseconds_per_row > MOST_OF_LIVE * live
    is_large = max(found[name].peak_mb for name in STEPS[:2]) > MOST_MB
    sys.exit(int(is_dear or is_large))


if __name__ == "__main__":
    main()
