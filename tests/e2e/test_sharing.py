"""Two runs on one server draw on one quota, and hardly meet a 429."""

import subprocess
from contextlib import closing

import psycopg

from tests.e2e.inputs import write_jsonl
from tests.e2e.ledgers import count, opened
from tests.e2e.processes import finish, wait_until

ROWS = 300


def start_two(folder, simulator, url, **environment):
    processes = []
    for name in ("a.jsonl", "b.jsonl"):
        prompts = [f"{name} {number}" for number in range(ROWS)]
        lines = [{"prompt": prompt, "model": "claude-haiku-4-5"} for prompt in prompts]
        write_jsonl(folder.path / name, lines)
        where = ("--endpoint", "simulator", "--base-url", simulator.url, "--database", url)
        options = ("--json", "--concurrency", "40")
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        processes.append(folder.start("run", name, *where, *options, **pipes))
    return processes


def start_together(url, start):
    """What `start` gives; no invocation begins before two are about to."""
    with closing(psycopg.connect(url.replace("+psycopg", ""))) as connection:
        connection.execute("LOCK TABLE invocations IN EXCLUSIVE MODE")
        processes = start()
        waiting = "wait_event_type = 'Lock' AND query LIKE 'INSERT INTO invocations%'"
        assert wait_until(lambda: count(url, "pg_stat_activity", waiting) == 2, processes[0])
    return processes


def test_two_runs_share_the_quota_of_one_key(folder, simulate, postgres_url):
    simulator = simulate("--rpm", "3000", "--burst-seconds", "4", "--latency-ms", "20")
    processes = start_together(postgres_url, lambda: start_two(folder, simulator, postgres_url))
    shares = set()

    def both_share():
        with opened(postgres_url) as ask:
            found = ask("SELECT share FROM quota_leases ORDER BY invocation_id")
        shares.add(tuple(line["share"] for line in found))
        return (500_000, 500_000) in shares

    assert wait_until(both_share, processes[0]), shares
    ends = [finish(process) for process in processes]
    assert [end.code for end in ends] == [0, 0], ends
    refused = sum(end.json["pauses"] for end in ends)
    assert refused <= 1
    with opened(postgres_url) as ask:
        assert not ask("SELECT 1 FROM quota_leases")
