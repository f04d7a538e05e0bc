# ruff: noqa: T201 - a benchmark prints its table
"""What a second process brings: `batcher run --processes 2` against `--processes 1`.

    python -m tests.benchmarks.scaling [--rows 60000] [--share 0.3] [--repeat 2]

A second process can only bring what the machine has: server and PostgreSQL need processors too.
So that neither of them is the limit on two cores, each process of the run gets `share` of a
core: it is stopped and continued a hundred times a second. Starting is measured by a short run
and taken out.
"""

import argparse
import os
import shlex
import signal
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import Databases, answered, databases
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import write_rows

PERIOD_SECONDS = 0.01
SHORT_ROWS = 2_000
CONCURRENCY = 2_000


class SlowCores:
    """Gives this process's descendants that run `batcher` a share of a core each."""

    def __init__(self, share: float) -> None:
        self.share = share
        self.ended = threading.Event()
        self.threads: dict[int, threading.Thread] = {}

    def slow_down(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            while not self.ended.is_set():
                os.kill(pid, signal.SIGSTOP)
                time.sleep(PERIOD_SECONDS * (1 - self.share))
                os.kill(pid, signal.SIGCONT)
                time.sleep(PERIOD_SECONDS * self.share)

    def watch(self) -> None:
        while not self.ended.wait(0.05):
            for pid in workers(os.getpid()):
                if pid not in self.threads:
                    thread = threading.Thread(target=self.slow_down, args=(pid,), daemon=True)
                    self.threads[pid] = thread
                    thread.start()


def workers(ancestor: int) -> Iterator[int]:
    """The processes below `ancestor` that are a run or one of its helpers."""
    for task in Path(f"/proc/{ancestor}/task").iterdir():
        for child in (task / "children").read_text().split():
            with suppress(OSError):
                line = Path(f"/proc/{child}/cmdline").read_bytes()
                if b"--processes" in line or b"batcher.wiring.child" in line:
                    yield int(child)
                    yield from workers(int(child))


@contextmanager
def slow_cores(share: float) -> Iterator[None]:
    slow = SlowCores(share)
    watcher = threading.Thread(target=slow.watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        slow.ended.set()
        watcher.join()
        for thread in slow.threads.values():
            thread.join()


def wall_seconds(
    rows: int, count: int, url: str, folder: Path, stores: Databases, share: float
) -> float:
    """How long a whole run of `rows` rows takes in `count` processes."""
    database = stores.create()
    path = folder / f"{rows}.jsonl"
    command = processes.batcher_run(path, url, concurrency=CONCURRENCY, database=database)
    with slow_cores(share):
        measured = processes.measure([*command, "--processes", f"{count}"], folder=folder)
    answered(stores, database, rows)
    return measured.wall_seconds


def compare(options: argparse.Namespace, folder: Path, stores: Databases) -> float:
    for rows in (SHORT_ROWS, options.rows):
        write_rows(folder / f"{rows}.jsonl", rows)
    rates: dict[int, list[float]] = {1: [], 2: []}
    with processes.fixed_server() as url:
        for _ in range(options.repeat):
            for count, found in rates.items():
                short, long = (
                    wall_seconds(rows, count, url, folder, stores, options.share)
                    for rows in (SHORT_ROWS, options.rows)
                )
                found.append((options.rows - SHORT_ROWS) / (long - short))
                print(
                    f"{count} of {options.share:.0%} of a core each: {found[-1]:,.0f} rows/s"
                    f" (whole runs {short:.1f} s and {long:.1f} s)",
                    flush=True,
                )
    return statistics.median(rates[2]) / statistics.median(rates[1])


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=60_000)
    arguments.add_argument("--share", type=float, default=0.3, help="of a core, each process")
    arguments.add_argument("--repeat", type=int, default=2)
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.scaling {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases("postgresql", folder) as stores:
        print(f"two processes to one: {compare(options, folder, stores):.2f} times")


if __name__ == "__main__":
    main()
