"""`batcher verify` as typed: lines, JSON, exit codes."""

import json

import msgspec
import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import UsageError
from tests.ledger.settling import RunLedger

LINE = {
    "request_id": "req_1", "model": "claude-sonnet-5", "input_tokens": 10,
    "cache_creation_5m": 0, "cache_creation_1h": 0, "cache_read": 0, "output_tokens": 5,
    "web_search_requests": 0, "stop_reason": "end_turn", "billed": True,
    "inference_geo": "global", "speed": "standard",
}  # fmt: skip


@pytest.fixture
def ledger(sqlite_url):
    made = RunLedger(sqlite_url)
    made.write(made.answered(), made.unknown())
    yield made
    made.engine.dispose()


@pytest.fixture
def uids(ledger):
    return [uid for (uid,) in ledger.ask("SELECT attempt_uid FROM attempts ORDER BY 1")]


def verify(ledger, *words):
    runner = CliRunner()
    return runner.invoke(
        group, ["verify", "--database", ledger.url, *map(str, words)], standalone_mode=False
    )


@pytest.fixture
def billed(ledger, tmp_path):
    """Verify against a bill of these lines."""

    def check(*lines):
        path = tmp_path / "bill.jsonl"
        path.write_bytes(b"".join(msgspec.json.encode(LINE | line) + b"\n" for line in lines))
        return verify(ledger, "--bill", path)

    return check


def test_a_sound_ledger_is_told_in_one_line(ledger):
    done = verify(ledger)
    assert done.return_value == 0
    assert done.output == (
        "verified: 1 charge of 1 answer recomputed, 1 sum compared; no problems\n"
    )


def test_a_problem_is_a_line_and_exit_code_1(ledger):
    ledger.execute("UPDATE charges SET total_amount = 5")
    done = verify(ledger)
    assert done.return_value == 1
    first, *_ = done.output.splitlines()
    assert first.startswith("charge: answer ")
    assert "stored as 5 pico-units priced, recomputed as 60000000 pico-units" in first


def test_json_is_one_object(ledger):
    ledger.execute("DELETE FROM rollups")
    told = json.loads(verify(ledger, "--json").output)
    assert (told["schema"], told["answers"], told["problems"]) == (1, 1, 1)
    assert told["findings"][0]["kind"] == "rollup"


def test_a_bill_that_agrees_is_no_problem(billed, uids):
    assert billed({"attempt_uid": uids[0]}, {"attempt_uid": uids[1]}).return_value == 0
    assert billed({"attempt_uid": uids[0]}).return_value == 0  # in doubt: may be billed


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"output_tokens": 6}, "was billed 70000000 pico-units and costs 60000000 to 60000000"),
        ({"billed": False}, "was billed 0 pico-units and costs 60000000"),
    ],
)
def test_a_bill_of_another_amount_is_told(billed, uids, line, told):
    done = billed({"attempt_uid": uids[0]} | line)
    assert done.return_value == 1
    assert told in done.output


def test_what_was_billed_and_is_not_known_is_told(billed, ledger, uids):
    known = {"attempt_uid": uids[0]}
    done = billed(known, {"attempt_uid": f"{ledger.uid()}-ffff"}, {"attempt_uid": "other-1"})
    assert done.return_value == 1
    assert "ffff was billed and is not in the ledger" in done.output
    assert "other-1" not in done.output


def test_a_second_bill_is_told(billed, uids):
    twice = billed({"attempt_uid": uids[0]}, {"attempt_uid": uids[0]})
    assert "was billed twice" in twice.output
    assert "without an attempt's uid" in billed({"attempt_uid": None}).output


def test_a_second_answer_of_one_leg_needs_an_explanation(billed, ledger, uids):
    ledger.execute("UPDATE attempts SET state = 'rejected', cost_high = 1000000000000000"
                   " WHERE state = 'unknown'")  # fmt: skip
    ledger.execute(f"UPDATE attempts SET request_id = (SELECT MIN(attempt_id) FROM attempts)"
                   f" WHERE attempt_uid = '{uids[1]}'")  # fmt: skip
    done = billed({"attempt_uid": uids[0]}, {"attempt_uid": uids[1]})
    assert "was billed after another of the same leg, and is rejected" in done.output


@pytest.mark.parametrize("text", [b"hello", b'{"attempt_uid": "\xff"}'])
def test_what_is_no_bill_is_refused(ledger, tmp_path, text):
    path = tmp_path / "bill.jsonl"
    path.write_bytes(text + b"\n")
    assert isinstance(verify(ledger, "--bill", path).exception, UsageError)
