"""Whatever answers and inputs hold: at most 256 MB above what a run of the same kind takes.

Each is a process of its own, and its peak is what the kernel counted. All of a bomb's answers
are under way together. The campaign has all of them; the suite the worst of each kind.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.bombs import INPUTS, REFUSALS, STREAMS, WHOLE, Server
from tests.e2e.inputs import QUICK

MOST_MB = 256
IN_FLIGHT = 40
FEW = 6  # in flight in the suite's own part
# Starts a command and tells what its memory was at most: a large starter would count, too.
STARTER = """
import os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=2)
_, status, usage = os.wait4(child.pid, 0)
print(os.waitstatus_to_exitcode(status), usage.ru_maxrss // 1024)
"""
EXITS = (0, 65, 69, 75, 78)


def peak(folder: Path, rows: Path, url: str, in_flight: int = IN_FLIGHT) -> int:
    """The MB that a run over `rows` takes at most; it ends with a code that says something."""
    command = [
        sys.executable, "-m", "batcher", "run", str(rows), "--base-url", url, "-m", "m",
        "--max-tokens", "16", "--prices", "none", "--concurrency", str(in_flight), "--yes",
        "--no-preflight", "--on-unknown", "fail", "-d", str(folder / "ledger.db"), "--quiet",
    ]  # fmt: skip
    (folder / "config.toml").write_text(QUICK)  # a server that breaks is soon asked again
    run = subprocess.run(
        [sys.executable, "-c", STARTER, *command],
        cwd=folder, capture_output=True, text=True, check=True,
        env=os.environ | {"ANTHROPIC_API_KEY": "sk-test"},
    )  # fmt: skip
    code, megabytes = map(int, run.stdout.split())
    assert code in EXITS, run.stderr[-3000:]
    assert "Traceback" not in run.stderr
    return megabytes


def rows_of(folder: Path, in_flight: int = IN_FLIGHT, *, streams: bool) -> Path:
    path = folder / "rows.jsonl"
    row = {"messages": [{"role": "user", "content": "hi"}], "stream": streams}
    lines = (json.dumps(row | {"custom_id": str(n)}) for n in range(in_flight + 1))
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture(scope="module")
def normal(tmp_path_factory):
    """What a run takes whose server and input are honest, by what it reads."""
    found: dict[str, int] = {}

    def of(kind: str) -> int:
        if kind not in found:
            folder = tmp_path_factory.mktemp("normal")
            path = rows_of(folder, streams=kind == "stream")
            if kind == "parquet":
                path = as_parquet(path)
            server = Server(None, 200, streams=kind == "stream")
            found[kind] = peak(folder, path, server.url)
            server.close()
        return found[kind]

    return of


def as_parquet(path: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    target = path.with_suffix(".parquet")
    pq.write_table(pa.table({"prompt": ["hi"] * IN_FLIGHT}), target)
    return target


def check(name: str, megabytes: int, usual: int) -> None:
    print(f"{name}: {megabytes} MB, {megabytes - usual} above {usual}")  # noqa: T201 - the table
    assert megabytes - usual <= MOST_MB, (name, megabytes, usual)


CHEAP = {
    "empty blocks",
    "iterations",
    "block starts",
    "a row of objects",
    "parquet, few records",
}


def each(names):
    heavy = pytest.mark.campaign
    return [pytest.param(n, marks=() if n in CHEAP else heavy) for n in names]


@pytest.mark.parametrize("name", each(WHOLE))
def test_an_answer(name, tmp_path, normal):
    many = FEW if name in CHEAP else IN_FLIGHT
    server = Server(WHOLE[name], 200, streams=False, bombs=many)
    megabytes = peak(tmp_path, rows_of(tmp_path, many, streams=False), server.url, many)
    server.close()
    check(name, megabytes, normal("whole"))


@pytest.mark.parametrize("name", each(REFUSALS))
def test_a_refusal(name, tmp_path, normal):
    status, pieces = REFUSALS[name]
    many = FEW if name in CHEAP else IN_FLIGHT
    server = Server(pieces, status, streams=False, bombs=many)
    megabytes = peak(tmp_path, rows_of(tmp_path, many, streams=False), server.url, many)
    server.close()
    check(name, megabytes, normal("whole"))


@pytest.mark.campaign
def test_headers(tmp_path, normal):
    server = Server(WHOLE["a page"], 200, streams=False, bombs=IN_FLIGHT, headers=1_000)
    megabytes = peak(tmp_path, rows_of(tmp_path, streams=False), server.url)
    server.close()
    check("headers", megabytes, normal("whole"))


@pytest.mark.parametrize("name", each(STREAMS))
def test_a_stream(name, tmp_path, normal):
    many = FEW if name in CHEAP else IN_FLIGHT
    server = Server(STREAMS[name], 200, streams=True, bombs=many)
    megabytes = peak(tmp_path, rows_of(tmp_path, many, streams=True), server.url, many)
    server.close()
    check(name, megabytes, normal("stream"))


@pytest.mark.parametrize("name", each(INPUTS))
def test_an_input(name, tmp_path, normal):
    server = Server(None, 200, streams=False)
    megabytes = peak(tmp_path, INPUTS[name](tmp_path), server.url)
    server.close()
    check(name, megabytes, normal("parquet" if "parquet" in name else "whole"))
