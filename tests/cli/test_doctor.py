"""`batcher doctor` looks at what a run would need, and at nothing else."""

import json

import pytest
from click.testing import CliRunner

from batcher import wiring
from batcher.cli.care.doctor import doctor
from batcher.wiring.examine import examine
from tests.making_runs import rows, write_rows


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("BATCHER_BASE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("BATCHER_ENDPOINT", "simulator")
    return tmp_path


def found(*inputs, job=None) -> dict[str, tuple[bool, str]]:
    findings = examine(wiring.asked(inputs, job, None))
    return {finding.what: (finding.ok, finding.words) for finding in findings}


def test_an_input_that_is_not_there_is_told():
    assert found("nothere.jsonl")["inputs"] == (
        False,
        "nothere.jsonl: no such file; check the name",
    )


def test_inputs_of_a_job_are_looked_for_beside_it(folder):
    job = folder / "night.toml"
    job.write_text('name = "night"\ninputs = ["*.jsonl"]\nmodel = "m"\n')
    assert found(job=job)["inputs"] == (False, "*.jsonl: no file matches; check the pattern")
    write_rows(folder / "rows.jsonl", rows(2))
    assert found(job=job)["inputs"] == (True, "1 file can be read")


def test_without_inputs_nothing_is_said_of_them_and_nothing_is_read():
    assert "inputs" not in found()
    assert "inputs" not in found("-")


def test_what_is_wrong_is_told_as_json_too_and_makes_the_exit_code_1():
    done = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
    findings = {each["what"]: each["ok"] for each in json.loads(done.output)["findings"]}
    assert done.return_value == 1
    assert findings["endpoint"] is False
    assert findings["database"] is True
