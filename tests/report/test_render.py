import csv
import io
import json
import re
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.report.figures import (
    Adjusted,
    AdjustedLine,
    ChargeReason,
    Counts,
    Report,
    ReportLine,
)
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.render.formats import Format, render
from batcher.report.render.records import write_parquet
from batcher.report.render.text_table import Detail, lay_out, print_table
from batcher.report.table import Field, Table, Unit, table_of
from batcher.report.words import csv_text, safe_text, shorten


def line(*key, costs=(("USD", 3_400_000_000),), **counts):
    return ReportLine(key=key, label=tuple(map(str, key)), counts=Counts(**counts), costs=costs)


SONNET = line("claude-sonnet-5", requests=1, attempts=2, input_tokens=1_000, output_tokens=27)
REPORT = Report(
    query=ReportQuery(),
    lines=(SONNET,),
    total=replace(SONNET, key=(), label=()),
    price_books=("2026-01",),
)
DOUBTFUL = Counts(
    requests=1, attempts=39, in_doubt_attempts=37, open_attempts=2, in_doubt_low=11 * 10**10,
    in_doubt_high=84 * 10**10, unpriced_requests=2, unpriced_tokens=34_000, assumed_charges=1,
    assumed_low=2 * 10**10, assumed_high=3 * 10**10, maybe_billed_attempts=3,
    maybe_billed_high=5 * 10**11,
)  # fmt: skip


ZERO = {"USD": {"amount": "0", "pico": "0"}}
ADJUSTED = Adjusted(
    lines=(AdjustedLine(key=("claude-sonnet-5",), entries=2, amount=-400_000_000),
           AdjustedLine(key=(None,), entries=1, amount=10**9)),
    causes=(("not metered here", 1, 10**9), ("rate", 2, -400_000_000)),
    days=("2026-10-12", "2026-10-13"),
    last=(1_793_491_200_000_000, "ana on build7"),
)  # fmt: skip


def with_total(counts, **fields):
    total = ReportLine(key=(), label=(), counts=counts, costs=(("USD", 1),))
    return replace(REPORT, total=total, lines=(replace(SONNET, counts=counts),), **fields)


def on_terminal(report, width):
    stream = io.StringIO()
    print_table(table_of(report), stream, width)
    return stream.getvalue()


def test_plain_columns_are_complete_and_aligned():
    assert render(REPORT, Format.TABLE) == (
        "Model            Answered  Attempts  Input  Cache write  Cache read  Output  Thinking"
        "  Searches  Cost (USD)  In doubt (USD)  Assumed (USD)  Unpriced\n"
        "---------------  --------  --------  -----  -----------  ----------  ------  --------"
        "  --------  ----------  --------------  -------------  --------\n"
        "claude-sonnet-5         1         2  1,000            0           0      27         0"
        "         0     $0.0034               -              -         0\n"
        "---------------  --------  --------  -----  -----------  ----------  ------  --------"
        "  --------  ----------  --------------  -------------  --------\n"
        "Total                   1         2  1,000            0           0      27         0"
        "         0     $0.0034               -              -         0\n"
        "\n"
        "Events: 2 attempts, 2 answers: 2 with a cost, 0 unpriced. Prices: 2026-01.\n"
        "Reconciliation: none recorded.\n"
    )


def test_a_narrow_terminal_gets_the_most_important_columns():
    assert on_terminal(REPORT, 70) == (
        "┌─────────────────┬──────────┬───────┬────────┬────────────┐\n"
        "│ Model           │ Answered │ Input │ Output │ Cost (USD) │\n"
        "├─────────────────┼──────────┼───────┼────────┼────────────┤\n"
        "│ claude-sonnet-5 │        1 │ 1,000 │     27 │    $0.0034 │\n"
        "├─────────────────┼──────────┼───────┼────────┼────────────┤\n"
        "│ Total           │        1 │ 1,000 │     27 │    $0.0034 │\n"
        "└─────────────────┴──────────┴───────┴────────┴────────────┘\n"
        "Events: 2 attempts, 2 answers: 2 with a cost, 0 unpriced. Prices: \n2026-01.\n"
        "Reconciliation: none recorded.\n"
    )


def test_a_wide_terminal_gets_the_columns_with_something_in_them():
    titles = on_terminal(with_total(DOUBTFUL), 140).splitlines()[1]
    assert [title.strip() for title in titles.strip("│").split("│")] == [
        "Model", "Answered", "Attempts", "Input", "Output", "Cost (USD)", "In doubt (USD)",
        "Assumed (USD)", "Unpriced",
    ]  # fmt: skip


