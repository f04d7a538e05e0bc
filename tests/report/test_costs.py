import json
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pricing.money import PICO, decimal_text
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.render.formats import Format, render
from batcher.report.table import Named
from batcher.report.views.catalogue import View, look
from batcher.report.views.costs import exact_usd
from tests.report.ledger_rows import NOON
from tests.report.months import RATES
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

MODEL = "claude-opus-5-5"
NAMES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
OCTOBER = {"sent_at": NOON + 290 * 86_400_000_000}  # the model has public prices then
USED = (1000, 0, 0, 500, 200, 0)  # 0.004 + 0.0001 + 0.004 USD in public
PUBLIC = 8_100_000_000


@pytest.fixture
def here(rows):
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1)
    return rows


def one(
    rows, number=1, *, part=Fraction(1), used=USED, model=MODEL, reported=None, usage="{}",
    **terms,
):  # fmt: skip
    """An answer of October at a part of the public rates, and what its provider reported."""
    rates = [int(rate * part) for rate in RATES[MODEL]]
    rate_set = rows.rate_set(
        model=model, valid_from=f"2026-01-{number:02}",
        **dict(zip((f"{name}_rate" for name in NAMES), rates, strict=True)), **terms,
    )  # fmt: skip
    amounts = [quantity * rate for quantity, rate in zip(used, rates, strict=True)]
    attempt = rows.answer(
        1, 1, number, model=model, attempt=OCTOBER, provider_reported_cost=reported,
        usage=usage,
    )  # fmt: skip
    rows.charge(
        attempt, sum(amounts), model=model, rate_set_id=rate_set,
        currency=terms.get("currency", "USD"),
        **dict(zip((f"{name}_quantity" for name in NAMES), used, strict=True)),
        **dict(zip((f"{name}_amount" for name in NAMES), amounts, strict=True)),
    )  # fmt: skip
    return attempt


def seen(engine, *words):
    table = look([engine], ReportQuery(by=parse_dimensions(words)), View.COSTS)
    names = [field.name for field in table.fields]
    rows = [
        dict(zip(names, (c.value if isinstance(c, Named) else c for c in row), strict=True))
        for row in (*table.rows, *table.totals)
    ]
    return rows, table


