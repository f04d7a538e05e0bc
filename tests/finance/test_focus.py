import csv
import io
import json
import re
from datetime import datetime
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.finance.focus.columns import MANDATORY, Grain, Version, columns_of
from batcher.finance.focus.write import FocusOptions, write_focus
from batcher.ledger.connect import open_engine
from batcher.pricing.money import PICO
from batcher.report.query import Dimension, Kind, ReportQuery
from batcher.report.summary import summarise
from tests.report.ledger_rows import NOON
from tests.report.months import RATES, Buffered, filled
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401
from tests.report.test_adjusted import book

MODEL = "claude-opus-5-5"
NAMES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
MAY_BE_NULL = {"ChargeClass"}


def written(engine, grain=Grain.HOUR, version=Version.V1_2, account=None, **query):
    """The rows of a file as dictionaries, and what is told about the others."""
    stream = io.StringIO()
    options = FocusOptions(grain=grain, version=version, account=account)
    said = write_focus([engine], ReportQuery(**query), options, stream)
    return list(csv.DictReader(io.StringIO(stream.getvalue()))), said


def total(rows, column="BilledCost"):
    return sum((Fraction(row[column]) for row in rows), Fraction(0))


def one(rows, used, model=MODEL, rates=None, number=1, **fields):
    """An answer charged at `rates`, the real ones of the model unless given."""
    rates = rates or RATES[model]
    named = dict(zip((f"{name}_rate" for name in NAMES), rates, strict=True))
    rate_set = rows.rate_set(
        model=model, terms=fields.pop("terms", "standard"), valid_from=f"2026-01-{number:02}",
        **named,
    )  # fmt: skip
    amounts = [quantity * rate for quantity, rate in zip(used, rates, strict=True)]
    about = {"attempt": fields.pop("attempt", {}), **fields.pop("answer", {})}
    attempt = rows.answer(1, 1, number, model=model, **about)
    rows.charge(
        attempt, sum(amounts), model=model, rate_set_id=rate_set,
        **dict(zip((f"{name}_quantity" for name in NAMES), used, strict=True)),
        **dict(zip((f"{name}_amount" for name in NAMES), amounts, strict=True)),
        **fields,
    )  # fmt: skip


def test_without_a_workspace_the_key_is_the_sub_account(rows, engine):
    rows.run()
    rows.source(1)
    for number, key in enumerate(("aa11", "bb22"), 1):
        rows.invocation(1, key_fingerprint=key)
        one(rows, (50, 0, 0, 0, 5, 0), number=number)
        rows.charge(rows.answer(number, 1, 9 + number, model=MODEL), None)
    found, _ = written(engine)
    assert {(r["SubAccountId"], r["SubAccountType"]) for r in found} == {("aa11", "API Key")}
    assert {r["x_KeyFingerprint"] for r in found} == {"aa11"}


def test_a_workspace_is_a_sub_account_and_no_two_are_added_up(here, engine):
    one(here, (100, 0, 0, 0, 10, 0), attempt={"workspace_id": "wrkspc_1"})
    one(here, (50, 0, 0, 0, 5, 0), number=2, attempt={"workspace_id": "wrkspc_2"})
    one(here, (50, 0, 0, 0, 5, 0), number=3)
    rows, _ = written(engine)
    named = {(r["SubAccountId"], r["SubAccountType"]) for r in rows}
    assert named == {("wrkspc_1", "Workspace"), ("wrkspc_2", "Workspace"), ("", "")}
    by = summarise([engine], ReportQuery(by=(Dimension(Kind.WORKSPACE),)))
    assert [line.key for line in by.lines] == [("wrkspc_1",), ("wrkspc_2",), (None,)]
    assert by.lines[2].label == ("(not told)",)
    assert (
        sum(line.cost() for line in by.lines) == summarise([engine], ReportQuery()).total.cost()
    )


