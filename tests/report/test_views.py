from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import UsageError
from batcher.ledger.connect import open_engine
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.render.formats import Format, render
from batcher.report.render.text_table import cell_text, time_text
from batcher.report.table import Named, Unit
from batcher.report.views.catalogue import View, look
from batcher.report.views.spread import Numbers
from tests.report.ledger_rows import MICRO_USD, NOON, SECOND
from tests.report.months import RATES

SONNET = "claude-sonnet-5"
OWN_LINES = (View.TOP, View.PREFIXES)


@pytest.fixture
def here(rows):
    """A run with one invocation and one source, all numbered 1."""
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1)
    return rows


def seen(engine, view, *words, top=20, **fields):
    """The rows of a view as dictionaries, and its totals."""
    query = ReportQuery(by=parse_dimensions(words), **fields)
    table = look([engine], query, view, top=top)
    names = [field.name for field in table.fields]
    plain = [
        [
            dict(zip(names, (c.value if isinstance(c, Named) else c for c in row), strict=True))
            for row in rows
        ]
        for rows in (table.rows, table.totals)
    ]
    return plain[0], plain[1], table


def test_waste_tells_cut_off_refused_discarded_late_and_in_doubt_apart(here, engine):
    here.charge(here.answer(1, 1, 1), 100)
    here.charge(here.answer(1, 1, 2, stop_reason="max_tokens"), 20)
    here.charge(here.answer(1, 1, 3, stop_reason="refusal"), 3)
    raised = here.answer(1, 1, 4, stop_reason="max_tokens", final=0)
    here.charge(raised, 40)
    here.charge(here.answer(1, 1, 4, attempt={"request_id": raised}), 80)
    here.charge(here.answer(1, 1, 5, attempt={"state": "late"}, final=0), 7)
    here.attempt(1, 1, 6, state="unknown", cost_low=1, cost_high=9)
    rows, (total,), _ = seen(engine, View.WASTE)
    assert [(r["waste"], r["attempts"], r["cost"], r["cost_at_most"]) for r in rows] == [
        ("truncated", 1, 20, 20), ("refused", 1, 3, 3), ("discarded", 1, 40, 40),
        ("late", 1, 7, 7), ("in doubt", 1, 1, 9),
    ]  # fmt: skip
    assert (total["cost"], total["cost_at_most"]) == (71, 79)
    assert rows[0]["share"] == Fraction(20, 251)  # what is in doubt is on both sides
    assert rows[4]["share"] == Fraction(1, 251)


def test_waste_has_the_upper_end_of_what_is_assumed_and_of_what_was_refused(here, engine):
    here.charge(
        here.answer(1, 1, 1, stop_reason="max_tokens"), 20, status="assumed", high_amount=90
    )
    late = here.answer(1, 1, 2, attempt={"state": "late"}, final=0)
    here.charge(late, 7, status="assumed", high_amount=8)
    here.attempt(1, 1, 3, state="rejected", cost_high=50)
    here.attempt(1, 1, 4, state="rejected", cost_high=0)
    rows, (total,), _ = seen(engine, View.WASTE)
    assert [(r["waste"], r["attempts"], r["cost"], r["cost_at_most"]) for r in rows] == [
        ("truncated", 1, 20, 90), ("late", 1, 7, 8), ("maybe billed", 1, 0, 50),
    ]  # fmt: skip
    assert (total["cost"], total["cost_at_most"]) == (27, 148)


def test_earlier_legs_are_no_waste(here, engine):
    here.charge(here.answer(1, 1, final=0, stop_reason="pause_turn"), 5)
    here.charge(here.answer(1, 1, final=0, stop_reason="tool_use"), 5)
    rows, totals, table = seen(engine, View.WASTE)
    assert (rows, totals) == ([], [])
    assert table.sentences[0].startswith("Nothing was wasted")


def test_waste_without_a_bound_has_no_largest_cost(here, engine):
    here.attempt(1, 1, state="unknown", cost_low=1, cost_high=None)
    here.attempt(1, 1, 2, state="open", cost_low=0, cost_high=5)
    (row,), _, _ = seen(engine, View.WASTE)
    assert (row["attempts"], row["cost"], row["cost_at_most"]) == (2, 1, None)


