# ruff: noqa: T201 - a benchmark prints its table
"""Where the time of `batcher run` goes: its most expensive functions, in all its threads.

    python -m tests.benchmarks.profile_run [--rows 20000] [--concurrency 100]
        [--with py-spy|cprofile] [--sort tottime|cumtime] [--top 40] [--keep FILE]

py-spy samples from outside and is used where it is installed; cProfile counts every call, which
makes short functions look dearer than they are.
"""

import argparse
import shutil
import subprocess
from collections import Counter
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import answered, databases
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import write_rows

TRACER = "tests.benchmarks.trace_threads"


def sampled(command: list[str], folder: Path, options: argparse.Namespace) -> str:
    stacks = folder / "stacks.txt"
    record = [
        "py-spy",
        "record",
        "--rate",
        "500",
        "--function",
        "--format",
        "raw",
        "--output",
        str(stacks),
    ]
    processes.measure([*record, "--", *command], folder=folder)
    own, below = Counter[str](), Counter[str]()
    for line in stacks.read_text().splitlines():
        stack, count = line.rsplit(" ", 1)
        frames = stack.split(";")
        own[frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
    shown = below if options.sort == "cumtime" else own
    rows = (
        f"{own[frame] / own.total():>8.1%}{below[frame] / own.total():>8.1%}  {frame}"
        for frame, _ in shown.most_common(options.top)
    )
    return "\n".join([f"{'own':>8}{'below':>8}", *rows])


def traced(command: list[str], folder: Path, options: argparse.Namespace) -> str:
    result = folder / "profile.out"
    python, _, _, *arguments = command  # python -m batcher ...
    processes.measure([python, "-m", TRACER, str(result), *arguments], folder=folder)
    if options.keep:
        shutil.copy(result, options.keep)
    show = (
        "import pstats, sys\n"
        "stats = pstats.Stats(sys.argv[1]).sort_stats(sys.argv[2])\n"
        "stats.print_stats(int(sys.argv[3]))"
    )
    shown = [python, "-c", show, str(result), options.sort, str(options.top)]
    return subprocess.run(shown, capture_output=True, text=True, check=True).stdout


def parse() -> argparse.Namespace:
    default = "py-spy" if shutil.which("py-spy") else "cprofile"
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=20_000)
    arguments.add_argument("--concurrency", type=int, default=100)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument(
        "--with", choices=["py-spy", "cprofile"], default=default, dest="tool"
    )
    arguments.add_argument("--sort", choices=["tottime", "cumtime"], default="tottime")
    arguments.add_argument("--top", type=int, default=40)
    arguments.add_argument("--keep", type=Path, help="also save the profile of cProfile here")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    print(processes.versions())
    with scratch_folder() as folder:
        rows = write_rows(folder / "rows.jsonl", options.rows)
        with databases(options.database, folder) as stores, processes.fixed_server() as url:
            database = stores.create()
            command = processes.batcher_run(
                rows, url, concurrency=options.concurrency, database=database
            )
            profile = {"py-spy": sampled, "cprofile": traced}[options.tool]
            print(profile(command, folder, options))
            answered(stores, database, options.rows)


if __name__ == "__main__":
    main()
