"""Answers and failures as `batcher answers` and `batcher failures` print them."""

import json

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.ledger.connect import parse_url
from batcher.report.request import failure_groups, latest_answers
from tests.report.ledger_rows import NOON, SECOND


@pytest.fixture
def here(rows):
    """A run with five answers, one of them of two lines, and failures of two reasons."""
    rows.run()
    rows.invocation(1)
    rows.source(1)
    for number in range(1, 6):
        text = f"Answer {number}\n100% \x1b[31mred" if number == 4 else f"Answer {number}"
        rows.answer(1, 1, number, text=text, answered_at=NOON + number * SECOND)
    for number in range(6, 9):
        fields = {"kind": "quarantined", "reason": "BAD_JSON", "message": f"no JSON {number}"}
        rows.failure(1, 1, number, byte_offset=number * 1000, **fields)
    rows.failure(1, 1, 9, custom_id=None)
    return rows


def answers(engine, most=10, run=None, custom_id=None, grep=None):
    found = latest_answers(engine, most, run=run, custom_id=custom_id, grep=grep)
    return [answer.row_number for answer in found]


def test_the_latest_answers_come_the_oldest_first(here, engine):
    assert answers(engine) == [1, 2, 3, 4, 5]
    assert answers(engine, 2) == [4, 5]
    assert answers(engine, run=2) == []
    assert answers(engine, run=1, custom_id="row-3") == [3]
    assert answers(engine, custom_id="nobody") == []
    (answer,) = latest_answers(engine, 1, run=None, custom_id="row-1", grep=None)
    assert answer.answered_at == "2026-01-05T12:00:01.000000Z"


@pytest.mark.parametrize(
    ("grep", "expected"),
    [("ANSWER 2", [2]), ("0%", [4]), ("r_d", []), ("%", [4]), ("answer", [1, 2, 3, 4, 5])],
)
def test_grep_is_for_texts_and_not_for_patterns(here, engine, grep, expected):
    assert answers(engine, grep=grep) == expected


def test_failures_stand_by_their_reason(here, engine):
    groups = failure_groups(engine, 2, run=None, reason=None)
    assert [(each.kind, each.reason, each.rows) for each in groups] == [
        ("quarantined", "BAD_JSON", 3),
        ("failed", "overloaded_error", 1),
    ]
    assert [row.row_number for row in groups[0].first] == [6, 7]
    (only,) = failure_groups(engine, 2, run=1, reason="overloaded_error")
    assert only.rows == 1
    assert failure_groups(engine, 2, run=2, reason=None) == []


@pytest.fixture
def printed(here, engine):
    url = engine.url.render_as_string(hide_password=False)
    database = str(parse_url(url).path or url)

    def run(*words):
        result = CliRunner().invoke(group, [*words, "--database", database])
        assert result.exit_code == 0, result.exception
        return result.stdout

    return run


def test_answers_for_people(printed):
    assert printed("answers", "-n", "2") == (
        "# rows.jsonl:4 row-4 (run 1, claude-sonnet-5, end_turn, 10 in, 5 out,"
        " 2026-01-05T12:00:04.000000Z)\n"
        "Answer 4\n"
        "100% ␛[31mred\n"
        "\n"
        "# rows.jsonl:5 row-5 (run 1, claude-sonnet-5, end_turn, 10 in, 5 out,"
        " 2026-01-05T12:00:05.000000Z)\n"
        "Answer 5\n"
    )
    assert printed("answers", "--grep", "nothing") == "no answers\n"


def test_answers_for_programs(printed):
    document = json.loads(printed("answers", "--custom-id", "row-4", "--json"))
    assert document["schema"] == "batcher.answers/1"
    (answer,) = document["answers"]
    assert (answer["source"], answer["text"]) == ("rows.jsonl", "Answer 4\n100% \x1b[31mred")


def test_failures_for_people(printed):
    assert printed("failures", "-n", "2") == (
        "quarantined BAD_JSON: 3 rows\n"
        "  rows.jsonl:6 (byte 6,000) row-6: no JSON 6\n"
        "  rows.jsonl:7 (byte 7,000) row-7: no JSON 7\n"
        "  and 1 more\n"
        "failed overloaded_error: 1 row\n"
        "  rows.jsonl:9: Overloaded\n"
    )
    assert printed("failures", "--reason", "OTHER") == "no rows without an answer\n"


def test_failures_for_programs(printed):
    document = json.loads(printed("failures", "--reason", "BAD_JSON", "--json"))
    assert document["schema"] == "batcher.failures/1"
    (found,) = document["groups"]
    assert (found["rows"], len(found["first"]), found["first"][0]["byte_offset"]) == (
        3,
        3,
        6000,
    )


def test_failures_of_several_runs_say_of_which(here, printed):
    second = here.run("other")
    here.failure(here.invocation(second), here.source(second), 9, custom_id=None, run_id=second)
    assert "  rows.jsonl:9 (run 1): Overloaded\n  rows.jsonl:9 (run 2)" in printed("failures")
    assert "(run" not in printed("failures", "--run", "2")


def test_a_run_may_be_given_by_its_name(here, printed):
    here.invocation(here.run("other", job="nightly"))
    assert printed("answers", "--run", "nightly") == "no answers\n"
    assert printed("failures", "--run", "nightly") == "no rows without an answer\n"
    assert printed("answers", "--run", "1", "-n", "1").startswith("# rows.jsonl:5")


@pytest.mark.parametrize("command", ["answers", "failures"])
def test_a_number_beyond_what_a_database_counts_is_refused(command):
    result = CliRunner().invoke(group, [command, "-n", "99999999999999999999"])
    assert result.exit_code == 2
    assert "99999999999999999999 is" in result.output


@pytest.mark.parametrize(
    "words",
    [
        ["reconcile", "--undo"],
        ["report", "--rating"],
        ["reprice", "--run"],
        ["retry", "--run"],
        ["show", "row-1", "--rating"],
        ["status", "--run"],
    ],
)
def test_no_command_takes_a_number_beyond_what_a_database_counts(words):
    result = CliRunner().invoke(group, [*words, "99999999999999999999"])
    assert result.exit_code == 2
    assert "99999999999999999999 is beyond all numbers here" in result.output
