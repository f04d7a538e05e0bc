# ruff: noqa: T201 - a benchmark prints its table
"""A row's way from the file to its durable answer: the files it passes and the calls it takes.

    python -m tests.benchmarks.row_way [--rows 1000] [--concurrency 100]
        [--database sqlite|postgresql] [--list]

Two runs, one with twice the rows: what the second has more, divided by the rows it has more, is
the way of one row. What starting and ending take drops out. Ends with 1 where the way is
longer than it may be.
"""

import argparse
import json
import re
import shlex
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.databases import Databases, answered, databases
from tests.benchmarks.processes import PROJECT, scratch_folder
from tests.benchmarks.rows import write_rows

COUNTER = "tests.benchmarks.count_calls"
PACKAGE = f"{PROJECT / 'batcher'}/"
EACH = 0.9  # calls per row from which on every row goes there; a group commit's are fewer
SHOWN = 0.01  # what a list shows: less than this are timers
EVENT_LOOP = "MainThread"
MOST_FILES = 45  # that each row passes; whoever knows the way must hold them in one head
MOST_CALLS = 268  # of functions in batcher/, per row
COLUMNS = "{:<18}{:>10}{:>10}{:>10}{:>11}{:>11}"
HEAD = [
    ("", "files", "files", "calls in", "calls in", "calls of"),
    ("thread", "each row", "some", "batcher/", "libraries", "built-ins"),
]


@dataclass(frozen=True, slots=True)
class Called:
    """What was called, and in which thread."""

    thread: str
    kind: str
    file: str
    line: int
    function: str

    @property
    def ours(self) -> bool:
        return self.file.startswith(PACKAGE)

    def __str__(self) -> str:
        place = "/".join(self.file.removeprefix(PACKAGE).split("/")[-3:])
        return f"{self.function}  {place}:{self.line}" if place else self.function


Way = dict[Called, float]  # calls per row


def counted(rows: int, options: argparse.Namespace, folder: Path, stores: Databases) -> Counter:
    """What a run of that many rows called, and how often."""
    result = folder / f"{rows}.json"
    source = write_rows(folder / f"{rows}.jsonl", rows)
    database = stores.create()
    with processes.fixed_server() as url:
        command = processes.batcher_run(
            source, url, concurrency=options.concurrency, database=database
        )
        python, _, _, *arguments = command  # python -m batcher ...
        processes.measure([python, "-m", COUNTER, str(result), *arguments], folder=folder)
    answered(stores, database, rows)
    calls = Counter[Called]()
    for thread, kind, file, line, function, count in json.loads(result.read_text("utf-8")):
        name = re.sub(r"[\W_]*\d+.*", "", thread)  # a pool's threads are one line
        calls[Called(name, kind, file, line, function)] += count
    return calls


def way_of_one(options: argparse.Namespace, folder: Path, stores: Databases) -> Way:
    fewer = counted(options.rows, options, folder, stores)
    more = counted(2 * options.rows, options, folder, stores)
    return {each: (more[each] - fewer[each]) / options.rows for each in fewer | more}


def files_of(way: Way) -> Counter:
    """The calls per row in each file of batcher/."""
    files = Counter()
    for called, calls in way.items():
        if called.ours:
            files[called.file.removeprefix(PACKAGE)] += calls
    return files


def passed(way: Way) -> int:
    """How many files of batcher/ each row passes."""
    return sum(calls >= EACH for calls in files_of(way).values())


def beyond(way: Way) -> str | None:
    """What is longer than it may be, if anything."""
    files, calls = passed(way), files_of(way).total()
    if files <= MOST_FILES and calls <= MOST_CALLS:
        return None
    return f"the way is too long: at most {MOST_FILES} files and {MOST_CALLS} calls in batcher/"


def line_of(name: str, way: Way) -> str:
    files = files_of(way)
    each = passed(way)
    some = sum(calls >= SHOWN for calls in files.values())
    python = sum(calls for called, calls in way.items() if called.kind == "python")
    ours = files.total()
    calls = (ours, python - ours, sum(way.values()) - python)
    return COLUMNS.format(name, each, some, *(f"{number:.1f}" for number in calls))


def show(way: Way) -> None:
    for words in HEAD:
        print(COLUMNS.format(*words))
    print(line_of("all", way))
    for name in sorted({called.thread for called in way}, key=lambda n: (n != EVENT_LOOP, n)):
        told = "the event loop's" if name == EVENT_LOOP else name
        print(line_of(told, {c: calls for c, calls in way.items() if c.thread == name}))


def show_list(way: Way) -> None:
    functions = Counter()
    for called, calls in way.items():
        functions[called.kind, str(called)] += calls
    print("\nfiles of batcher/, calls per row")
    show_lines(files_of(way))
    for kind in ("python", "builtin"):
        print(f"\nfunctions ({kind}), calls per row")
        show_lines(
            Counter({name: calls for (k, name), calls in functions.items() if k == kind})
        )


def show_lines(calls_of: Counter) -> None:
    for name, calls in calls_of.most_common():
        if calls >= SHOWN:
            print(f"{calls:>8.2f}  {name}")


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=1_000)
    arguments.add_argument("--concurrency", type=int, default=100)
    arguments.add_argument("--database", choices=["sqlite", "postgresql"], default="sqlite")
    arguments.add_argument("--list", action="store_true", help="name files and functions")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    print(f"python -m tests.benchmarks.row_way {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder, databases(options.database, folder) as stores:
        way = way_of_one(options, folder, stores)
    show(way)
    if options.list:
        show_list(way)
    sys.exit(beyond(way))


if __name__ == "__main__":
    main()
