"""The live panel: everything on it, as wide as the terminal, also without colour."""

import io

import pytest
from rich.console import Console

from batcher.cli.run.display import Lines, progress_line, stamped
from batcher.cli.run.panel import panel
from batcher.ledger.runs import Recovery
from batcher.monitoring.progress_text import Reading
from batcher.pacing.limits import Limit, QuotaUse
from batcher.pipeline.progress import BindingLimit, Progress, Started

DOLLAR = 10**12
WIDTHS = (20, 60, 80, 120, 200)
READING = Reading(
    elapsed_seconds=192.0, rows_per_second=231.4, seconds_left=262.0,
    projected_cost=3 * DOLLAR, share=0.423,
)  # fmt: skip


def busy(**more) -> Progress:
    facts = {
        "total_rows": 100_000, "answered": 41_998, "failed": 312, "quarantined": 3,
        "in_flight": 100, "cost": DOLLAR, "input_tokens": 12_345_678, "output_tokens": 2_345,
        "cap_spent": DOLLAR, "cap_reserved": DOLLAR // 4, "cap_free": DOLLAR,
        "last_failure": "invalid_request_error: \x1b[31mno\nwords",
        "binding_limit_now": BindingLimit(Limit.OUTPUT_TOKENS, "--otpm", 1.0),
        "quota_used": [QuotaUse("haiku", Limit.OUTPUT_TOKENS, 400_000, 0.974)],
        "outage": "the server is away",
    }  # fmt: skip
    return Progress(**(facts | more))


def drawn(progress, width=100, reading=READING, note="", **options) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, **options).print(panel(progress, reading, note))
    return stream.getvalue()


def test_it_tells_all_that_is_known():
    words = " ".join(drawn(busy(), width=200, note="SIGINT: nothing more is sent").split())
    for part in (
        "42 %", "41,998 of about 100,000 rows done, 312 failed, 3 quarantined, 100 in flight",
        "3 min so far, 231.4 rows/s, about 4 min left", "$1.00 so far, about $3.00 in all",
        "cap $2.25: $1.00 counted, $0.25 reserved, about $3.00 at the end, above the cap",
        "12,345,678 tokens in, 2,345 out",
        "limited by output tokens per minute, 97 % used (--otpm)",
        "haiku used: 97 % of 400,000 output tokens per minute",
        "invalid_request_error: ␛[31mno words", "the server is away", "SIGINT: nothing",
    ):  # fmt: skip
        assert part in words


@pytest.mark.parametrize("width", WIDTHS)
def test_no_line_is_wider_than_the_terminal(width):
    assert max(map(len, drawn(busy(), width).splitlines())) <= width


@pytest.mark.parametrize("width", WIDTHS)
def test_without_colour_there_is_a_track_and_a_percent(width):
    track = drawn(busy(), width, force_terminal=True, no_color=True).splitlines()[0]
    assert track.count("━") / (track.count("━") + track.count("─")) == pytest.approx(
        0.42, abs=0.1
    )
    assert "42 %" in track


def test_what_is_wrong_is_red_and_what_is_waited_for_yellow():
    shown = drawn(busy(), 200, force_terminal=True, color_system="standard")
    assert "\x1b[1;31m312 failed" in shown
    assert "\x1b[1;31minvalid_request_error" in shown
    assert "\x1b[33mthe server is away" in shown


def test_nothing_is_said_of_what_is_not_known():
    early = Reading(
        elapsed_seconds=0.0, rows_per_second=None, seconds_left=None, projected_cost=None,
        share=None,
    )  # fmt: skip
    words = drawn(Progress(), reading=early)
    names = [line.split()[0] for line in words.splitlines()[1:]]
    assert names == ["rows", "time", "cost", "tokens"]
    assert "left" not in words


def test_a_log_gets_the_same_in_one_line():
    assert progress_line(busy(outage="", cap_free=None), READING) == (
        "42 %; 41,998 of about 100,000 rows done, 312 failed, 3 quarantined, 100 in flight;"
        " 3 min so far, 231.4 rows/s, about 4 min left; $1.00 so far, about $3.00 in all;"
        " limited by output tokens per minute, 97 % used (--otpm)"
    )


def test_a_line_of_a_log_has_its_moment():
    assert stamped("half of it is done", 1_796_058_480_123_456) == (
        "2026-11-30T17:08:00Z half of it is done"
    )


@pytest.mark.parametrize("before", [0, 2])
def test_what_a_command_finished_itself_was_not_finished_before(before, capsys):
    lines = Lines(assume_yes=False)
    for number, done in enumerate((before, before + 3)):
        event = Started(
            run_id=1, invocation_id=number, database="x.db", database_created=False,
            recovery=Recovery(attempts=0, cost_high=0, unbounded=0), retrying=0,
            price_note="priced with list anthropic", progress=Progress(done_before=done),
        )  # fmt: skip
        lines.started(event)
        lines.close()
    told = [line for line in capsys.readouterr().err.splitlines() if "finished before" in line]
    assert told == ["2 rows were finished before"] * bool(before)
