"""Whole processes, measured: the servers a benchmark starts and the clients it measures.

This process stays small on purpose (standard library only, no rows in memory): Linux counts the
starter's own memory towards the peak of what it starts.
"""

import importlib.metadata
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.transport.proxies import AUTHORITY

PROJECT = Path(__file__).parent.parent.parent
LIBRARIES = ("aiohttp", "uvloop", "sqlalchemy", "msgspec", "psycopg")


_BLOCK_BYTES = 512  # of getrusage


@dataclass(frozen=True, slots=True)
class Measured:
    """What one process took, from its start to its end."""

    wall_seconds: float
    cpu_seconds: float
    peak_mb: float
    user_seconds: float = 0.0  # of those of the CPU
    samples: tuple[tuple[float, float], ...] = ()  # (seconds since the start, resident MB)
    written_bytes: int = 0  # to disks, by this process itself


class ChildError(RuntimeError):
    """A measured process ended with an exit code that was not expected."""


def measure(
    command: list[str], *, folder: Path, expected: int = 0, sample_seconds: float = 0
) -> Measured:
    """Run `command` in `folder` to its end; its output is kept and shown if it fails."""
    with tempfile.TemporaryFile() as output:
        started = time.perf_counter()
        child = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        with memory_samples(child.pid, sample_seconds) as samples:
            _, status, usage = os.wait4(child.pid, 0)
        wall = time.perf_counter() - started
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode != expected:
            output.seek(0)
            text = output.read().decode(errors="replace")[-4000:]
            raise ChildError(f"exit code {child.returncode} of {' '.join(command)}\n{text}")
    cpu = usage.ru_utime + usage.ru_stime
    peak = usage.ru_maxrss * rss_unit() / 1e6
    written = usage.ru_oublock * _BLOCK_BYTES
    return Measured(wall, cpu, peak, usage.ru_utime, tuple(samples), written)


def rss_unit() -> int:
    return 1 if sys.platform == "darwin" else 1024  # bytes there, KiB here


@contextmanager
def memory_samples(pid: int, every_seconds: float) -> Iterator[list[tuple[float, float]]]:
    samples: list[tuple[float, float]] = []
    ended = threading.Event()

    def sample() -> None:
        started = time.perf_counter()
        while not ended.wait(every_seconds):
            if resident := resident_mb(pid):
                samples.append((time.perf_counter() - started, resident))

    sampler = threading.Thread(target=sample, daemon=True)
    if every_seconds:
        sampler.start()
    try:
        yield samples
    finally:
        ended.set()
        if every_seconds:
            sampler.join()


def resident_mb(pid: int) -> float:
    """The memory that the process has now; 0 where the system does not say."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """A folder for everything a benchmark writes, gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="batcher-benchmark-") as name:
        yield Path(name)


def environment() -> dict[str, str]:
    """This environment without anyone's settings, with a key that is none."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith("BATCHER_")
    }
    return kept | {"ANTHROPIC_API_KEY": "not-a-key", "PYTHONPATH": str(PROJECT)}


@contextmanager
def helper(*command: str) -> Iterator[subprocess.Popen[str]]:
    """A helping process of the benchmark's own, which ends when its standard input does."""
    child = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield child
    finally:
        child.stdin.close()
        child.wait(timeout=60)
        child.stdout.close()


def said(child: subprocess.Popen[str]) -> str:
    """The helper's next line; an error when it ended instead."""
    line = child.stdout.readline().strip()
    if not line:
        raise ChildError(f"{child.args} ended before it answered")
    return line


@dataclass(frozen=True, slots=True)
class Way:
    """How the server is reached: its address, and the proxy to it, if any."""

    base_url: str
    proxy: str | None = None

    @property
    def tls(self) -> bool:
        return self.base_url.startswith("https:")


@contextmanager
def way_to_server(way: str, *, delay_ms: float = 0) -> Iterator[Way]:
    """A fixed server that is reached by plain HTTP, by TLS, or by TLS through a proxy."""
    if way == "plain":
        with fixed_server(delay_ms=delay_ms) as url:
            yield Way(url)
        return
    options = ("--delay-ms", str(delay_ms), "--tls")
    with helper("tests.benchmarks.fixed_server", *options) as server:
        port = said(server)
        if way == "tls":
            yield Way(f"https://127.0.0.1:{port}")
            return
        with helper("tests.benchmarks.tunnel", port) as tunnel:
            yield Way("https://api.example.test", f"http://127.0.0.1:{said(tunnel)}")


def configure(folder: Path, way: Way) -> None:
    """Let `batcher run` in `folder` go that way."""
    if not way.tls:
        return
    proxy = f'proxy = "{way.proxy}"\n' if way.proxy else ""
    (folder / "config.toml").write_text(
        f'[endpoints.anthropic]\nca_file = "{AUTHORITY}"\n{proxy}'
    )


@contextmanager
def fixed_server(*, delay_ms: float = 0) -> Iterator[str]:
    """The base URL of a fixed server that runs while the block does."""
    with helper("tests.benchmarks.fixed_server", "--delay-ms", str(delay_ms)) as server:
        yield f"http://127.0.0.1:{said(server)}"


def bare_loop(
    rows: Path, base_url: str, *, concurrency: int, proxy: str | None = None
) -> list[str]:
    """The command line of the bare loop."""
    options = ["--base-url", base_url, "--concurrency", str(concurrency)]
    if base_url.startswith("https:"):
        options += ["--ca-file", str(AUTHORITY)]
    if proxy:
        options += ["--proxy", proxy]
    return [sys.executable, "-m", "tests.benchmarks.bare_loop", str(rows), *options]


def batcher_run(rows: Path, base_url: str, *, concurrency: int, database: str) -> list[str]:
    """The command line of `batcher run` under test: defaults but for what is named here."""
    options = ["--base-url", base_url, "--concurrency", str(concurrency)]
    return [*batcher("run", str(rows)), *options, "--database", database, "--quiet"]


def batcher(*arguments: str) -> list[str]:
    """The command line of `batcher`, in this interpreter."""
    return [sys.executable, "-m", "batcher", *arguments]


def versions() -> str:
    """One line that says what was measured on what."""
    found = []
    for name in LIBRARIES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{name} absent")
    python = f"{platform.python_implementation()} {platform.python_version()}"
    machine = f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs"
    return ", ".join([python, machine, *found])
