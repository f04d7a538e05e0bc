"""A mock server that somebody else wrote judges how we treat a server in trouble.

    python -m pytest -m campaign tests/judges

Installs it from the package index into an environment of its own. It sees every attempt and its
moment, and gives a verdict: waits that were ignored, retries that could not help or never
ended, answers that were cut off and taken for whole.
"""

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

PACKAGE = "llmock==0.2.2"


@pytest.fixture(scope="module")
def judge(tmp_path_factory):
    """The program, in an environment of its own."""
    home = tmp_path_factory.mktemp("judge") / "v"
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    subprocess.run([home / "bin/pip", "install", "--quiet", PACKAGE], check=True)
    return home / "bin/llmock"


@pytest.fixture
def serve(judge):
    """Starts a server with these options; gives its address."""
    servers = []

    def start(*options):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        command = [judge, "serve", "--host", "127.0.0.1", "--port", port, *options]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        servers.append(subprocess.Popen(command, **quiet))
        address = f"http://127.0.0.1:{port}"
        _wait_for(address)
        return address

    yield start
    for server in servers:
        server.kill()
        server.wait()


pytestmark = pytest.mark.campaign
FORMS = pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])


@FORMS
def test_a_healthy_server_is_asked_once_for_each_row(serve, tmp_path, stream):
    address = serve("--report")
    summary = run(tmp_path, address, 40, stream)
    assert (summary["exit_code"], summary["answered"]) == (0, 40)
    verdict = passed(address)
    assert (verdict["calls"], verdict["attempts"]) == (40, 40)
    assert verdict["findings"] == []


@FORMS
def test_an_overloaded_server_gets_time(serve, tmp_path, stream):
    address = serve("--report")
    script(address, {"type": "fail", "status": 529, "times": 6})
    script(address, {"type": "fail", "status": 503, "retry_after": 1.5, "times": 2})
    summary = run(tmp_path, address, 20, stream)
    assert (summary["exit_code"], summary["answered"]) == (0, 20)
    assert passed(address)["faults_injected"] == 8


@FORMS
def test_a_rate_limit_is_kept(serve, tmp_path, stream):
    address = serve("--rpm", "60", "--tpm", "60000", "--report")
    summary = run(tmp_path, address, 75, stream)
    assert (summary["exit_code"], summary["answered"]) == (0, 75)
    passed(address)


def test_a_request_that_cannot_succeed_is_not_sent_again(serve, tmp_path):
    address = serve("--report")
    script(address, {"type": "fail", "status": 400, "times": 1})
    summary = run(tmp_path, address, 10, stream=False)
    assert (summary["exit_code"], summary["answered"]) == (65, 9)
    assert passed(address)["attempts"] == 10


@pytest.mark.parametrize("kind", ["disconnect", "truncate", "malformed"])
def test_a_stream_that_breaks_in_its_text_is_never_an_answer(serve, tmp_path, kind):
    address = serve("--report")
    script(address, {"type": "stream_fault", "kind": kind, "after_chunks": 4, "times": 3})
    summary = run(tmp_path, address, 10, stream=True)
    assert (summary["exit_code"], summary["answered"]) == (0, 10)
    assert passed(address)["attempts"] == 13, "each of the three was sent again"


def run(folder, address, count, stream):
    """The summary of `batcher run` over so many rows."""
    asked = {"stream": True} if stream else {}
    lines = [
        {"prompt": f"Say {n}.", "model": "claude-sonnet-4-5", "max_tokens": 50, **asked}
        for n in range(count)
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    where = ("--endpoint", "anthropic", "--base-url", f"{address}/anthropic")
    done = subprocess.run(
        [Path(sys.executable).with_name("batcher"), "run", "rows.jsonl", *where, "--json"],
        cwd=folder,
        env={**os.environ, "ANTHROPIC_API_KEY": "sk-ant-for-the-judge"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def passed(address):
    """The verdict, which must be good."""
    with urllib.request.urlopen(f"{address}/_llmock/verdict") as reply:
        verdict = json.load(reply)
    assert verdict["passed"], json.dumps(verdict["findings"], indent=1)
    return verdict


def script(address, *behaviours):
    """What happens to the next requests."""
    body = json.dumps({"behaviors": behaviours}).encode()
    urllib.request.urlopen(f"{address}/_llmock/scenario", body).close()


def _wait_for(address):
    for _ in range(200):
        try:
            urllib.request.urlopen(f"{address}/_llmock/verdict").close()
        except OSError:
            time.sleep(0.1)  # a program that says nothing when it is ready
        else:
            return
    raise AssertionError("the server did not start")
