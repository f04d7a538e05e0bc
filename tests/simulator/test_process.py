"""`batcher simulate` as a process: it says where it listens, and ends when told."""

import errno
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest
from click.testing import CliRunner

from batcher.cli.care.simulate import simulate
from batcher.errors import CannotCreate
from tests.bill import read_bill
from tests.simulator.asking import HEADERS, body_of

COMMAND = [sys.executable, "-c", "from batcher.cli.care.simulate import simulate; simulate()"]


@contextmanager
def simulator(*options, **environment):
    """A running process and its base URL."""
    with subprocess.Popen(
        [*COMMAND, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    ) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:")
        try:
            yield process, line.split()[-1]
        finally:
            process.kill()


def ask(url, body, **headers):
    asking = urllib.request.Request(
        f"{url}/v1/messages", json.dumps(body).encode(), HEADERS | headers
    )
    with urllib.request.urlopen(asking) as response:
        return json.load(response)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly(number):
    with simulator() as (process, url):
        assert ask(url, body_of("hi"))["type"] == "message"
        process.send_signal(number)
        out, err = process.communicate()
        assert (process.returncode, out, err) == (0, "", "")


def test_the_bill_survives_a_kill(tmp_path):
    bill = tmp_path / "bill.jsonl"
    with simulator("--bill", str(bill), "--latency-ms", "0-1", "--seed", "5") as (process, url):
        answer = ask(url, body_of("hi"), **{"x-client-request-id": "uid-1"})
        process.kill()
        process.wait()
    (line,) = read_bill(bill)
    assert line["attempt_uid"] == "uid-1"
    assert line["output_tokens"] == answer["usage"]["output_tokens"]


def refusal(url: str) -> int:
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(url, body_of("hi"))
    caught.value.close()
    return caught.value.code


def test_quotas_and_faults_can_be_set():
    options = ("--rpm", "1", "--itpm", "9999", "--otpm", "9999", "--burst-seconds", "60")
    with simulator(*options) as (_, url):
        ask(url, body_of("hi"))
        assert refusal(url) == 429
    with simulator("--fault", "529=0.5", "--fault", "503=0.5") as (_, url):
        assert refusal(url) in {529, 503}


def test_only_the_key_in_the_named_variable_is_accepted():
    with simulator("--expect-key-env", "SIM_KEY", SIM_KEY="secret") as (_, url):
        assert ask(url, body_of("hi"), **{"x-api-key": "secret"})["type"] == "message"
        assert refusal(url) == 401


@pytest.mark.parametrize(
    "options",
    [
        ["--fault", "nonsense=0.1"],
        ["--fault", "429"],
        ["--fault", "429=2"],
        ["--latency-ms", "fast"],
        ["--latency-ms", "9-1"],
        ["--rpm", "0"],
        ["--burst-seconds", "0"],
        ["--expect-key-env", "BATCHER_TEST_NO_SUCH_VARIABLE"],
    ],
)
def test_a_wrong_option_is_a_usage_error(options):
    result = CliRunner().invoke(simulate, options)
    assert result.exit_code == 2
    assert "Error: " in result.output


def test_a_bill_in_a_missing_folder_cannot_be_created(tmp_path):
    result = CliRunner().invoke(simulate, ["--bill", str(tmp_path / "no" / "bill")])
    assert isinstance(result.exception, CannotCreate)


def test_a_bill_goes_into_no_file_that_holds_something_else(tmp_path):
    notes = tmp_path / "notes.txt"
    notes.write_text("mine\n")
    result = CliRunner().invoke(simulate, ["--bill", str(notes)])
    assert isinstance(result.exception, CannotCreate)
    assert "no bill" in str(result.exception)
    assert notes.read_text() == "mine\n"


def test_a_port_that_is_taken_is_said_in_one_line():
    with simulator() as (_, url):
        result = CliRunner().invoke(simulate, ["--port", url.rpartition(":")[2]])
    assert isinstance(result.exception, CannotCreate)
    assert os.strerror(errno.EADDRINUSE).lower() in str(result.exception).lower()
