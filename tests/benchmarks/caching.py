# ruff: noqa: T201 - a benchmark prints its table
"""What a job with shared prefixes costs with the prompt cache on purpose, against the least.

    python -m tests.benchmarks.caching [--rows 10000] [--prefixes 50] [--concurrency 64]

Rows of all prefixes take turns at random; a prefix has 4,000 tokens, a row a tail of its own of
about 100, and an answer of 100. Costs are those of the simulator's bill. The least is what no
schedule can be below: each prefix written once, for five minutes, and read by all other rows.
Ends with 1 where a bar is missed: at most 1.02 times the least, live and in batches, and plain
fan-out at least three times as much as live.
"""

import argparse
import json
import random
import shlex
import sys
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.processes import scratch_folder
from tests.bill import total_pico_usd
from tests.making_runs import simulating

MODEL = "claude-sonnet-4-6"
MOST_OF_LEAST, LEAST_OF_PLAIN = 1.02, 3.0
PREFIX_BYTES, TAIL_BYTES = 4 * 4_000, 4 * 100
WAYS = {
    "plain": (),
    "live": ("--config", "cached.toml"),
    "batch": ("--config", "cached.toml", "--lane", "batch"),
}


def write_rows(path: Path, rows: int, prefixes: int) -> None:
    order = [number % prefixes for number in range(rows)]
    random.Random(7).shuffle(order)
    with path.open("w", encoding="utf-8") as file:
        for number, prefix in enumerate(order):
            system = (f"rules of house {prefix}: " + "be brief. " * 2_000)[:PREFIX_BYTES]
            tail = (f"[[output:100]] question {number} " + "and so on " * 40)[:TAIL_BYTES]
            asked = {"role": "user", "content": tail}
            params = {"model": MODEL, "max_tokens": 256, "system": system, "messages": [asked]}
            file.write(json.dumps({"custom_id": f"r{number}", "params": params}) + "\n")


def paid(name: str, folder: Path, rows: Path, concurrency: int) -> tuple[list[dict], float]:
    """The bill of one run, and how long it took."""
    with simulating(latency_ms=(20, 60)) as simulator:
        command = processes.batcher_run(
            rows,
            simulator.base_url,
            concurrency=concurrency,
            database=f"sqlite:///{folder / name}.db",
        )
        measured = processes.measure([*command, *WAYS[name]], folder=folder)
        lines = simulator.bill
    shown = [{n: getattr(line, n) for n in line.__struct_fields__} for line in lines]
    return shown, measured.wall_seconds


def least_of(bill: list[dict], prefixes: int) -> int:
    """What no schedule is below: a 5-minute write of each prefix, and reads."""
    least, written = [], 0
    size = max(line["cache_creation_5m"] + line["cache_creation_1h"] for line in bill)
    for line in bill:
        cached = line["cache_creation_5m"] + line["cache_creation_1h"] + line["cache_read"]
        rest = line["input_tokens"] + cached - size
        plain = line | {"input_tokens": rest, "cache_creation_1h": 0}
        if written < prefixes:
            written += 1
            least.append(plain | {"cache_creation_5m": size, "cache_read": 0})
        else:
            least.append(plain | {"cache_creation_5m": 0, "cache_read": size})
    return total_pico_usd(least)


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=10_000)
    arguments.add_argument("--prefixes", type=int, default=50)
    arguments.add_argument("--concurrency", type=int, default=64)
    options = arguments.parse_args()
    print(f"python -m tests.benchmarks.caching {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    print(f"{'':<8}{'USD':>12}{'of the least':>14}{'writes':>8}{'seconds':>9}")
    ways: dict[str, float] = {}
    with scratch_folder() as folder:
        (folder / "cached.toml").write_text('[cache]\nmode = "auto"\n')
        rows = folder / "rows.jsonl"
        write_rows(rows, options.rows, options.prefixes)
        bills = {name: paid(name, folder, rows, options.concurrency) for name in WAYS}
    for name, (bill, seconds) in bills.items():
        least = least_of(bills["live" if name == "plain" else name][0], options.prefixes)
        cost = total_pico_usd(bill)
        ways[name] = cost / least
        writes = sum(line["cache_creation_5m"] + line["cache_creation_1h"] > 0 for line in bill)
        print(f"{name:<8}{cost / 1e12:>12.4f}{cost / least:>14.4f}{writes:>8}{seconds:>9.1f}")
    holds = max(ways["live"], ways["batch"]) <= MOST_OF_LEAST
    return 0 if holds and ways["plain"] >= LEAST_OF_PLAIN * ways["live"] else 1


if __name__ == "__main__":
    sys.exit(main())
