# ruff: noqa: T201 - a benchmark prints its table
"""Memory over time: does it grow with the input, and what does a request in flight cost?

    python -m tests.benchmarks.memory [--rows 10000 100000] [--full]
        [--database sqlite|postgresql]

1,000 are in flight. --full adds 1,000,000 rows. Then come rows from Parquet, a server that
takes 1 s, and one row of 31 MB beside one of a few bytes.
"""

import argparse
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import Databases, answered, databases
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import LINE, SENTENCE, write_rows

LARGE_BYTES = 31_000_000
FIFTHS = ("20 %", "40 %", "60 %", "80 %", "100 %")
IN_FLIGHT = 1_000
HEAD = (
    f"{'rows':>9}{'from':>9}{'delay ms':>9}"
    + "".join(f"{x:>8}" for x in FIFTHS)
    + f"{'peak MB':>10}"
)


def resident_by_fifth(samples: Sequence[tuple[float, float]]) -> list[float]:
    """The median MB in each fifth of the run; empty where the system gives no samples."""
    if len(samples) < len(FIFTHS):
        return []
    edges = [len(samples) * n // len(FIFTHS) for n in range(len(FIFTHS) + 1)]
    parts = (samples[start:end] for start, end in pairwise(edges))
    return [statistics.median(resident for _, resident in part) for part in parts]


def measure(
    folder: Path, stores: Databases, rows: int, *, delay_ms: float = 0, kind: str = "jsonl"
) -> float:
    """Run once and print a line; the peak in MB."""
    path = write_rows(folder / f"rows{rows}.jsonl", rows)
    if kind == "parquet":
        path = path.rename(folder / "rows.tmp")
        writer = [sys.executable, "-m", "tests.benchmarks.rows", path]
        path = folder / "rows.parquet"
        subprocess.run([*writer, path], check=True, cwd=processes.PROJECT)
    database = stores.create()
    with processes.fixed_server(delay_ms=delay_ms) as url:
        command = processes.batcher_run(path, url, concurrency=IN_FLIGHT, database=database)
        measured = processes.measure(command, folder=folder, sample_seconds=0.1)
    answered(stores, database, rows)
    fifths = "".join(f"{megabytes:>8.1f}" for megabytes in resident_by_fifth(measured.samples))
    told = f"{rows:>9,}{kind:>9}{delay_ms:>9.0f}{fifths:>40}{measured.peak_mb:>10.1f}"
    print(told, flush=True)
    path.unlink()
    return measured.peak_mb


def large_row(folder: Path, stores: Databases) -> None:
    """What a row of 31 MB costs beside one of nothing, in times its size."""
    peaks = []
    with processes.fixed_server() as url:
        for size in (0, LARGE_BYTES):
            path = folder / f"row{size}.jsonl"
            path.write_text(LINE % (1, 1) if not size else large_line(size))
            database = stores.create()
            command = processes.batcher_run(path, url, concurrency=100, database=database)
            peaks.append(processes.measure(command, folder=folder).peak_mb)
            answered(stores, database, 1)
    times = (peaks[1] - peaks[0]) / (LARGE_BYTES / 1e6)
    print(
        f"one row of {LARGE_BYTES / 1e6:.0f} MB: {peaks[1]:.1f} MB, {times:.2f} times its size"
    )


def large_line(size: int) -> str:
    content = SENTENCE * (size // len(SENTENCE))
    return (LINE % (1, 1)).replace(SENTENCE * 12, content)


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--full", action="store_true", help="1,000,000 rows as well")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    sizes = options.rows + [1_000_000] * options.full
    print(f"python -m tests.benchmarks.memory {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        print(HEAD, flush=True)
        peaks = [measure(folder, stores, rows) for rows in sizes]
        measure(folder, stores, 60_000, kind="parquet")
        measure(folder, stores, 20_000, delay_ms=1_000)
        measure(folder, stores, 20_000, delay_ms=1_000, kind="parquet")
        large_row(folder, stores)
    print(f"peak, most rows to fewest: {peaks[-1] / peaks[0]:.2f} times")


if __name__ == "__main__":
    main()
