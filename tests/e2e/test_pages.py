"""What the pages say to type works as it stands there, in a shell, against a simulator."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
WELL = {"0", "1", "65"}  # done; something was found; done, and some rows have no answer

# Pages whose frames need what a test has not, and what that is.
NOT_HERE = {
    "endpoints.md": "an endpoint that the reader names",
    "schedule.md": "systemd, a cluster, and files in /srv",
    "orchestrators.md": "a scheduler, a container",
    "object-stores.md": "buckets",
    "datasette.md": "Datasette",
}

ROWS = """\
{"custom_id": "q1", "prompt": "What is a ledger?"}
{"custom_id": "q2", "prompt": "Name three kinds of fog.", "max_tokens": 60}
{"custom_id": "q3", "prompt": 7}
"""
ENDPOINTS = ("anthropic", "simulator")
READY = "batcher run questions.jsonl -e anthropic -m claude-haiku-4-5 --quiet"


def frames_of(page: Path) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", page.read_text("utf-8"), flags=re.M | re.S)


PAGES = sorted(page for page in DOCS.rglob("*.md") if frames_of(page))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_what_a_page_says_to_type_works(page, tmp_path, simulate, programs):
    if page.name in NOT_HERE:
        pytest.skip(f"not run here: it needs {NOT_HERE[page.name]}")
    here = tmp_path / "here"
    here.mkdir()
    for name in ("questions", "rows", "weekly"):
        (here / f"{name}.jsonl").write_text(ROWS)
    url = simulate("--latency-ms", "1-2", "--batch-seconds", "0-1").url
    endpoints = (f"[endpoints.{name}]\nbase_url = '{url}'\n" for name in ENDPOINTS)
    (here / "config.toml").write_text(f'model = "claude-haiku-4-5"\n{"".join(endpoints)}')
    (here / "jobs").symlink_to(ROOT / "jobs")
    script = "\n".join([f"{READY} || true", _TRAP, *frames_of(page)])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=here,
        env={
            "PATH": f"{programs}:{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(here),
            "ANTHROPIC_API_KEY": "key-of-a-test",
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    wrong = [
        said
        for said in re.findall(r"^::(\d+):(.*)$", done.stderr, flags=re.M)
        if said[0] not in WELL
    ]
    assert wrong == [], done.stderr


_TRAP = "trap 'echo \"::$?:$BASH_COMMAND\" >&2' ERR"