@BOTH
def test_what_our_own_key_paid_is_not_on_the_invoice_of_the_gateway(rows, engine):
    rows.run()
    rows.invocation(1, endpoint="openrouter")
    rows.source(1)
    usage = '{"is_byok": true,"cost":0}'
    one(rows, (100, 0, 0, 0, 0, 0), answer={"usage": usage, "provider_reported_cost": "0"})
    one(rows, (100, 0, 0, 0, 0, 0), number=2, answer={"provider_reported_cost": "0.004"})
    found, _ = written(engine)
    assert [r["InvoiceIssuerName"] for r in found] == ["OpenRouter", "OpenRouter (own key)"]
    assert total(found) == Fraction(200 * RATES[MODEL][0], PICO)
    single, _ = written(engine, Grain.REQUEST)
    assert {(r["ProviderName"], r["x_ReportedByProvider"]) for r in single} == {
        ("OpenRouter (own key)", "0"),
        ("OpenRouter", "0.004"),
    }


def test_code_execution_is_use_of_its_own_and_the_file_adds_up_to_the_invoice(here, engine):
    one(here, (100, 0, 0, 0, 10, 0))
    about = {"model": None, "cause": "not metered here", "kind": "code_execution"}
    book(here, 1_230_000_000_007, **about)
    book(here, -30_000_000_000, newest=1, **about)
    book(here, 5, newest=2)
    rows, _ = written(engine)
    charges = 100 * RATES[MODEL][0] + 10 * RATES[MODEL][4]
    assert total(rows) == Fraction(charges + 1_200_000_000_012, PICO)
    (used,) = [row for row in rows if row["SkuMeter"] == "Code Execution"]
    assert (used["ChargeCategory"], used["SkuId"]) == ("Usage", "anthropic:code_execution")
    assert (used["PricingQuantity"], used["PricingUnit"]) == ("24.60000000014", "Hours")
    price = Fraction(used["ContractedUnitPrice"]) * Fraction(used["PricingQuantity"])
    assert price == Fraction(used["BilledCost"]) == Fraction(used["ListCost"])
    others = [row for row in rows if row["ChargeCategory"] == "Adjustment"]
    assert [total([row]) for row in others] == [Fraction(-3, 100), Fraction(5, PICO)]


def test_both_ends_of_what_is_assumed_add_up(here, engine):
    one(here, (100, 0, 0, 0, 10, 0))
    one(here, (50, 0, 0, 0, 5, 0), number=2, status="assumed", high_amount=PICO)
    one(here, (0, 0, 0, 0, 0, 0), number=3, status="assumed", high_amount=PICO)
    rows, _ = written(engine)
    low, above = total(rows), total([r for r in rows if r["x_AssumedAbove"]], "x_AssumedAbove")
    sure = (100 + 50) * RATES[MODEL][0] + (10 + 5) * RATES[MODEL][4]
    assert low == Fraction(sure, PICO)
    assert low + above == Fraction(100 * RATES[MODEL][0] + 10 * RATES[MODEL][4], PICO) + 2
    assert {r["x_CostStatus"] for r in rows if r["x_AssumedAbove"]} == {"assumed"}
    report = summarise([engine], ReportQuery()).total
    assert report.cost() == sure
    assert report.counts.assumed_high == 2 * PICO


@pytest.fixture
def here(rows):
    rows.run(job="nightly")
    rows.invocation(1, tags='{"team":"search"}')
    rows.source(1)
    return rows


@pytest.fixture
def weeks(database_url):  # noqa: F811
    """A ledger of some weeks, read only."""
    filled(database_url, days=9, each_day=30)
    engine = open_engine(database_url, read_only=True)
    yield engine
    engine.dispose()


@BOTH
@pytest.mark.parametrize("grain", list(Grain))
def test_the_rows_add_up_to_the_ledger_at_every_grain(weeks, grain):
    rows, said = written(weeks, grain)
    report = summarise([weeks], ReportQuery())
    assert total(rows) * PICO == report.total.cost()
    assert said == ("Not in the file: 2 charges without a price.",)


