# ruff: noqa: T201 - a campaign says what it measured
"""Three minutes in real time, over HTTP, against a provider whose buckets are exact.

`python -m pytest -m campaign tests/e2e/test_pacing_over_http.py -s` prints what was used.
"""

import json
import shutil
import subprocess

import pytest

from tests.e2e.inputs import write_jsonl
from tests.e2e.processes import Folder, start_simulator

SECONDS = 180
WARM_UP_SECONDS = 65  # the provider's buckets are full at the start, and hold a minute of quota
QUIET_SECONDS = 5  # what is in flight at the end does not count
LIMITS = {
    "requests bind": {"rpm": 1_200, "itpm": 4_000_000, "otpm": 4_000_000},
    "output tokens bind": {"rpm": 60_000, "itpm": 4_000_000, "otpm": 60_000},
}
MEASURED = {
    "requests bind": ("rpm", lambda line: 1),
    "output tokens bind": ("otpm", lambda line: line["output_tokens"]),
}


@pytest.mark.campaign
@pytest.mark.parametrize("name", LIMITS)
def test_the_binding_quota_is_used_over_http(name, tmp_path):
    options = [word for key, most in LIMITS[name].items() for word in (f"--{key}", str(most))]
    simulator = start_simulator(tmp_path, "--latency-ms", "300-2000", *options)
    try:
        folder = Folder(tmp_path)
        prompts = ({"prompt": f"Letter {number}"} for number in range(20_000))
        write_jsonl(tmp_path / "rows.jsonl", prompts)
        running = folder.start(
            *["run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url],
            *["--model", "claude-haiku-4-5", "--max-tokens", "300"],
            *["--concurrency", "400", "--max-runtime", f"{SECONDS}s", "--quiet", "--json"],
            stdout=subprocess.PIPE,
        )
        out, _ = running.communicate(timeout=2 * SECONDS)
        assert running.returncode == 75
        lines = simulator.bill()
    finally:
        simulator.stop()
    used, refused = used_share(name, lines), json.loads(out)["pauses"]
    print(f"\n{name}: {used:.1%} used, {refused} of {len(lines) + refused} answers were 429")
    shutil.rmtree(tmp_path, ignore_errors=True)
    assert used >= 0.98
    assert refused < 0.001 * len(lines)


def used_share(name, lines) -> float:
    """What was used of the binding quota between warm-up and end, to what came in meanwhile.

    More than all of it when the run also used up some of what the bucket held at the start.
    """
    limit, amount = MEASURED[name]
    begun = lines[0]["received_at_us"] / 1e6
    first, last = begun + WARM_UP_SECONDS, begun + SECONDS - QUIET_SECONDS
    counted = [line for line in lines if first <= line["received_at_us"] / 1e6 < last]
    return sum(map(amount, counted)) / (LIMITS[name][limit] * (last - first) / 60)
