"""`batcher doctor` looks at what a run would need, and at nothing else."""

import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from batcher import wiring
from batcher.cli.care.setup import doctor
from batcher.errors import ConfigurationError
from batcher.ledger.connect import open_engine, place, reading
from batcher.ledger.migrate import current, prepare
from batcher.transport.live.client import Reply
from batcher.wiring.examine import _clock, examine
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


def test_a_price_list_that_is_not_there_is_told(folder):
    (folder / "config.toml").write_text('[endpoints.simulator]\nprice_list = "antropic"\n')
    ok, words = found()["prices"]
    assert not ok
    assert words.startswith("the price list antropic of endpoint simulator is not in price")
    assert words.endswith("its answers stay unpriced; did you mean 'anthropic'?")


@pytest.mark.parametrize("authorities", ["missing.pem", "words.pem"])
def test_authorities_that_cannot_be_read_are_told(folder, authorities):
    (folder / "words.pem").write_text("words\n")
    (folder / "config.toml").write_text(f'[endpoints.simulator]\nca_file = "{authorities}"\n')
    ok, words = found()["endpoint"]
    assert not ok
    assert f"{authorities} holds no authorities" in words


def test_a_key_that_a_program_will_give_is_not_said_to_be_there(folder, monkeypatch):
    monkeypatch.setenv("BATCHER_ENDPOINT", "own")
    (folder / "config.toml").write_text(
        '[endpoints.own]\nbase_url = "http://127.0.0.1:9"\nauth = "bearer"\n'
        'api_key_command = ["false"]\n'
    )
    ok, words = found()["key"]
    assert (ok, words) == (True, "asked for when it is needed (command false)")


def test_without_inputs_nothing_is_said_of_them_and_nothing_is_read():
    assert "inputs" not in found()
    assert "inputs" not in found("-")


def test_what_is_wrong_is_told_as_json_too_and_makes_the_exit_code_1():
    done = CliRunner().invoke(doctor, ["--json"], standalone_mode=False)
    findings = {each["what"]: each["ok"] for each in json.loads(done.output)["findings"]}
    assert done.return_value == 1
    assert findings["endpoint"] is False
    assert findings["database"] is True


def test_what_a_run_writes_is_tried_and_taken_back(empty_database_url, monkeypatch):
    monkeypatch.setenv("BATCHER_DATABASE", empty_database_url)
    before = found()["database"]
    assert before[0]
    engine = open_engine(empty_database_url)
    if engine.dialect.name == "postgresql":
        assert "which was tried" in before[1]
        assert current(engine) is None, "nothing was made"
    prepare(engine)
    assert found()["database"] == (True, f"{place(engine).shown} can be written, which was"
                                   " tried; its schema is current")  # fmt: skip
    with reading(engine) as connection:
        names = set(connection.execute(text("SELECT name FROM ledger_info")).scalars())
    assert names == {"database_uid", "created_at"}
    engine.dispose()


def test_a_user_who_may_make_no_table_is_told(postgres_server, monkeypatch):
    url = postgres_server.new_database()
    postgres_server.execute("CREATE ROLE maker_of_none LOGIN")
    monkeypatch.setenv("BATCHER_DATABASE", url.replace("postgres@", "maker_of_none@"))
    ok, words = found()["database"]
    assert not ok
    assert "grant the rights" in words
    postgres_server.drop(url)
    postgres_server.execute("DROP ROLE maker_of_none")


@pytest.mark.parametrize(("hours", "ok"), [(0, True), (-2, False), (2, False)])
def test_a_clock_that_differs_from_the_endpoint_s_is_told(hours, ok):
    theirs = datetime.now(UTC) + timedelta(hours=hours)
    reply = Reply(200, {"Date": format_datetime(theirs, usegmt=True)}, b"")
    if ok:
        assert "within" in _clock(reply)
        return
    with pytest.raises(ConfigurationError, match="ahead of" if hours < 0 else "behind"):
        _clock(reply)


def test_lifeboat_disk_and_open_files_are_looked_at():
    findings = found()
    assert all(findings[what][0] for what in ("disk", "lifeboat folder", "open files"))


def test_a_limit_of_file_sizes_is_told_before_a_disk_is_blamed(folder):
    words = ["bash", "-c", f"ulimit -f 400; exec {sys.executable} -m batcher doctor"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert (
        "FAIL disk: a file of this process may have 0.4 MB at most (ulimit -f)" in done.stdout
    )


def test_a_bad_key_is_told_once_and_the_endpoint_is_asked_without_one(folder):
    (folder / "key").touch(mode=0o600)
    (folder / "config.toml").write_text(
        '[endpoints.gate]\nbase_url = "http://127.0.0.1:9"\napi_key_file = "key"\n'
    )
    typed = wiring.asked((), None, None, options={"endpoint": "gate"})
    findings = {finding.what: finding.words for finding in examine(typed)}
    assert findings["key"].endswith(f"the key from the file {folder / 'key'} is empty")
    assert "without a proxy: 127.0.0.1:9: Connection refused" in findings["endpoint"]


def test_a_wrong_setting_is_told_once(folder):
    (folder / "night.toml").write_text('name = "night"\ninputs = ["*"]\nmodle = "m"\n')
    findings = examine(wiring.asked((), folder / "night.toml", None))
    assert [finding.what for finding in findings] == ["configuration"]