def test_every_cost_is_price_times_quantity_exactly(weeks):
    rows, _ = written(weeks)
    assert len(rows) > 100
    for row in rows:
        quantity = Fraction(row["PricingQuantity"])
        assert Fraction(row["ListUnitPrice"]) * quantity == Fraction(row["ListCost"])
        assert Fraction(row["ContractedUnitPrice"]) * quantity == Fraction(
            row["ContractedCost"]
        )
        assert row["BilledCost"] == row["EffectiveCost"] == row["ContractedCost"]
        per = int(row["PricingUnit"].split()[0])
        assert Fraction(row["ConsumedQuantity"]) == quantity * per


def test_periods_nest_and_are_whole(weeks):
    for grain, length in ((Grain.HOUR, 3600), (Grain.DAY, 86400), (Grain.REQUEST, 3600)):
        for row in written(weeks, grain)[0]:
            start, end, month, after = (
                datetime.fromisoformat(row[name])
                for name in ("ChargePeriodStart", "ChargePeriodEnd", "BillingPeriodStart",
                             "BillingPeriodEnd")
            )  # fmt: skip
            assert month <= start < end <= after
            assert (end - start).total_seconds() == length
            assert (month.day, after.day, month.hour) == (1, 1, 0)


def test_what_is_mandatory_is_there_and_never_null(weeks):
    rows, _ = written(weeks)
    for name in MANDATORY:
        assert name in rows[0]
        assert name in MAY_BE_NULL or all(row[name] for row in rows)


def test_numbers_have_a_point_and_times_a_z(weeks):
    for row in written(weeks)[0]:
        for name, value in row.items():
            if name.endswith(("Cost", "Quantity", "UnitPrice")):
                assert re.fullmatch(r"\d+\.\d+", value), name
            if name.endswith(("Start", "End")):
                assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:00:00Z", value)


def test_a_row_for_each_meter_that_was_used(here, engine):
    one(here, (1000, 200, 300, 400, 500, 2))
    rows, _ = written(engine)
    assert [(r["SkuMeter"], r["ConsumedQuantity"], r["PricingUnit"]) for r in rows] == [
        ("Input Tokens", "1000.0", "1000000 Tokens"),
        ("Cache Write 5m Input Tokens", "200.0", "1000000 Tokens"),
        ("Cache Write 1h Input Tokens", "300.0", "1000000 Tokens"),
        ("Cache Read Input Tokens", "400.0", "1000000 Tokens"),
        ("Output Tokens", "500.0", "1000000 Tokens"),
        ("Web Searches", "2.0", "1000 Requests"),
    ]
    assert rows[0]["SkuPriceId"] == f"anthropic:{MODEL}:input:standard:standard:global:base"
    details = json.loads(rows[3]["SkuPriceDetails"])
    assert (details["x_TokenCacheAction"], details["x_ModelVersion"]) == ("Read", "5.5")
    assert json.loads(rows[0]["Tags"]) == {"job": "nightly", "run": "1", "team": "search"}


