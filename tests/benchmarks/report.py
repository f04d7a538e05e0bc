# ruff: noqa: T201 - a benchmark prints its table
"""Seconds of a report, of verifying and of repricing, over a ledger with many answers.

    python -m tests.benchmarks.report [--answers 1000000] [--repeat 3]
        [--database sqlite|postgresql] [--only-report]

The ledger is made first, through the program's own writer; a million takes a minute or two.
`--answers 10000000` copies that million inside the database, in TMPDIR, and removes it at the
end. A report by source reads the answers and charges themselves, the others the sums that are
kept of them.
"""

import argparse
import shlex
import statistics
import sys
import time
from pathlib import Path

from batcher.ledger.connect import open_engine
from batcher.ledger.migrate import prepare
from tests.benchmarks import processes
from tests.benchmarks.databases import databases
from tests.benchmarks.ledger_maker import fill_ledger
from tests.benchmarks.processes import scratch_folder

REPORTS = {
    "report": [],
    "report --by day --by stop_reason": ["--by", "day", "--by", "stop_reason"],
    "report --by hour --tz Asia/Kolkata": ["--by", "hour", "--tz", "Asia/Kolkata"],
    "report --by source": ["--by", "source"],
}


def make(url: str, answers: int) -> None:
    """Fill a new ledger and say how long each answer took."""
    engine = open_engine(url)
    prepare(engine)
    started = time.perf_counter()
    fill_ledger(engine, answers)
    seconds = time.perf_counter() - started
    engine.dispose()
    print(f"{answers:,} answers written in {seconds:.0f} s", flush=True)


def seconds_of(command: list[str], url: str, folder: Path, repeat: int = 1) -> float:
    """The median seconds of the whole process."""
    line = [*processes.batcher(*command), "--database", url]
    return statistics.median(
        processes.measure(line, folder=folder).wall_seconds for _ in range(repeat)
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--answers", type=int, default=1_000_000)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--only-report", action="store_true")
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.report {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        url = stores.create()
        make(url, options.answers)
        for name, words in REPORTS.items():
            seconds = seconds_of(["report", *words], url, folder, options.repeat)
            print(f"{name:<40} {seconds:7.2f} s", flush=True)
        page = ["report", "--format", "html", "-o", "page.html"]
        seconds = seconds_of(page, url, folder, options.repeat)
        size = (folder / "page.html").stat().st_size
        print(
            f"{'report --format html':<40} {seconds:7.2f} s {size // 1000:>8,} kB", flush=True
        )
        if options.only_report:
            return
        # The shipped book made the charges, so all of them are recomputed and none changes.
        for words in (["verify"], ["reprice", "--book", "shipped"]):
            seconds = seconds_of(words, url, folder)
            rate = options.answers / seconds
            print(
                f"{' '.join(words):<40} {seconds:7.2f} s {rate:>11,.0f} answers/s", flush=True
            )


if __name__ == "__main__":
    main()
