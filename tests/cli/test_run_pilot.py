"""`batcher run --pilot N`: a few rows first, their estimate, then the others; nothing twice."""

import json
import os

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from tests.cli.terminal import run_on_a_terminal
from tests.making_runs import (
    ask,
    row,
    rows,
    simulating,
    write_rows,
)

ROWS = 60


@pytest.fixture
def simulator():
    with simulating() as running:
        yield running


@pytest.fixture
def typed(simulator, tmp_path, monkeypatch):
    """The words that name a job of sixty rows, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path, rows(ROWS))
    return ("rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.base_url)


def write(folder, lines):
    """Chance is drawn from what names the file, its time of change too."""
    os.utime(write_rows(folder / "rows.jsonl", lines), (0, 0))


def run(*words, code=0, stdin=None):
    result = CliRunner().invoke(group, ["run", *words], standalone_mode=False, input=stdin)
    assert result.exception is None, result.exception
    assert (result.return_value or 0) == code, result.stderr
    return result


def bodies(simulator):
    return [line.body_sha256 for line in simulator.bill]


def test_a_run_sends_its_pilot_says_what_the_rest_will_cost_and_sends_it(typed, simulator):
    words = run(*typed, "--pilot", "20").stderr
    assert "pilot: sending 20 rows drawn at random; ceiling: at most $" in words
    assert "40 requests, about " in words
    assert "expected  $" in words
    assert "40 rows answered" in words
    assert "by pilot of 20, came to $" in words
    assert len(set(bodies(simulator))) == len(bodies(simulator)) == ROWS


def test_the_pilot_is_an_invocation_of_the_run_and_its_attempts_say_so(typed):
    run(*typed, "--pilot", "20")
    assert ask("batcher.db", "SELECT COUNT(*) FROM runs") == [(1,)]
    purposes = ask(
        "batcher.db",
        "SELECT invocation_id, purpose, COUNT(*) FROM v_attempts GROUP BY 1, 2 ORDER BY 1",
    )
    assert purposes == [(1, "pilot", 20), (2, "first", 40)]
    assert ask("batcher.db", "SELECT COUNT(*) FROM v_answers") == [(ROWS,)]


def test_the_same_command_again_has_nothing_to_send_or_to_estimate(typed, simulator):
    run(*typed, "--pilot", "20")
    again = run(*typed, "--pilot", "20")
    assert "nothing left to do: all 60 rows were finished before" in again.stderr
    assert "pilot" not in again.stderr
    assert len(simulator.bill) == ROWS


def test_json_is_one_object_with_the_estimate_and_its_grade(typed):
    told = json.loads(run(*typed, "--pilot", "20", "--json").stdout)
    estimate = told["estimate"]
    assert (told["answered"], told["database_created"]) == (40, True)
    assert (estimate["method"], estimate["sampled"], estimate["requests"]) == ("pilot", 20, 40)
    assert estimate["pilot"]["answered"] == 20
    assert estimate["actual_usd"] == told["cost_usd"]
    assert estimate["grade"] in {"within", "below", "above"}
    again = json.loads(run(*typed, "--pilot", "20", "--json").stdout)
    assert again["estimate"] is None


def test_a_no_on_a_terminal_leaves_the_pilot_and_sends_no_more(typed, simulator):
    code, shown = run_on_a_terminal(*typed, "--pilot", "20", answer=b"n\n")
    assert code == 130
    assert "Send the other 40 rows?" in shown
    assert len(simulator.bill) == 20
    run(*typed)
    assert len(set(bodies(simulator))) == len(bodies(simulator)) == ROWS


def test_a_yes_on_a_terminal_or_as_an_option_goes_on(typed, simulator):
    code, shown = run_on_a_terminal(*typed, "--pilot", "20", "--limit", "30", answer=b"y\n")
    assert (code, len(simulator.bill)) == (0, 30)
    assert "Expected: $" in shown
    code, shown = run_on_a_terminal(*typed, "--pilot", "20", "--yes", answer=b"")
    assert (code, len(simulator.bill)) == (0, ROWS)
    assert "Send the other" not in shown


@pytest.mark.parametrize(("limit", "sent"), [("10", 10), ("20", 20), ("25", 25)])
def test_the_pilot_counts_into_the_limit(typed, simulator, limit, sent):
    told = json.loads(run(*typed, "--pilot", "20", "--limit", limit, "--json").stdout)
    assert len(simulator.bill) == sent
    assert told["rows_left"] is True
    assert told["estimate"]["grade"] is None


def test_a_run_that_is_not_over_says_nothing_of_a_grade(typed):
    words = run(*typed, "--pilot", "10", "--limit", "20").stderr
    assert "came to" not in words
    assert "no estimate was made" not in words


def test_a_cap_that_the_pilot_reaches_stops_the_run(typed, simulator):
    done = run(*typed, "--pilot", "20", "--max-cost", "0.02", code=77)
    assert "is reached" in done.stderr
    assert "expected" not in done.stderr
    assert 0 < len(simulator.bill) < 20


def test_rows_of_the_pilot_that_fail_do_not_stop_the_run(typed, simulator, tmp_path):
    bad = [row(f"{n} [[fault:400]]" if n % 7 == 3 else f"{n}", f"id-{n}") for n in range(40)]
    write(tmp_path, bad)
    told = json.loads(run(*typed, "--pilot", "20", "--json", code=65).stdout)
    assert told["answered"] + told["estimate"]["pilot"]["answered"] == 34


def test_standard_input_is_read_once_for_pilot_and_rest(typed, simulator):
    text = "".join(f"{json.dumps(each)}\n" for each in rows(30))
    run("-", *typed[1:], "--pilot", "10", stdin=text)
    assert len(set(bodies(simulator))) == len(bodies(simulator)) == 30


def test_answers_are_written_once_at_the_end(typed, tmp_path):
    run(*typed, "--pilot", "20", "-o", "out.jsonl")
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == ROWS


def test_models_without_a_price_say_so_and_are_sent(typed, tmp_path, simulator):
    lines = [row(f"{n}", model="claude-unpriced-9") for n in range(30)]
    write(tmp_path, lines)
    words = run(*typed, "--pilot", "10", "--strict", code=65).stderr
    assert "no price in USD is known for claude-unpriced-9" in words
    assert len(simulator.bill) == 30


def test_changed_settings_are_for_the_person_to_decide(typed, simulator):
    run(*typed, "--limit", "10")
    changed = (*typed, "--system", "Be brief.", "--pilot", "20")
    refused = CliRunner().invoke(group, ["run", *changed], standalone_mode=False).exception
    assert "type the same command with --accept-change" in str(refused)
    assert len(simulator.bill) == 10
    run(*changed, "--accept-change")
    assert len(simulator.bill) == 10 + ROWS


@pytest.mark.parametrize("few", ["0", "4", "some"])
def test_a_pilot_of_next_to_nothing_is_refused(typed, few):
    result = CliRunner().invoke(group, ["run", *typed, "--pilot", few], standalone_mode=False)
    assert "--pilot" in str(result.exception.format_message())
