"""`batcher demo`: a simulator of our own, two sample jobs, one report."""

import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import batcher
from batcher.cli.commands import command, ledger, option
from batcher.cli.say import say, tell
from batcher.errors import ProviderUnavailable

if TYPE_CHECKING:
    from batcher.pipeline.job import Job
    from batcher.pipeline.progress import Ended

JOBS: Final = ("tickets", "reviews")
_LATENCY_MS: Final = "40-240"
_FAULTS: Final = ("529=0.005", "500=0.003")  # a little trouble: retries are part of the picture


@command("batcher demo", "batcher demo -d demo.db")
@option(
    "-d",
    "--database",
    default="batcher-demo.db",
    show_default=True,
    metavar="URL",
    help="Where the answers go.",
)
def demo(database: str) -> int:
    """See the whole thing work, against a built-in simulator.

    Starts a Messages API on this machine, runs two sample jobs of 2,400 rows against it and
    prints the pricing report. Needs no key, costs nothing, takes about ten seconds.
    """
    return run_demo(database)


def run_demo(database: str) -> int:
    """Run the sample jobs, print the report, say what to type next; the exit code."""
    codes = []
    with _simulator() as base_url:
        say(f"simulator started on {base_url}")
        for name in JOBS:
            ended = _run_sample(name, base_url, database)
            codes.append(ended.exit_code)
    _print_report(database)
    for line in _next_steps(database):
        tell(line)
    return max(codes)


def samples_folder() -> Path:
    """The sample jobs: inside an installed package, beside it in a checkout."""
    package = Path(batcher.__file__).parent
    installed = package / "jobs"
    return installed if installed.is_dir() else package.parent / "jobs"


@contextmanager
def _simulator() -> Iterator[str]:
    """A simulator process on a free port of this machine, for as long as the body runs."""
    faults = [part for fault in _FAULTS for part in ("--fault", fault)]
    command = [
        sys.executable,
        "-m",
        "batcher",
        "simulate",
        "--latency-ms",
        _LATENCY_MS,
        *faults,
    ]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)  # noqa: S603 - ours
    try:
        line = process.stdout.readline() if process.stdout else ""
        if "http://" not in line:
            raise ProviderUnavailable("the simulator did not start; try: batcher simulate")
        yield line.split()[-1]
    finally:
        process.terminate()
        process.communicate()


def _run_sample(name: str, base_url: str, database: str) -> "Ended":
    from batcher import wiring
    from batcher.cli.run.display import Quiet, display
    from batcher.config.tables import Settings

    path = samples_folder() / f"{name}.toml"
    job = wiring.resolve(
        wiring.Asked(
            command=shlex.join(["batcher", "demo", "--database", database]),
            job_path=path,
            options=Settings(endpoint="simulator", base_url=base_url, database=database),
        )
    )
    say(f"\njob {name}: {', '.join(job.inputs)}")
    watcher: Quiet = display(quiet=False, assume_yes=False)
    ended = wiring.run(job, watcher)
    _say_end(job, ended)
    return ended


def _say_end(job: "Job", ended: "Ended") -> None:
    from batcher.cli.run.summary import closing_lines

    for line in closing_lines(job, ended, None)[:-1]:
        say(line)
    if ended.error:
        say(f"batcher: {ended.error}")


def _print_report(database: str) -> None:
    from batcher.report.query import ReportQuery
    from batcher.report.render.formats import Format, write_report

    with ledger(database, None) as engine:
        tell("")
        write_report([engine], ReportQuery(), Format.TABLE, None, sys.stdout)


def _next_steps(database: str) -> list[str]:
    name = shlex.quote(database)
    return [
        "",
        f"All of it is in {database}, a SQLite database. What to type next:",
        f"  batcher report --by job --by stop_reason --database {name}",
        f"  batcher show ticket-29 --database {name}",
        f"  batcher export --run 1 -o answers.jsonl --database {name}",
        "  batcher run YOUR.jsonl --endpoint anthropic --model claude-haiku-4-5 --dry-run",
    ]