def test_a_table_that_does_not_fit_never_cuts_a_number():
    wide = line("m" * 70, requests=10**9, input_tokens=10**15, output_tokens=10**15)
    report = replace(REPORT, lines=(wide,), total=replace(wide, key=(), label=()))
    for width in (40, 60, 80, 120, 200):
        table = on_terminal(report, width)
        assert max(map(len, table.split("Events")[0].splitlines())) <= width
        assert "$0.0034" in table
        pieces = re.findall(r"[\d,]{5,}", table.split("Events")[0])
        assert set(pieces) <= {"1,000,000,000", "1,000,000,000,000,000"}
    assert "m" * 70 in table
    assert "1,000,000,000,000,000" in table


def test_the_points_of_a_column_stand_in_line():
    lines = (
        line("dear", costs=(("USD", 1_883 * 10**9),)),
        line("cheap", costs=(("USD", 6 * 10**8),)),
    )
    total = replace(line("", costs=(("USD", 18836 * 10**8),)), key=(), label=())
    shown = on_terminal(replace(REPORT, lines=lines, total=total), 80)
    assert re.findall(r"\$[\d.]+", shown) == ["$1.8830", "$0.0006", "$1.8836"]


def test_csv_has_exact_amounts_and_no_total():
    assert render(REPORT, Format.CSV) == (
        "model,requests,attempts,in_doubt_attempts,open_attempts,refused_attempts,"
        "not_sent_attempts,late_attempts,input_tokens,cache_write_5m_tokens,"
        "cache_write_1h_tokens,cache_read_tokens,output_tokens,thinking_tokens,"
        "web_search_requests,unpriced_requests,unpriced_tokens,assumed_charges,"
        "maybe_billed_attempts,maybe_billed_unbounded,"
        "in_doubt_unbounded,cost_usd,cost_pico_usd,in_doubt_low_usd,in_doubt_low_pico_usd,"
        "in_doubt_high_usd,in_doubt_high_pico_usd,assumed_low_usd,assumed_low_pico_usd,"
        "assumed_high_usd,assumed_high_pico_usd,maybe_billed_high_usd,"
        "maybe_billed_high_pico_usd,entry\n"
        "claude-sonnet-5,1,2,0,0,0,0,0,1000,0,0,0,27,0,0,0,0,0,0,0,0,0.0034,3400000000,0,0,0,0,"
        "0,0,0,0,0,0,charges\n"
    )


def test_json_mirrors_the_report_with_amounts_as_text():
    document = json.loads(render(REPORT, Format.JSON))
    figures = {
        "requests": 1, "attempts": 2, "in_doubt_attempts": 0, "open_attempts": 0,
        "refused_attempts": 0, "not_sent_attempts": 0, "late_attempts": 0,
        "input_tokens": 1000, "cache_write_5m_tokens": 0, "cache_write_1h_tokens": 0,
        "cache_read_tokens": 0, "output_tokens": 27, "thinking_tokens": 0,
        "web_search_requests": 0, "unpriced_requests": 0, "unpriced_tokens": 0,
        "assumed_charges": 0, "in_doubt_unbounded": 0, "maybe_billed_attempts": 0,
        "maybe_billed_unbounded": 0,
        "cost": {"USD": {"amount": "0.0034", "pico": "3400000000"}},
        "in_doubt_low": {"amount": "0", "pico": "0"},
        "in_doubt_high": {"amount": "0", "pico": "0"},
        "assumed_low": {"amount": "0", "pico": "0"},
        "assumed_high": {"amount": "0", "pico": "0"},
        "maybe_billed_high": {"amount": "0", "pico": "0"},
    }  # fmt: skip
    assert document == {
        "schema": "batcher.report/1", "by": ["model"], "since": None, "until": None,
        "timezone": "UTC", "run_id": None,
        "lines": [{"key": {"model": "claude-sonnet-5"}, **figures}], "total": figures,
        "unpriced": [], "assumed": [], "price_books": ["2026-01"],
        "simulated_left_out": False, "simulated_only": False,
        "notes": ["Events: 2 attempts, 2 answers: 2 with a cost, 0 unpriced. Prices: 2026-01.",
                  "Reconciliation: none recorded."],
        "adjusted": {
            "entries": 0, "cost": ZERO, "total": {"USD": figures["cost"]["USD"]}, "lines": [],
            "causes": [], "reconciled_days": [], "reconciled_at": None, "reconciled_by": None,
        },
    }  # fmt: skip


def test_markdown_is_a_table_and_a_list():
    assert render(REPORT, Format.MARKDOWN) == (
        "| Model | Answered | Attempts | Input | Cache write | Cache read | Output | Thinking"
        " | Searches | Cost (USD) | In doubt (USD) | Assumed (USD) | Unpriced |\n"
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |"
        " ---: |\n"
        "| claude-sonnet-5 | 1 | 2 | 1,000 | 0 | 0 | 27 | 0 | 0 | $0.0034 | - | - | 0 |\n"
        "| **Total** | **1** | **2** | **1,000** | **0** | **0** | **27** | **0** | **0**"
        " | **$0.0034** | **-** | **-** | **0** |\n"
        "\n"
        "- Events: 2 attempts, 2 answers: 2 with a cost, 0 unpriced. Prices: 2026-01.\n"
        "- Reconciliation: none recorded.\n"
    )


