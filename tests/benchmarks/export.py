# ruff: noqa: T201 - a benchmark prints its table
"""Rows exported per CPU second, beside a plain loop over the same database.

    python -m tests.benchmarks.export [--answers 100000] [--repeat 3] [--text-bytes 0]

The ledger is made first, in SQLite, with an input of short rows that exports join. The plain
loop selects the same answers with their attempts and charges, joins nothing to them, checks
nothing, and writes what it was given as JSON lines, CSV or Parquet. Both are whole processes:
the machine's other work changes their wall time, and hardly their CPU seconds.
"""

import argparse
import csv
import shlex
import sqlite3
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec

from batcher.ledger.connect import Engine, open_engine, writing
from batcher.ledger.migrate import prepare
from batcher.ledger.schema import answers
from tests.benchmarks import processes
from tests.benchmarks.ledger_maker import fill_ledger
from tests.benchmarks.processes import scratch_folder

LEDGER = "ledger.db"
FORMATS = ("jsonl", "csv", "parquet")
ANSWERS = """
    SELECT a.*, t.attempt_uid, c.status, c.currency, c.total_amount
    FROM answers a JOIN attempts t USING (attempt_id)
    LEFT JOIN charges c ON c.attempt_id = a.attempt_id AND c.line = 0 AND c.current = 1
    WHERE a.final = 1 ORDER BY a.source_id, a.row_number
"""
PAGE = 1_000


def make(folder: Path, count: int, text_bytes: int) -> None:
    """The input, and a ledger with an answer to each of its rows."""
    rows = folder / "rows.jsonl"
    prompt = "What is this about? " * 4
    with rows.open("wb") as file:
        for number in range(count):
            row = {"custom_id": f"row-{number}", "prompt": f"{number}: {prompt}"}
            file.write(msgspec.json.encode(row) + b"\n")
    engine = open_engine(f"sqlite:///{folder / LEDGER}")
    prepare(engine)
    fill_ledger(engine, count, rows)
    if text_bytes:
        _lengthen(engine, text_bytes)
    engine.dispose()


def _lengthen(engine: Engine, size: int) -> None:
    """Answers of one length, without checksums: as an older version would have left them."""
    text = ("word " * size)[:size]
    content = msgspec.json.encode([{"type": "text", "text": text}]).decode()
    with writing(engine) as connection:
        connection.execute(answers.update().values(text=text, content=content, checksum=None))


def plain_loop(form: str) -> None:
    """What a careful person writes for an export that looks at nothing."""
    found = sqlite3.connect(LEDGER).execute(ANSWERS)
    names = [column[0] for column in found.description]
    match form:
        case "jsonl":
            encode = msgspec.json.Encoder().encode
            with Path("plain.jsonl").open("wb") as file:
                file.writelines(encode(dict(zip(names, row))) + b"\n" for row in found)  # noqa: B905
        case "csv":
            with Path("plain.csv").open("w", newline="") as file:
                csv.writer(file).writerows(found)
        case _:
            _plain_parquet(found, names)


def _plain_parquet(found: sqlite3.Cursor, names: list[str]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    pages: Iterator[list[tuple[object, ...]]] = iter(lambda: found.fetchmany(PAGE), [])
    batches = [
        pa.RecordBatch.from_arrays([*map(pa.array, zip(*page))], names)  # noqa: B905
        for page in pages
    ]
    parquet.write_table(pa.Table.from_batches(batches), "plain.parquet", compression="zstd")


def compare(folder: Path, form: str, count: int, repeat: int) -> None:
    """Run both in turn and print a line."""
    lines = {
        "plain": [sys.executable, "-m", "tests.benchmarks.export", "--plain", form],
        "export": processes.batcher(
            "export", "--database", LEDGER, "--force", "-o", f"o.{form}"
        ),
    }
    found = [
        {name: processes.measure(line, folder=folder) for name, line in lines.items()}
        for _ in range(repeat)
    ]
    rates = {
        name: count / statistics.median(each[name].cpu_seconds for each in found)
        for name in lines
    }
    peak = max(each["export"].peak_mb for each in found)
    print(
        f"{form:<9}{rates['plain']:>12,.0f}{rates['export']:>12,.0f}"
        f"{rates['export'] / rates['plain']:>8.2f}{peak:>10.0f}",
        flush=True,
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--answers", type=int, default=100_000)
    arguments.add_argument("--repeat", type=int, default=3)
    arguments.add_argument("--text-bytes", type=int, default=0, help="of each answer")
    arguments.add_argument("--plain", choices=FORMATS, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    if options.plain:
        plain_loop(options.plain)
        return
    print(f"python -m tests.benchmarks.export {shlex.join(sys.argv[1:])}")
    print(processes.versions())
    with scratch_folder() as folder:
        make(folder, options.answers, options.text_bytes)
        print(
            "rows per CPU second\n             plain      export   ratio   peak MB", flush=True
        )
        for form in FORMATS:
            compare(folder, form, options.answers, options.repeat)


if __name__ == "__main__":
    main()