def test_waste_of_unknown_cost_is_not_free(here, engine):
    here.charge(here.answer(1, 1, 1, stop_reason="refusal"), None)
    (row,), _, table = seen(engine, View.WASTE)
    assert (row["attempts"], row["cost"], row["cost_at_most"]) == (1, None, None)
    assert "Of unknown cost, and not in these: 1 answer without a price." in table.sentences


def with_rates(rows, number, used, model="claude-opus-5-5"):
    """An answer charged at real rates for (input, write 5m, write 1h, read, output)."""
    rates = RATES[model]
    names = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
    amounts = [quantity * rate for quantity, rate in zip(used, rates, strict=False)]
    attempt = rows.answer(1, 1, number, model=model)
    rows.charge(
        attempt,
        sum(amounts),
        model=model,
        rate_set_id=1,
        **dict(zip((f"{n}_quantity" for n in names), used, strict=True)),
        **dict(zip((f"{n}_amount" for n in names), amounts, strict=True)),
    )


def rate_set_of(rows, model="claude-opus-5-5"):
    names = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
    rates = zip((f"{n}_rate" for n in names), RATES[model], strict=True)
    rows.rate_set(model=model, **dict(rates))


def test_what_the_cache_saved_is_worked_out_at_the_rates_paid(here, engine):
    rate_set_of(here)  # input 4, write 5, read 0.20 USD per million
    with_rates(here, 1, (100, 1000, 0, 0, 10))
    with_rates(here, 2, (100, 0, 0, 1000, 10))
    (row,), _, _ = seen(engine, View.CACHE)
    assert row["hit_rate"] == Fraction(1000, 2200)
    assert row["saved_by_reads"] == 1000 * (4_000_000 - 200_000)
    assert row["paid_for_writes"] == 1000 * (5_000_000 - 4_000_000)
    assert row["saved"] == row["saved_by_reads"] - row["paid_for_writes"]
    assert row["missed_at_most"] == 200 * (4_000_000 - 200_000)


def test_a_cache_that_is_never_read_costs_money(here, engine):
    rate_set_of(here)
    with_rates(here, 1, (0, 0, 1000, 0, 10))
    rows, (total,), table = seen(engine, View.CACHE)
    assert rows[0]["saved"] == total["saved"] == -1000 * 4_000_000
    assert "-$0.004" in render(table, Format.TABLE)


def test_tokens_without_a_price_count_for_the_hit_rate_only(here, engine):
    here.charge(here.answer(1, 1), None, cache_read_quantity=30)
    (row,), _, table = seen(engine, View.CACHE)
    assert (row["hit_rate"], row["saved"], row["missed_at_most"]) == (Fraction(3, 4), 0, 0)
    assert table.sentences[-1].startswith("Without a price, so in tokens and hit rate only: 1")