def test_what_numbers_do_not_tell_is_said_in_sentences():
    report = with_total(
        DOUBTFUL,
        unpriced=(ChargeReason(text="unknown_model", model="other", charges=2),),
        assumed=(ChargeReason(text="cache_lifetime_assumed", model=None, charges=1),),
        simulated_left_out=True,
    )
    assert lay_out(table_of(report), Detail.FULL).sentences == (
        "In doubt: 37 attempts (2 still open) may have been billed without an answer here:"
        " $0.11 to $0.84, not in the cost.",
        "Unpriced: 2 answers (34,000 tokens) have no price and are not in the cost:"
        " unknown model other (2).",
        "Assumed: 1 charge rests on an assumption, $0.02 (in the cost) to $0.03:"
        " cache lifetime assumed (1).",
        "Refused: 3 refused attempts may have been billed even so: $0.00 to $0.50, not in the"
        " cost.",
        "Simulated: this database also holds charges of a simulated endpoint; they are not real"
        " money and in no line of this report.",
        "Events: 39 attempts, 2 answers: 0 with a cost, 2 unpriced. Prices: 2026-01.",
        "Reconciliation: none recorded.",
    )


def test_adjustments_are_lines_of_their_own_below_the_total():
    report = replace(REPORT, adjusted=ADJUSTED)
    totals = lay_out(table_of(report), Detail.NARROW).totals
    assert totals[0] == ("Total", "1", "1,000", "27", "$0.0034")
    assert totals[1:] == (
        ("Adjustments", "", "", "", "$0.0006"), ("As billed", "", "", "", "$0.0040")
    )  # fmt: skip
    assert lay_out(table_of(report), Detail.FULL).sentences == (
        "Adjustments: $0.0006 billed beside these charges, not in the lines: not metered"
        " here $0.001 (1); rate -$0.0004 (2). As billed: $0.004.",
        "Events: 2 attempts, 2 answers: 2 with a cost, 0 unpriced. Prices: 2026-01.",
        "Reconciliation: 2 days, 2026-10-12 to 2026-10-13, 3 adjustments, the last by ana on"
        " build7 at 2026-11-01T00:00:00Z.",
    )


def test_adjustments_stand_in_csv_by_a_word_of_their_own_and_sums_come_out_as_billed():
    records = list(
        csv.DictReader(io.StringIO(render(replace(REPORT, adjusted=ADJUSTED), Format.CSV)))
    )
    assert [each["entry"] for each in records] == ["charges", "adjustments", "adjustments"]
    assert [each["model"] for each in records[1:]] == ["claude-sonnet-5", ""]
    assert sum(int(each["cost_pico_usd"]) for each in records) == 4_000_000_000
    assert {each["requests"] for each in records[1:]} == {"0"}


def test_adjustments_stand_in_json_with_their_causes():
    found = json.loads(render(replace(REPORT, adjusted=ADJUSTED), Format.JSON))["adjusted"]
    assert (found["entries"], found["cost"]["USD"]["pico"]) == (3, "600000000")
    assert found["total"]["USD"]["amount"] == "0.004"
    assert found["lines"][1] == {
        "key": {"model": None}, "entries": 1,
        "cost": {"USD": {"amount": "0.001", "pico": "1000000000"}},
    }  # fmt: skip
    assert [each["cause"] for each in found["causes"]] == ["not metered here", "rate"]
    assert found["reconciled_at"] == "2026-11-01T00:00:00Z"


def test_a_run_says_nothing_of_reconciliation():
    report = replace(REPORT, adjusted=None)
    assert "econcil" not in render(report, Format.TABLE)
    assert json.loads(render(report, Format.JSON))["adjusted"] is None


def test_simulated_money_is_called_so():
    said = render(replace(REPORT, simulated_only=True), Format.TABLE)
    assert "all of these charges are of a simulated endpoint; nobody was billed." in said


def test_without_an_upper_bound_none_is_claimed():
    report = with_total(replace(DOUBTFUL, in_doubt_unbounded=1))
    assert "$0.11 or more" in render(report, Format.TABLE)
    assert "at least $0.11, without an upper bound for 1 attempt" in render(
        report, Format.TABLE
    )
    assert json.loads(render(report, Format.JSON))["total"]["in_doubt_high"] is None
    (record,) = csv.DictReader(io.StringIO(render(report, Format.CSV)))
    assert record["in_doubt_high_usd"] == record["in_doubt_high_pico_usd"] == ""


