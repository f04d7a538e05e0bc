"""docs/clusters.md: its command lines do one job together, on PostgreSQL."""

import ast
import re
import subprocess
from pathlib import Path

import pytest

from tests.e2e.inputs import QUICK, rows, write_jsonl
from tests.e2e.ledgers import count, opened
from tests.e2e.processes import PATIENCE_SECONDS

PAGE = (Path(__file__).parents[2] / "docs" / "clusters.md").read_text()
JOB = 'inputs = ["rows.jsonl"]\nendpoint = "simulator"\n'
SSH = '#!/bin/sh\nshift\nexec /bin/sh -c "$1"\n'  # the machines are this one


def section(name):
    return PAGE.split(f"## {name}\n")[1].split("\n## ")[0]


def snippet(name, language):
    return re.findall(rf"```{language}\n(.*?)```", section(name), re.DOTALL)[0]


@pytest.fixture
def place(tmp_path, simulate, postgres_url, programs):
    place = tmp_path / "srv"
    (place / "bin").mkdir(parents=True)
    url = simulate("--latency-ms", "20").url
    (place / "config.toml").write_text(f'{QUICK}[endpoints.simulator]\nbase_url = "{url}"\n')
    (place / "job.toml").write_text(JOB)
    write_jsonl(place / "rows.jsonl", rows(100))
    (place / "bin" / "batcher").symlink_to(programs / "batcher")
    (place / "bin" / "ssh").write_text(SSH)
    (place / "bin" / "ssh").chmod(0o755)
    return place


def start(line, place, database, **environment):
    real = line.replace("/srv/batcher", str(place))
    given = {
        "PATH": f"{place}/bin:/usr/bin:/bin",
        "HOME": str(place),
        "BATCHER_DATABASE": database,
    } | environment
    return subprocess.Popen(
        ["/bin/bash", "-c", real], env=given, cwd="/", stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def all_did_it(processes, database, tags):
    for process in processes:
        _, said = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, said
    assert count(database, "v_answers", "true") == 100
    assert count(database, "attempts", "true") == 100
    with opened(database) as ask:
        found = {str(line["tags"]) for line in ask("SELECT tags FROM invocations")}
    assert len(found) == len(tags)
    assert all(any(tag in text for text in found) for tag in tags)


def test_the_pods_of_an_indexed_job_do_it_together(place, postgres_url):
    (line,) = re.findall(r"args:\n +- (.*)\n", snippet("Kubernetes", "yaml"))
    pods = [start(line, place, postgres_url, JOB_COMPLETION_INDEX=str(n)) for n in range(2)]
    all_did_it(pods, postgres_url, ["0", "1"])


def test_the_tasks_of_an_array_do_it_together(place, postgres_url):
    script = snippet("Slurm", "bash")
    tasks = [start(script, place, postgres_url, SLURM_ARRAY_TASK_ID=str(n)) for n in range(2)]
    all_did_it(tasks, postgres_url, ["0", "1"])


def test_the_loop_over_machines_does_it(place, postgres_url):
    loop = start(snippet("ssh", "bash"), place, postgres_url)
    all_did_it([loop], postgres_url, ["node1", "node2", "node3"])


def test_the_command_for_dask_does_it(place, postgres_url):
    tree = ast.parse(snippet("Dask", "python"))
    (line,) = [
        ast.literal_eval(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "COMMAND"
    ]
    all_did_it([start(f"{line} --tag worker=0", place, postgres_url)], postgres_url, ["0"])


def test_what_no_second_try_mends_is_not_tried_again():
    (codes,) = re.findall(r"values: \[(.*?)\]", snippet("Kubernetes", "yaml"))
    page = (Path(__file__).parents[2] / "docs" / "exit-codes.md").read_text()
    assert all(f"| {code}" in page for code in codes.split(", "))