def test_a_batch_has_its_own_public_price_and_its_saving_can_be_seen(here, engine):
    halved = tuple(rate // 2 for rate in RATES[MODEL][:5]) + RATES[MODEL][5:]
    september = {"sent_at": NOON + 290 * 86_400_000_000}
    one(here, (1000, 0, 0, 0, 0, 0), rates=halved, terms="batch", attempt=september)
    (row,), _ = written(engine)
    assert (row["ListUnitPrice"], row["ContractedUnitPrice"]) == ("2.0", "2.0")
    assert (row["ListCost"], row["x_StandardListCost"]) == ("0.002", "0.004")
    assert row["SkuPriceId"].endswith(":batch:standard:global:base")


def test_a_discount_shows_beside_the_public_price(here, engine):
    ours = tuple(rate * 3 // 4 for rate in RATES[MODEL])
    october = {"sent_at": NOON + 290 * 86_400_000_000}
    one(here, (1000, 0, 0, 0, 0, 0), rates=ours, attempt=october)
    (row,), _ = written(engine)
    assert (row["ListCost"], row["ContractedCost"], row["BilledCost"]) == (
        "0.004",
        "0.003",
        "0.003",
    )


def test_a_geography_is_a_region(here, engine):
    one(here, (1000, 0, 0, 0, 0, 0), terms="standard/us")
    (row,), _ = written(engine)
    assert (row["RegionId"], row["RegionName"]) == ("us", "US")


def test_refusals_and_what_has_no_price_have_no_row(here, engine):
    here.charge(here.answer(1, 1, 1), 0, status="unbilled", currency=None)
    here.charge(here.answer(1, 1, 2), None)
    rows, said = written(engine)
    assert (rows, said) == ([], ("Not in the file: 1 charge without a price.",))


def test_a_row_per_request_can_be_walked_back(here, engine):
    one(here, (1000, 0, 0, 0, 50, 0))
    rows, _ = written(engine, Grain.REQUEST)
    assert len(rows) == 2
    assert (rows[0]["x_MessageId"], rows[0]["x_CustomId"]) == ("msg_1", "row-1")
    assert rows[0]["x_SentAt"] == "2026-01-05T12:00:00Z"
    assert rows[0]["x_PriceBookVersion"] == "2026-01"


def test_the_account_can_be_named_and_is_no_formula(here, engine):
    one(here, (1000, 0, 0, 0, 0, 0))
    (row,), _ = written(engine, account="=cmd()")
    assert row["BillingAccountId"] == "'=cmd()"


def test_1_3_renames_the_provider_and_keeps_the_rest(weeks):
    old, new = (set(columns_of(version)) for version in Version)
    assert old - new == {"ProviderName"}
    assert new - old == {"ServiceProviderName", "HostProviderName"}
    rows, _ = written(weeks, version=Version.V1_3)
    assert rows[0]["ServiceProviderName"] == "Anthropic"


def test_a_run_and_a_window_hold_for_the_file(weeks):
    everything, _ = written(weeks, Grain.DAY)
    first = min(row["ChargePeriodStart"] for row in everything)
    day = datetime.fromisoformat(first)
    until = int(day.timestamp()) * 10**6 + 86_400_000_000
    rows, _ = written(weeks, Grain.DAY, until=until)
    assert {row["ChargePeriodStart"] for row in rows} == {first}


def test_the_same_ledger_gives_the_same_file(weeks):
    assert written(weeks, Grain.DAY) == written(weeks, Grain.DAY)


@settings(max_examples=15, deadline=None,
          suppress_health_check=[HealthCheck.function_scoped_fixture])  # fmt: skip
@given(
    st.lists(
        st.tuples(
            st.tuples(*[st.integers(0, 10**9)] * 6), st.tuples(*[st.integers(0, 10**9)] * 6)
        ),
        min_size=1,
        max_size=6,
    )
)
def test_any_usage_at_any_rates_stays_exact(sqlite_template, tmp_path_factory, charged):
    database = tmp_path_factory.mktemp("any") / "any.db"
    database.write_bytes(sqlite_template.read_bytes())
    rows = Buffered(str(database))
    rows.run()
    rows.invocation(1)
    rows.source(1)
    expected = 0
    for number, (used, rates) in enumerate(charged, 1):
        capped = tuple(min(rate, 2**62 // 6 // max(quantity, 1)) for quantity, rate in
                       zip(used, rates, strict=True))  # fmt: skip
        one(rows, used, rates=capped, number=number)
        expected += sum(q * r for q, r in zip(used, capped, strict=True))
    rows.flush()
    rows.engine.dispose()
    engine = open_engine(str(database), read_only=True)
    for grain in Grain:
        assert total(written(engine, grain)[0]) * PICO == expected
    engine.dispose()