def test_a_line_without_any_price_costs_nobody_knows_what_and_not_nothing():
    unknown = line("other", costs=(), requests=1, unpriced_requests=1, unpriced_tokens=9)
    report = replace(REPORT, lines=(unknown,))
    assert lay_out(table_of(report), Detail.NARROW).rows == (
        ("other", "1", "0", "0", "unpriced"),
    )
    (record,) = csv.DictReader(io.StringIO(render(report, Format.CSV)))
    assert record["cost_usd"] == ""
    assert json.loads(render(report, Format.JSON))["lines"][0]["cost"] == {}


def test_another_currency_has_its_own_columns():
    both = line("m", costs=(("CRUN", 25 * 10**11), ("USD", 10**12)), requests=2)
    report = replace(REPORT, lines=(both,), total=both, currencies=("USD", "CRUN"))
    assert lay_out(table_of(report), Detail.NARROW).rows == (
        ("m", "2", "0", "0", "$1.00", "2.50 CRUN"),
    )
    (record,) = csv.DictReader(io.StringIO(render(report, Format.CSV)))
    assert (record["cost_usd"], record["cost_crun"]) == ("1", "2.5")


def test_an_empty_report_is_one_sentence():
    empty = Report(query=ReportQuery(), lines=(), total=line(costs=()))
    said = "Nothing was sent, so there is nothing to report.\n"
    assert render(empty, Format.TABLE) == on_terminal(empty, 80) == said
    assert render(empty, Format.MARKDOWN) == f"- {said}"


@pytest.mark.parametrize("form", [Format.TABLE, Format.MARKDOWN])
def test_text_of_a_server_cannot_steer_a_terminal(form):
    evil = line("\x1b[2Jgpt\u202e\x9b31m\r\n|x", requests=1)
    text = render(replace(REPORT, lines=(evil,), price_books=("\x07",)), form)
    assert not set(text) & set("\x1b\u202e\x9b\r\x07")
    assert len(text.splitlines()) == len(render(REPORT, form).splitlines())


def test_rich_takes_no_orders_from_a_model_name():
    evil = line("[red]:smile:[/red]", requests=1)
    table = on_terminal(replace(REPORT, lines=(evil,)), 80)
    assert "[red]:smile:[/red]" in table


def test_a_formula_in_a_csv_cell_is_only_text():
    query = ReportQuery(by=parse_dimensions(("tag:=cmd()", "run")))
    evil = ReportLine(key=("=1+1", -3), label=("", ""), counts=Counts(), costs=())
    text = render(replace(REPORT, query=query, lines=(evil,)), Format.CSV)
    assert text.splitlines()[1].startswith("'=1+1,-3,0")


def test_a_window_of_time_is_told():
    query = ReportQuery(since=0, until=86_400_000_000)
    sentences = lay_out(table_of(replace(REPORT, query=query)), Detail.FULL).sentences
    assert sentences[0] == "Sent from 1970-01-01T00:00:00Z before 1970-01-02T00:00:00Z."


@given(st.text())
def test_safe_text_is_one_line_without_controls_and_as_long(text):
    safe = safe_text(text)
    assert len(safe) == len(text)
    assert len(safe.splitlines()) <= 1
    assert not any(ord(char) < 32 or 127 <= ord(char) < 160 for char in safe)


@given(st.text() | st.text(" \u00a0\u3000=1"))
@example("  =1+1")
@example("\u00a0@SUM(A1)")
def test_no_csv_text_begins_like_a_formula(text):
    assert not csv_text(text).lstrip().startswith(("=", "+", "-", "@"))
    assert not csv_text(text).startswith(("\t", "\r"))
    assert csv_text(text).removeprefix("'") == text.removeprefix("'")


@pytest.mark.parametrize("sign", ["\x1b", "\x9b", "\x85", "\u202e", "\u2066", "\u200f"])
def test_what_would_steer_a_terminal_is_a_visible_sign(sign):
    assert safe_text(f"a{sign}b") in {"a\u241bb", "a\ufffdb"}


@given(st.text(), st.integers(1, 30))
def test_shortened_text_fits(text, length):
    assert len(shorten(text, length)) <= length


def test_the_types_of_a_parquet_file_do_not_depend_on_what_is_in_it(tmp_path):
    fields = (
        Field("custom_id", "custom_id", Unit.TEXT),
        Field("run", "Run", Unit.NUMBER),
        Field("cost", "Cost", Unit.MONEY),
    )
    for rows in ((), ((None, None, None),)):
        with (tmp_path / "t.parquet").open("wb") as file:
            write_parquet(Table(name="top", fields=fields, rows=rows), file)
        types = pq.read_schema(tmp_path / "t.parquet").types
        assert [str(each) for each in types] == ["string", "int64", "decimal128(38, 12)"]
