"""What people and programs read: a panel on a terminal, plain lines in a log, JSON, nothing."""

import re
from decimal import Decimal

import pytest

from tests.bill import read_bill, total_pico_usd
from tests.cli import terminal
from tests.e2e.inputs import varied_rows, write_jsonl
from tests.e2e.invariants import open_books
from tests.e2e.processes import plain_environment

ROWS = 200
COLOURS = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-8]|4[0-8]|9\d|10\d)(?:;\d+)*m")
CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


@pytest.fixture
def command(folder, simulate):
    """A run with some of everything: odd stops, doubts, rows that cannot be sent."""
    simulator = simulate("--latency-ms", "20-60", "--fault", "close=0.05")
    items = [*varied_rows(ROWS - 2), {"prompt": 5}, {"custom_id": "no prompt"}]
    write_jsonl(folder.path / "rows.jsonl", items)
    return (
        *("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url),
        *("--concurrency", 16),
    )


def on_a_terminal(folder, *words, width=100, answer=b"", **environment) -> tuple[int, str]:
    told = plain_environment(folder.path) | {"TERM": "xterm-256color"} | environment
    options = {"width": width, "answer": answer, "environment": told}
    return terminal.on_a_terminal(*words, folder=folder.path, **options)


def books_of(folder):
    bill = read_bill(folder.path.parent / "bill.jsonl")
    return open_books(str(folder.path / "batcher.db"), bill)


def check_final_words(folder, words: str) -> None:
    """The last numbers that were shown are those of the ledger."""
    books = books_of(folder)
    states = [line["state"] for line in books.attempts.values()]
    answered = {line["attempt_uid"] for line in books.answers_all}
    bills = [line for uid, line in books.bill.items() if uid in answered]
    expected = (
        f"{len(books.answers):,} rows answered",
        f"{len(books.failures):,} quarantined",
        f"{sum(line['input_tokens'] for line in bills):,} tokens in",
        f"{sum(line['output_tokens'] for line in bills):,} out",
        f"{states.count('unknown'):,} attempts are in doubt",
    )
    assert [number for number in expected if number not in words] == []
    check_money(words, r"out; \$([\d.,]+)", total_pico_usd(bills))
    doubtful = [line for line in books.attempts.values() if line["state"] == "unknown"]
    high = sum(line["cost_high_pico_usd"] for line in doubtful)
    check_money(words, r"from \$0\.00 to \$([\d.,]+)", high)


def check_money(words: str, pattern: str, pico: int) -> None:
    """The amount shown is the exact one, rounded to the digits shown."""
    shown = Decimal(re.search(pattern, words)[1].rstrip(".").replace(",", ""))
    exact = Decimal(pico).scaleb(-12)
    assert abs(shown - exact) <= Decimal(1).scaleb(shown.as_tuple().exponent), (shown, exact)


def test_a_terminal_shows_a_panel_and_ends_with_the_ledger_s_numbers(folder, command):
    code, shown = on_a_terminal(folder, *command)
    assert code == 65
    assert CONTROLS.search(shown), "a panel redraws itself"
    assert re.search(r"\d+ of (about )?\d+ rows done", shown)
    assert re.search(r"\d+ in flight", shown)
    assert re.search(r"\d+ s so far, [\d.]+ rows/s", shown)
    assert re.search(r"━*─* +\d+ %", CONTROLS.sub("", shown))
    check_final_words(folder, CONTROLS.sub("", shown))


def test_no_color_is_honoured_on_a_terminal(folder, command):
    code, shown = on_a_terminal(folder, *command, NO_COLOR="1")
    assert code == 65
    assert not COLOURS.search(shown)
    code, shown = on_a_terminal(folder, "report", NO_COLOR="1")
    assert code == 0
    assert not COLOURS.search(shown)


def test_a_dumb_terminal_gets_no_control_characters_but_the_final_numbers(folder, command):
    code, shown = on_a_terminal(folder, *command, TERM="dumb")
    assert code == 65
    assert not CONTROLS.search(shown)
    check_final_words(folder, shown)


def test_the_narrowest_terminal_breaks_nothing(folder, command):
    assert on_a_terminal(folder, *command, width=20)[0] == 65
    code, shown = on_a_terminal(folder, "report", width=20)
    assert code == 0
    assert "Traceback" not in shown


def test_a_log_gets_plain_lines(folder, command):
    ended = folder.batcher(*command, TERM="xterm-256color")
    assert (ended.code, ended.out) == (65, "")
    assert "\x1b" not in ended.err
    assert "\r" not in ended.err
    assert "\ndatabase created: " in ended.err
    check_final_words(folder, ended.err)


def test_verbose_says_what_happens_when_it_happens(folder, command):
    ended = folder.batcher(*command, "-v", "--log-file", "run.log")
    assert (ended.code, ended.out) == (65, "")
    moments = re.findall(r"^\d{4}-\d\d-\d\dT[\d:.]+Z (?:INFO|ERROR) +(.*)$", ended.err, re.M)
    assert "priced with list anthropic of price book" in moments[0]
    assert "ended with 65" in moments[-1]
    # What limits a run changes between two looks: the log has its own.
    logged = re.findall(r"Z (?:INFO|ERROR) +(.*)$", (folder.path / "run.log").read_text(), re.M)
    told, logged = (
        [moment for moment in each if not moment.startswith("limited by")]
        for each in (moments, logged)
    )
    assert told == logged
    check_final_words(folder, ended.err)


def test_quiet_says_in_one_sentence_why_it_is_not_0(folder, command):
    ended = folder.batcher(*command, "--quiet")
    assert (ended.code, ended.out) == (65, "")
    assert ended.err.startswith("batcher: finished, but not all is well: ")
    assert len(ended.err.splitlines()) == 1


def test_quiet_still_says_what_is_wrong(folder, command):
    ended = folder.batcher(*command, "--quiet", "--endpoint", "nowhere")
    assert ended.code == 78
    assert len(ended.err.splitlines()) == 1


def test_json_is_one_object_with_the_ledger_s_numbers(folder, command):
    ended = folder.batcher(*command, "--json")
    assert (ended.code, ended.err) == (65, "")
    assert ended.out.count("\n") == 1
    books, told = books_of(folder), ended.json
    answered = {line["attempt_uid"] for line in books.answers_all}
    bills = [line for uid, line in books.bill.items() if uid in answered]
    doubtful = [line for line in books.attempts.values() if line["state"] == "unknown"]
    assert told["exit_code"] == 65
    assert told["database_created"] is True
    assert told["rows_left"] is False
    assert told["answered"] == len(books.answers)
    assert told["rows_without_answer"] == {"quarantined": 2}
    assert told["sent"] == len(books.attempts)
    assert told["in_doubt"] == len(doubtful)
    assert told["input_tokens"] == sum(line["input_tokens"] for line in bills)
    assert told["output_tokens"] == sum(line["output_tokens"] for line in bills)
    assert Decimal(told["cost_usd"]).scaleb(12) == total_pico_usd(bills)
    high = sum(line["cost_high_pico_usd"] for line in doubtful)
    assert Decimal(told["in_doubt_high_usd"]).scaleb(12) == high


def test_a_change_of_settings_that_pays_again_is_asked_about(folder, simulate):
    simulator = simulate()
    items = [{"custom_id": f"row-{n}", "prompt": f"Question {n}"} for n in range(5)]
    write_jsonl(folder.path / "rows.jsonl", items)
    command = ("run", "rows.jsonl", "--endpoint", "simulator", "--base-url", simulator.url)
    command = (*command, "--model", "claude-haiku-4-5")
    assert folder.batcher(*command).code == 0
    changed = (*command, "--max-tokens", "77")
    refused = folder.batcher(*changed)
    assert refused.code == 78
    assert "5 answered rows" in refused.err
    code, shown = on_a_terminal(folder, *changed, answer=b"n\n")
    assert code == 78
    assert "Send them?" in shown
    assert simulator.billed() == 5
    code, shown = on_a_terminal(folder, *changed, answer=b"y\n")
    assert code == 0
    assert simulator.billed() == 10
    assert folder.batcher(*command, "--accept-change").code == 0
    assert simulator.billed() == 10, "the answers to the old settings are still there"
