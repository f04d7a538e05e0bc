# ruff: noqa: T201 - a benchmark prints its table
"""How long a run takes to send again when nearly all of a huge JSONL input is done.

    python -m tests.benchmarks.first_request [--rows 10000000] [--left 1000] [--row-bytes 300]

Paying for ten million rows would take an hour, so the ledger is told that they are done: a
first run sends ten rows, then the checkpoint of that input is set to all but the last `--left`.
The time is from starting the second process to the moment in the ledger at which it sent.
"""

import argparse
import shlex
import sqlite3
import sys
import time
from contextlib import closing
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import MODEL

LINE = (
    '{"custom_id": "row-%08d", "params": {"model": "' + MODEL + '", "max_tokens": 256, '
    '"messages": [{"role": "user", "content": "%s"}]}}\n'
)
FIRST_SENT = "select min(sent_at) from attempts where invocation_id = 2"


def write_rows(path: Path, rows: int, row_bytes: int) -> None:
    content = "x" * max(row_bytes - len(LINE % (0, "")), 1)
    with path.open("w", encoding="utf-8") as file:
        file.writelines(LINE % (number, content) for number in range(rows))


def say_done(database: Path, last: int) -> None:
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update sources set done_ranges = ?", (f"[[1,{last}]]",))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=10_000_000)
    arguments.add_argument("--left", type=int, default=1_000)
    arguments.add_argument("--row-bytes", type=int, default=300)
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.first_request {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, processes.fixed_server() as url:
        rows, database = folder / "rows.jsonl", folder / "rows.db"
        write_rows(rows, options.rows, options.row_bytes)
        command = processes.batcher_run(
            rows, url, concurrency=100, database=f"sqlite:///{database}"
        )
        processes.measure([*command, "--limit", "10"], folder=folder)
        say_done(database, options.rows - options.left)
        started = time.time()
        measured = processes.measure(command, folder=folder)
        with closing(sqlite3.connect(database)) as connection:
            (first_sent,) = connection.execute(FIRST_SENT).fetchone()
        print(
            f"{options.rows:,} rows, {rows.stat().st_size / 1e9:.1f} GB, {options.left:,} left"
        )
        print(f"first request after {first_sent / 1e6 - started:.1f} s, ", end="")
        print(f"all over after {measured.wall_seconds:.1f} s, peak {measured.peak_mb:.0f} MB")


if __name__ == "__main__":
    main()
