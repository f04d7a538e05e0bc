"""`batcher estimate`, and what `run` says and asks before it starts."""

import json
import re
from decimal import Decimal

import click
import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.cli.money.estimate import run_command
from batcher.errors import ConfigurationError, UsageError
from tests.cli.terminal import run_on_a_terminal
from tests.making_runs import rows, simulating, write_rows

ASKING = {"BATCHER_ASK_ABOVE": "0.01"}  # US dollars: next to nothing


@pytest.fixture
def simulator():
    with simulating() as running:
        yield running


@pytest.fixture
def typed(simulator, tmp_path, monkeypatch):
    """The words that name a job of fifty rows, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write_rows(tmp_path / "rows.jsonl", rows(50))
    return ("rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.base_url)


def invoke(*words, code=0):
    result = CliRunner().invoke(group, words, standalone_mode=False)
    assert result.exception is None, result.exception
    assert (result.return_value or 0) == code
    return result


def refused(*words):
    return CliRunner().invoke(group, words, standalone_mode=False).exception


def test_without_answers_it_says_the_ceiling_and_that_it_knows_no_more(typed, simulator):
    lines = invoke("estimate", *typed).stdout.splitlines()
    assert lines[0] == "50 requests to do, to endpoint simulator"
    assert (
        lines[3] == "ceiling   at most $1.22 with all attempts, $0.245 with one attempt per row"
    )
    assert lines[4].startswith("expected  only the ceiling is known: no answers")
    assert simulator.bill == []


def test_a_pilot_brings_an_interval_and_says_how_it_was_made(typed, simulator):
    result = invoke("estimate", *typed, "--pilot")
    assert "pilot: sending 30 rows drawn at random; ceiling: at most $" in result.stderr
    assert (
        "20 requests to do, to endpoint simulator; 30 rows need nothing more" in result.stdout
    )
    assert "90 % interval $" in result.stdout
    assert "from 30 rows of a pilot" in result.stdout
    assert "about nine of ten such intervals hold the real cost" in result.stdout
    assert len(simulator.bill) == 30


def test_ways_are_compared_in_one_table_by_money(typed, simulator):
    said = invoke("estimate", *typed, "--lanes", "--pilot", "10").stdout
    table = said[said.index("Way ") :].splitlines()
    assert table[0].split() == ["Way", "Requests", "Expected", "At", "most", "Takes"]
    assert any(line.startswith("--lane batch  ") for line in table)
    made = json.loads(invoke("estimate", *typed, "--lanes", "--json").stdout)
    lanes = {(w["lane"], w["model"]): w for w in made["lanes"] if not w["dedup"]}
    live, batch = (Decimal(lanes[each, None]["expected_usd"]) for each in ("live", "batch"))
    assert live == 2 * batch > 0
    assert lanes["live", None]["seconds"] is not None, "earlier answers tell the latency"
    assert [w["requests"] for w in made["lanes"]] == [40] * len(made["lanes"])
    costs = [Decimal(w["expected_usd"]) for w in made["lanes"]]
    assert costs == sorted(costs)
    assert len(simulator.bill) == 10


def test_json_has_exact_amounts_as_text(typed):
    made = json.loads(invoke("estimate", *typed, "--pilot", "10", "--json").stdout)
    assert (made["method"], made["sampled"], made["confidence"]) == ("pilot", 10, "0.90")
    amounts = [made[f"{name}_usd"] for name in ("low", "expected", "high", "ceiling")]
    assert all(isinstance(amount, str) for amount in amounts)
    assert sorted(map(float, amounts)) == list(map(float, amounts))
    assert made["pilot"]["sent"] == 10
    assert made["models"]["claude-sonnet-4-6"]["requests"] == 40


def test_the_run_grades_the_estimate_and_the_grade_is_kept(typed):
    invoke("estimate", *typed, "--pilot", "20")
    assert "not over yet" in invoke("estimate", "--grades").stdout
    invoke("run", *typed)
    (graded,) = json.loads(invoke("estimate", "--grades", "--json").stdout)["estimates"]
    report = json.loads(invoke("report", "--by", "invocation", "--format", "json").stdout)
    assert graded["actual_usd"] in json.dumps(report)
    assert graded["grade"] in {"within", "below", "above"}
    assert graded["in_doubt_high_usd"] == "0"


def test_without_prices_there_are_tokens_and_no_ceiling(typed):
    text = invoke("estimate", *typed, "--prices", "none", "--pilot", "10").stdout
    assert "ceiling   none: nothing bounds what 40 requests cost" in text
    assert "expected  unknown: no price in USD is known for claude-sonnet-4-6" in text
    assert "(measured on answers), about " in text


def test_grades_of_a_database_without_estimates(typed):
    invoke("run", *typed)
    assert invoke("estimate", "--grades").stdout == "no estimate was made here yet\n"


def test_the_command_that_continues_a_pilot_is_a_run(typed):
    assert run_command("batcher estimate a.jsonl --pilot 30 --json --model m") == (
        "batcher run a.jsonl --model m"
    )
    assert run_command("batcher estimate --pilot=9 'a b'") == "batcher run 'a b'"


def test_the_run_says_its_ceiling_before_it_starts(typed):
    words = invoke("run", *typed).stderr
    assert words.startswith(
        "50 rows to do; ceiling: at most $1.22 with all attempts, $0.245 with one attempt per"
        " row\n"
    )
    assert "ceiling" not in invoke("run", *typed, "--quiet").stderr


def test_an_end_of_batches_sends_nothing_and_has_no_ceiling(typed):
    words = invoke("run", *typed, "--lane", "batch", "--cancel").stderr
    assert "ceiling" not in words
    assert "no batch is out: nothing was canceled" in words


def test_a_wrong_amount_to_ask_above_is_refused(typed, monkeypatch):
    monkeypatch.setenv("BATCHER_ASK_ABOVE", "much")
    assert isinstance(refused("run", *typed), ConfigurationError)


TOOLS = {"tools": [{"name": "f", "input_schema": {"type": "object"}}]}


def test_at_most_is_of_every_attempt_and_leg_that_a_row_may_have(typed, tmp_path):
    (plain, *_) = rows(1)
    write_rows(
        tmp_path / "rows.jsonl", [*rows(3), {**plain, "params": {**plain["params"], **TOOLS}}]
    )
    made = json.loads(invoke("estimate", *typed, "--json").stdout)
    one, most = Decimal(made["ceiling_usd"]), Decimal(made["ceiling_with_retries_usd"])
    assert one * 5 < most < one * 5 * 10  # five attempts a row, ten legs of the one with tools
    assert (
        "with all attempts and 10 legs where tools ask for them, $"
        in invoke("run", *typed, "--dry-run").stdout
    )
    run = invoke("run", *typed, "--on-truncate", "raise=2x").stderr
    assert "4 rows to do; ceiling: none for all attempts, $" in run


def test_at_most_of_a_pilot_is_of_every_attempt_and_leg_too(typed, tmp_path):
    asked = [{**row, "params": {**row["params"], **TOOLS}} for row in rows(5)]
    write_rows(tmp_path / "rows.jsonl", asked)
    words = invoke("estimate", *typed, "--pilot", "5").stderr
    assert "pilot: sending 5 rows drawn at random; ceiling: at most $" in words
    assert "with all attempts and 10 legs where tools ask for them, $" in words


def test_there_is_no_at_most_where_refusals_for_load_may_be_billed(typed, tmp_path):
    (tmp_path / "config.toml").write_text("[endpoints.simulator]\nerrors_billed = 'maybe'\n")
    words = invoke("run", *typed).stderr
    assert "50 rows to do; ceiling: none for all attempts, $0.245 with one attempt" in words


def test_a_model_that_only_rows_name_is_told_when_it_retires(typed, tmp_path):
    (row, *_) = rows(1)
    row["params"]["model"] = "claude-sonnet-4-5"
    write_rows(tmp_path / "rows.jsonl", [row])
    told = re.compile(r"claude-sonnet-4-5 retire[sd] on 2026-11-30: choose another model")
    assert len(told.findall(invoke("doctor", *typed).stdout)) == 1
    assert len(told.findall(invoke("check", *typed).stdout)) == 1
    assert len(told.findall(invoke("run", *typed).stderr)) == 1


@pytest.mark.parametrize("few", ["0", "4"])
def test_a_pilot_of_next_to_nothing_is_refused(typed, few):
    refusal = refused("estimate", *typed, "--pilot", few)
    assert isinstance(refusal, click.BadParameter)
    assert "--pilot" in refusal.format_message()


def test_nothing_to_estimate_is_refused(typed):
    assert isinstance(refused("estimate"), UsageError)


def test_bad_rows_are_counted_and_the_others_estimated(typed, tmp_path):
    write_rows(tmp_path / "rows.jsonl", [*rows(3), "no JSON"])
    text = invoke("estimate", *typed).stdout
    assert "3 requests to do" in text
    assert "1 row would be quarantined; batcher check lists them" in text


def test_a_person_is_asked_above_the_amount_and_a_no_sends_nothing(typed, simulator):
    code, shown = run_on_a_terminal(*typed, answer=b"n\n", **ASKING)
    assert code == 130
    assert (
        "Ceiling: at most $1.22 with all attempts, $0.245 with one attempt per row. Send 50"
        " rows?"
    ) in shown
    assert simulator.bill == []


def test_a_yes_sends_and_the_option_answers_for_the_person(typed, simulator):
    assert run_on_a_terminal(*typed, "--limit", "5", answer=b"y\n", **ASKING)[0] == 0
    code, shown = run_on_a_terminal(*typed, "--yes", answer=b"", **ASKING)
    assert code == 0
    assert "Send 50 rows?" not in shown
    assert len(simulator.bill) == 50