def test_latency_is_told_by_ranks_that_occur(here, engine):
    for number in range(1, 21):
        here.answer(1, 1, number, latency_us=number * SECOND, output_tokens=100,
                    first_token_us=SECOND // 2 if number > 10 else None,
                    answered_at=NOON + number * SECOND)  # fmt: skip
    (row,), (total,), table = seen(engine, View.LATENCY)
    assert (row["latency_p50"], row["latency_p95"]) == (10 * SECOND, 19 * SECOND)
    assert (row["latency_max"], row["first_token_p95"]) == (20 * SECOND, SECOND // 2)
    assert row["tokens_per_second_p5"] == Fraction(5405, 1000)  # 100 tokens in 18.5 s
    assert total["answers"] == 20
    assert "19.0 s" in render(table, Format.TABLE)


def test_a_row_costs_all_of_its_legs_and_late_answers(here, engine):
    first = here.answer(1, 1, 1, final=0, stop_reason="pause_turn")
    same = {"request_id": first}
    here.charge(first, 5 * MICRO_USD)
    last = here.answer(1, 1, 1, attempt=same)
    here.charge(last, 10 * MICRO_USD)
    here.charge(last, 1 * MICRO_USD, line=1)
    here.charge(here.answer(1, 1, 1, attempt=same | {"state": "late"}, final=0), MICRO_USD)
    here.charge(here.answer(1, 1, 2, stop_reason="max_tokens"), 3 * MICRO_USD)
    (row,), _, _ = seen(engine, View.UNITS)
    assert (row["answered"], row["cost"]) == (2, 20 * MICRO_USD)
    assert row["cost_per_1000_answered"] == 10_000 * MICRO_USD
    assert row["cost_per_1000_complete"] == 20_000 * MICRO_USD
    assert (row["p50"], row["max"]) == (3 * MICRO_USD, 17 * MICRO_USD)


def test_rows_without_a_price_are_left_out_of_unit_costs_and_told(here, engine):
    here.charge(here.answer(1, 1, 1), None)
    here.answer(1, 1, 2)
    here.charge(here.answer(1, 1, 3), 8)
    (row,), _, table = seen(engine, View.UNITS)
    assert row["answered"] == 1
    assert "Left out: 2 answered rows that have no price." in table.sentences


def test_currencies_are_never_mixed(here, engine):
    here.charge(here.answer(1, 1, 1), 8)
    here.charge(here.answer(1, 1, 2), 9, currency="CRUN_CREDIT")
    rows, totals, table = seen(engine, View.UNITS)
    assert [(r["currency"], r["cost"]) for r in rows] == [("CRUN_CREDIT", 9), ("USD", 8)]
    assert [t["currency"] for t in totals] == ["CRUN_CREDIT", "USD"]
    assert "Currency" in render(table, Format.MARKDOWN)


def test_the_dearest_rows_come_first_and_equal_ones_in_order(here, engine):
    for number, cost in enumerate((5, 9, 1, 9), 1):
        here.charge(here.answer(1, 1, number), cost)
    rows, _, _ = seen(engine, View.TOP, top=3)
    assert [(r["row_number"], r["cost"]) for r in rows] == [(2, 9), (4, 9), (1, 5)]
    assert rows[0]["share"] == Fraction(9, 24)
    assert (rows[0]["source"], rows[0]["custom_id"]) == ("rows.jsonl", "row-2")


def test_what_is_assumed_has_both_ends_in_unit_costs_and_among_the_dearest(here, engine):
    assumed = {"status": "assumed", "reason": "searches_not_reported"}
    here.charge(here.answer(1, 1, 1), 5 * MICRO_USD)
    here.charge(here.answer(1, 1, 2), MICRO_USD, **assumed, high_amount=9 * MICRO_USD)
    first = here.answer(1, 1, 3, final=0, stop_reason="pause_turn")
    here.charge(first, 2 * MICRO_USD, **assumed, high_amount=4 * MICRO_USD)
    here.charge(here.answer(1, 1, 3, attempt={"request_id": first}), MICRO_USD)
    (row,), (total,), table = seen(engine, View.UNITS)
    assert (row["cost"], row["cost_at_most"]) == (9 * MICRO_USD, 19 * MICRO_USD)
    assert row["cost_per_1000_at_most"] == Fraction(19_000 * MICRO_USD, 3)
    assert total["cost_at_most"] == row["cost_at_most"]
    assert any(each.startswith("Assumed: the cost of 2 rows rest") for each in table.sentences)
    rows, _, _ = seen(engine, View.TOP)
    ends = [(r["row_number"], r["cost"], r["cost_at_most"]) for r in rows]
    assert ends == [(2, MICRO_USD, 9 * MICRO_USD), (1, 5 * MICRO_USD, None),
                    (3, 3 * MICRO_USD, 5 * MICRO_USD)]  # fmt: skip


@pytest.mark.parametrize("view", list(View))
def test_every_view_of_nothing_says_so(rows, engine, view):
    found, totals, table = seen(engine, view)
    assert (found, totals) == ([], [])
    assert table.sentences == ("Nothing was sent, so there is nothing to report.",)


@pytest.mark.parametrize("view", [v for v in View if v not in OWN_LINES])
def test_every_view_takes_every_dimension(here, engine, view):
    here.charge(here.answer(1, 1, 1, stop_reason="max_tokens"), 8)
    words = ("model", "requested_model", "stop_reason", "hour", "week", "run", "invocation",
             "job", "endpoint", "lane", "source", "tag:team")  # fmt: skip
    (row,), _, _ = seen(engine, view, *words)
    assert [row[word] for word in ("run", "job", "lane", "hour", "tag:team")] == [
        1, "nightly", "live", "2026-01-05T12:00+00:00", None,
    ]  # fmt: skip


def test_the_untagged_have_a_line_of_their_own(here, engine):
    here.invocation(1, tags='{"team":"search"}')
    here.charge(here.answer(1, 1, 1), 8)
    here.charge(here.answer(2, 1, 2), 9)
    _, _, table = seen(engine, View.UNITS, "tag:team")
    text = render(table, Format.TABLE)
    assert [line.split()[0] for line in text.splitlines()[2:4]] == ["search", "(untagged)"]


def test_a_window_and_a_run_hold_for_views_too(here, engine):
    here.charge(here.answer(1, 1, 1), 8)
    assert seen(engine, View.UNITS, until=NOON)[0] == []
    with pytest.raises(UsageError, match="there is no run 5"):
        seen(engine, View.UNITS, run=5)


def test_simulated_charges_stay_out_beside_real_ones(here, engine):
    here.invocation(1, simulated=1)
    here.charge(here.answer(1, 1, 1), 8)
    here.charge(here.answer(2, 1, 2), 9)
    (row,), _, table = seen(engine, View.UNITS)
    assert row["cost"] == 8
    assert any(sentence.startswith("Simulated: ") for sentence in table.sentences)


def test_a_valid_answer_costs_all_that_was_paid_for_rows_with_a_schema(here, engine):
    here.charge(here.answer(1, 1, 1, valid=1), 10)
    invalid = here.answer(1, 1, 2, valid=0, final=0)
    here.charge(invalid, 4)
    here.charge(here.answer(1, 1, 2, valid=1, attempt={"request_id": invalid}), 6)
    here.charge(here.answer(1, 1, 3, valid=0), 7)  # kept all the same
    here.charge(here.answer(1, 1, 4), 1000)  # no schema was asked for
    (row,), (total,), table = seen(engine, View.UNITS)
    assert (row["answered"], row["valid"]) == (4, 2)
    assert row["cost_per_valid"] == total["cost_per_valid"] == Fraction(27, 2)
    assert any(said.startswith("Per valid answer") for said in table.sentences)


def test_rows_given_up_for_invalid_answers_cost_and_are_no_answer(here, engine):
    here.charge(here.answer(1, 1, 1, valid=1), 10)
    given_up = here.answer(1, 1, 2, valid=0, final=0)
    here.charge(given_up, 4)
    here.charge(here.answer(1, 1, 2, valid=0, final=0, attempt={"request_id": given_up}), 3)
    here.charge(here.answer(1, 1, 3, final=0, stop_reason="max_tokens"), 50)  # no such row
    (row,), _, _ = seen(engine, View.UNITS)
    assert (row["answered"], row["cost"], row["valid"], row["cost_per_valid"]) == (1, 10, 1, 17)
    assert len(seen(engine, View.TOP)[0]) == 1


def test_without_any_valid_answer_nobody_knows_what_one_costs(here, engine):
    here.charge(here.answer(1, 1, 1, valid=0, final=0), 10)
    (row,), _, _ = seen(engine, View.UNITS)
    assert (row["answered"], row["valid"], row["cost_per_valid"]) == (0, 0, None)
    assert row["p50"] is None


def test_where_no_schema_was_asked_for_no_column_speaks_of_one(here, engine):
    here.charge(here.answer(1, 1, 1), 10)
    (row,), _, table = seen(engine, View.UNITS)
    assert row["valid"] is row["cost_per_valid"] is None
    assert "alid" not in render(table, Format.TABLE)


def test_formats_for_programs_are_exact(here, engine):
    here.charge(here.answer(1, 1, 1), 1)
    _, _, table = seen(engine, View.UNITS)
    assert render(table, Format.CSV).splitlines()[1] == (
        "claude-sonnet-5,USD,1,0.000000000001,1,,,0.000000001,1000,,,0.000000001,1000,"
        "0.000000000001,1,0.000000000001,1,0.000000000001,1,0.000000000001,1,,,"
    )
    text = render(table, Format.JSON)
    assert '"cost": {\n        "amount": "0.000000000001",\n        "pico": "1"\n' in text


def test_a_name_that_would_be_a_formula_is_none_in_a_spreadsheet(here, engine):
    here.charge(here.answer(1, 1, 1, model="=1+1"), 1)
    _, _, table = seen(engine, View.UNITS)
    assert render(table, Format.CSV).splitlines()[1].startswith("'=1+1,")


def test_two_ledgers_are_one_and_their_runs_stay_apart(here, engine, second_url):
    other = type(here)(second_url)
    other.run()
    other.invocation(1)
    other.source(1)
    other.charge(other.answer(1, 1, 1), 5)
    here.charge(here.answer(1, 1, 1), 8)
    other.engine.dispose()
    second = open_engine(second_url, read_only=True)
    both = [engine, second]
    by_run = look(both, ReportQuery(by=parse_dimensions(("run",))), View.UNITS)
    together = look(both, ReportQuery(), View.UNITS)
    second.dispose()
    assert len(by_run.rows) == 2
    assert together.rows[0][3] == 13


@given(st.lists(st.integers(0, 10**18), min_size=1))
def test_a_percentile_is_a_number_that_occurs_and_enough_do_not_exceed_it(numbers):
    found = Numbers()
    for number in numbers:
        found.take(number)
    spread = found.spread()
    for percent, found in ((50, spread.p50), (95, spread.p95)):
        assert found in numbers
        assert sum(n <= found for n in numbers) * 100 >= percent * len(numbers)
        assert sum(n < found for n in numbers) * 100 < percent * len(numbers)
    assert spread.p50 <= spread.p95 <= spread.largest


def test_cells_for_people():
    assert [time_text(n) for n in (0, 1500, 9_999_999, 65_000_000, 7_500_000_000)] == [
        "0 ms", "2 ms", "10,000 ms", "65.0 s", "2 h 05 min",
    ]  # fmt: skip
    assert cell_text(Fraction(-1, 3), Unit.SHARE) == "-33.3 %"
    assert cell_text(None, Unit.MONEY) == "-"
    assert cell_text("a\x1b[31m", Unit.TEXT) == "a\N{SYMBOL FOR ESCAPE}[31m"


def test_invalid_answers_are_waste_whether_they_are_kept_or_not(here, engine):
    here.charge(here.answer(1, 1, 1, valid=1), 100)
    here.charge(here.answer(1, 1, 2, valid=0, output_tokens=9), 7)  # kept all the same
    again = here.answer(1, 1, 3, valid=0, final=0)
    here.charge(again, 4)
    here.charge(here.answer(1, 1, 3, valid=1, attempt={"request_id": again}), 6)
    here.charge(here.answer(1, 1, 4, valid=0, stop_reason="max_tokens"), 2)
    here.charge(here.answer(1, 1, 5, valid=0, stop_reason="refusal"), None)
    rows, (total,), _ = seen(engine, View.WASTE)
    assert [(r["waste"], r["attempts"], r["cost"], r["output_tokens"]) for r in rows] == [
        ("truncated", 1, 2, 5), ("refused", 1, None, 5), ("invalid", 2, 11, 14),
    ]  # fmt: skip
    assert total["share"] == Fraction(13, 119)


@pytest.mark.parametrize("since", [NOON, NOON + 1])
def test_waste_of_a_window_is_the_same_from_sums_and_from_answers(here, engine, since):
    early, late = {"sent_at": NOON - 1}, {"sent_at": NOON + 1}
    for moment in (early, late):
        first = here.answer(1, 1, 1, stop_reason="refusal", final=0, attempt=moment)
        here.charge(first, 3)
        here.charge(here.answer(1, 1, 1, stop_reason="max_tokens", attempt=moment), 5)
    query = ReportQuery(since=since)
    table = look([engine], query, View.WASTE)
    assert [(row[1], row[2], row[5]) for row in table.rows] == [
        ("truncated", 1, 5), ("discarded", 1, 3),
    ]  # fmt: skip