@BOTH
def test_list_charged_and_reported_stand_beside_each_other(here, engine):
    one(here, part=Fraction(3, 4), reported="0.0065")
    (row, total), _ = seen(engine)
    assert (row["list_cost"], row["cost"]) == (PUBLIC, PUBLIC * 3 // 4)
    assert row["cost_less_list"] == -PUBLIC // 4
    assert row["cost_less_list_share"] == Fraction(-1, 4)
    assert (row["reported_answers"], row["reported_cost"]) == (1, 6_500_000_000)
    assert row["reported_less_cost"] == 6_500_000_000 - PUBLIC * 3 // 4
    assert total | {"model": None} == row | {"model": None}


def test_what_nobody_reported_is_not_compared_with_nothing(here, engine):
    one(here, 1, reported="0.0081")
    one(here, 2)
    (row, _), _ = seen(engine)
    assert (row["cost"], row["cost_of_reported"]) == (2 * PUBLIC, PUBLIC)
    assert (row["reported_answers"], row["reported_less_cost"]) == (1, 0)


def test_without_any_report_the_columns_are_not_there(here, engine):
    one(here)
    (row, _), table = seen(engine)
    assert row["reported_cost"] is row["reported_less_cost"] is None
    assert "Reported" not in render(table, Format.TABLE)
    assert "No provider reported a cost." in table.sentences


def test_a_model_without_a_public_price_has_no_difference_to_it(here, engine):
    one(here, model="house-model")
    (row, _), table = seen(engine)
    assert (row["list_cost"], row["cost_less_list"], row["cost"]) == (None, None, PUBLIC)
    assert "Without a public price: 1 charge." in table.sentences


def test_a_batch_is_held_against_the_public_batch_price(here, engine):
    one(here, part=Fraction(1, 2), terms="batch")
    (row, _), _ = seen(engine)
    assert (row["list_cost"], row["cost_less_list"]) == (PUBLIC // 2, 0)


def test_credits_are_no_dollars(here, engine):
    one(here, currency="CRUN", price_list="crun", reported="0.5")
    rows, table = seen(engine)
    by_currency = {row["currency"]: row for row in rows[:2]}
    assert by_currency["CRUN"]["list_cost"] is by_currency["CRUN"]["reported_cost"] is None
    assert by_currency["USD"]["reported_cost"] == PICO // 2
    assert by_currency["USD"]["reported_less_cost"] is None
    assert any(
        said.startswith("Reported and not compared: 1 answer") for said in table.sentences
    )


def test_the_public_tier_of_a_long_prompt_is_taken_though_ours_has_none(here, engine):
    one(here, model="claude-haiku-5-5", used=(100_001, 0, 0, 0, 0, 0))
    one(here, 2, model="claude-haiku-5-5", used=(100_000, 0, 0, 0, 0, 0))
    (row, _), _ = seen(engine)
    assert row["list_cost"] == 100_001 * 500_000 + 100_000 * 100_000


def test_several_usage_lines_of_an_answer_are_one_reported_cost(here, engine):
    attempt = one(here, reported="0.0081")
    here.charge(attempt, 5, line=1, rate_set_id=1, model=MODEL, input_quantity=0,
                output_quantity=0)  # fmt: skip
    (row, _), _ = seen(engine)
    assert (row["cost_of_reported"], row["reported_answers"]) == (PUBLIC + 5, 1)


def test_refusals_are_free_and_unknown_prices_are_told(here, engine):
    one(here, reported="1")
    free = here.answer(1, 1, 2, model=MODEL, provider_reported_cost="0")
    here.charge(free, 0, status="unbilled", currency=None)
    here.charge(here.answer(1, 1, 3, provider_reported_cost="2"), None)
    rows, table = seen(engine)
    assert (rows[-1]["reported_cost"], rows[-1]["reported_less_cost"]) == (
        3 * PICO,
        PICO - PUBLIC,
    )
    assert "Without a price here: 1 charge." in table.sentences


def byok(cost, upstream, *, said=True):
    """Usage as a gateway has it that asked the provider with our own key."""
    details = {"upstream_inference_cost": upstream}
    return json.dumps({"cost": cost, "is_byok": said, "cost_details": details})


@BOTH
def test_a_cost_of_0_by_an_own_key_is_the_fee_of_the_gateway(here, engine):
    one(here, 1, reported="0", usage=byok(0, 0.0081))
    one(here, 2, reported="0.0004", usage=byok(0.0004, 0.008))
    one(here, 3, reported="0", usage=byok(0, None))
    one(here, 4, reported="0.0081", usage=byok(0.0081, 0.0081, said=False))
    (row, _), table = seen(engine)
    assert (row["reported_answers"], row["reported_cost"]) == (3, 24_600_000_000)
    assert (row["own_key_answers"], row["own_key_cost"]) == (3, 16_100_000_000)
    assert row["reported_less_cost"] == 24_600_000_000 - 3 * PUBLIC
    said = (
        "By an own key, and the provider's bill not stated: 1 answer, not in what is reported."
    )
    assert said in table.sentences


@pytest.mark.parametrize("zero", ["0", "0.0", "0e-9"])
def test_a_cost_of_0_beside_one_of_ours_is_not_free_of_charge(here, engine, zero):
    one(here, 1, reported=zero)
    here.charge(here.answer(1, 1, 2, provider_reported_cost=zero), None)
    (row, *_), table = seen(engine)
    assert row["reported_cost"] is row["reported_less_cost"] is None
    (said,) = [line for line in table.sentences if line.startswith("Reported as 0: 2 answers")]
    assert "not taken as free of charge" in said


@pytest.mark.parametrize("text", ["", "free", "NaN", "Infinity", "-1", "1e999999999"])
def test_what_is_no_amount_is_told_and_not_added(here, engine, text):
    one(here, reported=text)
    (row, _), table = seen(engine)
    assert row["reported_cost"] is None
    assert "Reported, and no amount: 1 answer." in table.sentences


@given(st.decimals(0, 10**9, places=15))
def test_any_decimal_is_read_exactly_however_it_is_written(number):
    exact = Fraction(number) * PICO
    assert exact_usd(f"{number:f}") == exact_usd(f"{number:e}") == exact
    assert exact_usd(decimal_text(exact / PICO)) == exact


@BOTH
def test_dimensions_and_formats_are_those_of_every_view(here, engine):
    one(here, reported="1.5e-05")
    _, table = seen(engine, "job", "day")
    text = render(table, Format.CSV)
    assert text.startswith("job,day,currency,list_cost,list_cost_pico,cost,cost_pico,")
    assert "0.000015,15000000" in text
    assert text == render(seen(engine, "job", "day")[1], Format.CSV)
