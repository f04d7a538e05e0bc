# ruff: noqa: T201 - a benchmark prints its table
"""Requests per second and CPU per request beside what else people use for the same job.

    python -m tests.benchmarks.peers [--rows 5000] [--concurrency 64] [--delay-ms 50]

Measured are a bare aiohttp loop, the official client under a semaphore and two published tools,
each in the version named here, installed from the package index into an environment of their
own (`--environment` keeps it for the next time). The tools speak the chat completions API, and
the fixed server answers that too. Of all of them only `batcher run` makes anything durable.
"""

import argparse
import json
import shlex
import subprocess
import sys
import venv
from pathlib import Path

from tests.benchmarks import processes
from tests.benchmarks.processes import scratch_folder
from tests.benchmarks.rows import MODEL, SENTENCE, write_rows
from tests.benchmarks.throughput import HEAD, line_of

TOOLS = ("batchllm-ai==0.2.0", "flexllm==0.17.10")


def install(folder: Path) -> Path:
    """An environment with the tools; gives the folder of its programs."""
    programs = folder / "bin"
    if not (programs / "flexllm").exists():
        venv.create(folder, with_pip=True)
        pip = [str(programs / "python"), "-m", "pip", "install", "--quiet", "--quiet"]
        subprocess.run([*pip, *TOOLS], check=True)
    return programs


def write_prompts(path: Path, count: int) -> Path:
    """The same texts as `write_rows`, as the tools want them."""
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            prompt = f"Letter {number:07d}. {SENTENCE * 12}"
            file.write(json.dumps({"input": prompt}) + "\n")
    return path


def commands(
    options: argparse.Namespace, folder: Path, url: str, programs: Path
) -> dict[str, list[str]]:
    concurrency = str(options.concurrency)
    rows = write_rows(folder / "rows.jsonl", options.rows)
    prompts = str(write_prompts(folder / "prompts.jsonl", options.rows))
    official = [sys.executable, "-m", "tests.benchmarks.official_client", str(rows)]
    openai = ["--base-url", f"{url}/v1", "--api-key", "none", "--max-tokens", "256"]
    return {
        "bare loop": processes.bare_loop(rows, url, concurrency=options.concurrency),
        "official": [*official, "--base-url", url, "--concurrency", concurrency],
        "batchllm-ai": [
            *[str(programs / "batchllm"), "run", prompts, "-o", str(folder / "b.jsonl")],
            *["-m", MODEL, "-c", concurrency, *openai],
        ],
        "flexllm": [
            *[str(programs / "flexllm"), "batch", prompts, "-o", str(folder / "f.jsonl")],
            *["-m", MODEL, "-c", concurrency, *openai],
        ],
        "batcher run": processes.batcher_run(
            rows,
            url,
            concurrency=options.concurrency,
            database=f"sqlite:///{folder / 'peers.db'}",
        ),
    }


def all_answered(path: Path, rows: int) -> None:
    """A tool that gave rows up was not measured."""
    kept = sum(1 for line in path.open(encoding="utf-8") if "lamp in the hall" in line)
    if kept != rows:
        raise SystemExit(f"{path.name} holds {kept} answers of {rows}: not comparable")


def parse() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--rows", type=int, default=5_000)
    arguments.add_argument("--concurrency", type=int, default=64)
    arguments.add_argument("--delay-ms", type=float, default=50, help="latency of the server")
    arguments.add_argument("--environment", type=Path, help="where the tools are kept")
    return arguments.parse_args()


def main() -> None:
    options = parse()
    print(f"python -m tests.benchmarks.peers {shlex.join(sys.argv[1:])}")
    print(processes.versions(), *TOOLS, sep=", ")
    with (
        scratch_folder() as folder,
        processes.fixed_server(delay_ms=options.delay_ms) as url,
    ):
        programs = install(options.environment or folder / "tools")
        print(HEAD, flush=True)
        lines = {}
        for name, command in commands(options, folder, url, programs).items():
            lines[name] = line_of(name, processes.measure(command, folder=folder), options.rows)
            print(lines[name], flush=True)
        for output in ("b.jsonl", "f.jsonl"):
            all_answered(folder / output, options.rows)
    ours = lines["batcher run"]
    for name in ("official", "batchllm-ai", "flexllm"):
        times = lines[name].cpu_ms / ours.cpu_ms
        print(f"{name} takes {times:.1f} times the CPU per request of batcher run")


if __name__ == "__main__":
    main()
