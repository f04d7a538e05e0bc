"""What a row of 31 MB costs in memory: it is read, checked, sent and answered."""

import subprocess
from pathlib import Path

import pytest

from tests.benchmarks import processes
from tests.benchmarks.memory import LARGE_BYTES, large_line
from tests.benchmarks.rows import LINE

STATUS = Path("/proc/self/status")


@pytest.mark.skipif(not STATUS.exists(), reason="the system does not tell peaks of memory")
def test_a_row_of_the_largest_size_is_in_memory_about_twice(tmp_path):
    peaks = []
    with processes.fixed_server() as url:
        for name, line in (("small", LINE % (1, 1)), ("large", large_line(LARGE_BYTES))):
            rows = tmp_path / f"{name}.jsonl"
            rows.write_text(line)
            database = f"sqlite:///{tmp_path}/{name}.db"
            peaks.append(
                peak_of(processes.batcher_run(rows, url, concurrency=10, database=database))
            )
    small, large = peaks
    assert large - small < 2.5 * LARGE_BYTES


def peak_of(command: list[str]) -> int:
    """The most bytes that the process ever had in memory, by the kernel's own count."""
    child = subprocess.Popen(command, env=processes.environment(), stdout=subprocess.DEVNULL)
    status, peak = Path(f"/proc/{child.pid}/status"), 0
    while child.poll() is None:
        words = [line.split() for line in status.read_text().splitlines()]
        peak = max([peak, *(int(word[1]) * 1024 for word in words if word[0] == "VmHWM:")])
        try:
            child.wait(0.02)
        except subprocess.TimeoutExpired:
            continue
    assert child.returncode == 0
    return peak
