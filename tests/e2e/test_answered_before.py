"""One file under many names, as people type them: paid once, until they say otherwise."""

import pytest

from tests.e2e.inputs import write_jsonl
from tests.e2e.ledgers import read

ROWS = [{"id": f"q-{n}", "prompt": f"row {n}", "model": "claude-haiku-4-5"} for n in range(5)]


@pytest.fixture
def run(folder, simulate):
    """`run(name, …)` runs inputs and says how many attempts that made."""
    url = simulate().url
    write_jsonl(folder.path / "q.jsonl", ROWS)

    def made(*words: str, code: int = 0) -> int:
        before = attempts(folder) if (folder.path / "batcher.db").exists() else 0
        ended = folder.batcher("run", *words, "--endpoint", "simulator", "--base-url", url)
        assert ended.code == code, ended.err
        made.said = ended.err
        return attempts(folder) - before

    return made


def attempts(folder) -> int:
    return read(str(folder.path / "batcher.db"), "SELECT COUNT(*) AS n FROM v_attempts")[0]["n"]


def runs(folder) -> list[int]:
    query = "SELECT DISTINCT run_id FROM v_answers ORDER BY run_id"
    return [row["run_id"] for row in read(str(folder.path / "batcher.db"), query)]


def test_every_way_to_type_a_file_continues_the_same_run(folder, run):
    assert run("q.jsonl") == 5
    (folder.path / "link.jsonl").symlink_to("q.jsonl")
    beside = f"../{folder.path.name}/q.jsonl"
    for name in ("./q.jsonl", str(folder.path / "q.jsonl"), beside, "link.jsonl"):
        assert run(name) == 0
    assert runs(folder) == [1]
    assert read(str(folder.path / "batcher.db"), "SELECT COUNT(*) AS n FROM v_answers") == [
        {"n": 5}
    ]


def test_a_copy_a_new_name_and_a_pattern_pay_nothing(folder, run):
    run("q.jsonl")
    (folder.path / "copy.jsonl").write_bytes((folder.path / "q.jsonl").read_bytes())
    assert run("copy.jsonl") == 0
    assert "5 rows have an answer of another run already" in run.said
    (folder.path / "copy.jsonl").rename(folder.path / "renamed.jsonl")
    assert run("renamed.jsonl") == 0
    assert run("*.jsonl") == 0
    ended = folder.batcher("verify")
    assert ended.code == 0, ended.out


def test_every_way_to_write_the_address_is_the_same_endpoint(folder, simulate):
    url = simulate().url
    write_jsonl(folder.path / "q.jsonl", ROWS)
    for number, address in enumerate((url, f"{url}/", f"{url}/v1", f"{url}/v1/messages")):
        (folder.path / f"{number}.jsonl").write_bytes((folder.path / "q.jsonl").read_bytes())
        command = ("run", f"{number}.jsonl", "--endpoint", "simulator", "--base-url", address)
        assert folder.batcher(*command).code == 0
    assert attempts(folder) == 5


def test_a_name_keeps_runs_apart(folder, run):
    run("q.jsonl")
    assert run("q.jsonl", "--name", "second model") == 5
    assert run("./q.jsonl", "--name", "second model") == 0
    assert run("q.jsonl", "--name", "a/b", code=2) == 0
    (folder.path / "job.toml").write_text('inputs = ["q.jsonl"]\n')
    assert run("job.toml", "--name", "x", code=2) == 0


def test_again_asks_first_and_then_sends_everything(folder, run):
    run("q.jsonl")
    assert run("q.jsonl", "--again", code=78) == 0
    assert "5 answered rows again; nothing was sent" in run.said
    assert run("q.jsonl", "--again", "--yes", "--limit", "2") == 2
    assert run("q.jsonl", "--again") == 3
    assert run("q.jsonl") == 0
    assert read(str(folder.path / "batcher.db"), "SELECT COUNT(*) AS n FROM v_answers") == [
        {"n": 5}
    ]
    ended = folder.batcher("verify")
    assert ended.code == 0, ended.out


def test_an_estimate_counts_what_is_answered_elsewhere_as_done(folder, run, simulate):
    run("q.jsonl")
    (folder.path / "copy.jsonl").write_bytes((folder.path / "q.jsonl").read_bytes())
    ended = folder.batcher("estimate", "copy.jsonl", "--endpoint", "simulator", "--base-url",
                           simulate().url)  # fmt: skip
    assert ended.code == 0, ended.err
