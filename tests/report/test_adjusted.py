import pyarrow.parquet as pq
import pytest

from batcher.finance.reconcile.record import undo
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.money.adjustments import (
    Author,
    Place,
    Reconciliation,
    Residual,
    record,
)
from batcher.ledger.schema import ratings
from batcher.report.html.page import gather, render_page
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.render.records import write_parquet
from batcher.report.summary import summarise
from batcher.report.table import table_of
from tests.finance.provider_files import DAY, MODEL, begin
from tests.report.ledger_rows import NOON, LedgerRows
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

DAY_US = 86_400_000_000
ANA = Author("ana on build7", NOON)


@pytest.fixture
def here(rows):
    return begin(rows)


def book(
    rows, *amounts, days=(DAY,), model=MODEL, simulated=False, newest=0, cause="rate: x",
    kind="output",
):  # fmt: skip
    """Record a reconciliation of `days` with amounts on the first of them."""
    about = Reconciliation(
        author=ANA,
        endpoint="anthropic",
        simulated=simulated,
        days=days,
        files=(("c", "f" * 64),),
    )
    place = Place(days[0], model, "standard", "global", kind)
    residuals = [Residual(place, amount, cause) for amount in amounts]
    return record(rows.engine, about, residuals, newest=newest)


def adjusted(engine, *words, **query):
    return summarise([engine], ReportQuery(by=parse_dimensions(words), **query)).adjusted


@BOTH
def test_adjustments_are_beside_the_charges_and_in_no_line(here, engine):
    book(here, 7, -3, days=(DAY, "2026-01-06"))
    report = summarise([engine], ReportQuery())
    assert report.total.cost() == 8_100_000_000
    assert (report.adjusted.entries, report.adjusted.amount) == (2, 4)
    assert report.adjusted_total == 8_100_000_004
    assert report.adjusted.causes == (("rate", 2, 4),)
    assert (report.adjusted.days, report.adjusted.last) == (
        (DAY, "2026-01-06"), (NOON, "ana on build7")
    )  # fmt: skip


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("model", "endpoint"), (MODEL, "anthropic")),
        (("day", "job"), (DAY, None)),
        (("week",), ("2026-W02",)),
        (("month", "tag:team"), ("2026-01", None)),
        (("hour", "run", "lane"), (None, None, None)),
    ],
)
def test_they_are_told_apart_by_what_they_know(here, engine, words, key):
    book(here, 7)
    (line,) = adjusted(engine, *words).lines
    assert (line.key, line.amount) == (key, 7)


@pytest.mark.parametrize("zone", ["Pacific/Honolulu", "UTC", "Asia/Tokyo"])
def test_a_day_is_that_day_in_nearly_every_zone(here, engine, zone):
    book(here, 7)
    assert adjusted(engine, "day", timezone=zone).lines[0].key == (DAY,)


def test_a_window_holds_for_them_too(here, engine):
    book(here, 7)
    book(here, 5, days=("2026-01-06",), newest=1)
    midnight = NOON - DAY_US // 2
    first = adjusted(engine, until=midnight + DAY_US)
    assert (first.amount, first.days) == (7, (DAY,))
    assert adjusted(engine, since=midnight + DAY_US).amount == 5
    assert adjusted(engine, since=midnight + 9 * DAY_US).entries == 0


def test_a_run_has_none_since_whole_days_are_reconciled(here, engine):
    book(here, 7)
    assert adjusted(engine, run=1) is None


@BOTH
def test_what_was_taken_back_is_not_shown(here, engine):
    book(here, 7, 5)
    undo(here.engine, 1, ANA)
    assert (adjusted(engine).entries, adjusted(engine).amount) == (1, 5)


def test_an_old_report_comes_out_without_what_was_recorded_later(here, engine):
    book(here, 7)
    before = summarise([engine], ReportQuery())
    with writing(here.engine) as connection:
        again = {"rating_id": 2, "price_book_id": 1, "created_at": NOON, "reason": "reprice",
                 "position": 1}  # fmt: skip
        connection.execute(ratings.insert().values(again))
    undo(here.engine, 1, ANA)
    assert summarise([engine], ReportQuery(rating=1)).adjusted == before.adjusted
    assert adjusted(engine, rating=2).amount == 7
    assert adjusted(engine).entries == 0


def test_simulated_adjustments_stay_out_of_real_money(here, engine):
    book(here, 7, simulated=True)
    assert adjusted(engine).entries == 0


def test_several_ledgers_are_one_report(here, engine, second_url):
    book(here, 7)
    other = begin(LedgerRows(second_url))
    book(other, 5, days=("2026-01-07",))
    second = open_engine(second_url, read_only=True)
    found = summarise([engine, second], ReportQuery())
    assert (found.adjusted.entries, found.adjusted.amount) == (2, 12)
    assert found.adjusted.days == (DAY, "2026-01-07")
    assert [(line.key, line.entries) for line in found.adjusted.lines] == [((MODEL,), 2)]
    second.dispose()
    other.engine.dispose()


def test_a_ledger_without_charges_may_keep_those_of_the_others(here, engine, second_url):
    other = LedgerRows(second_url)
    book(other, 5)
    other.engine.dispose()
    second = open_engine(second_url, read_only=True)
    assert summarise([second, engine], ReportQuery()).adjusted.amount == 5
    second.dispose()


def test_parquet_has_them_as_rows_by_a_word_of_their_own(here, engine, tmp_path):
    book(here, 7)
    with (tmp_path / "r.parquet").open("wb") as file:
        write_parquet(table_of(summarise([engine], ReportQuery())), file)
    rows = pq.read_table(tmp_path / "r.parquet").to_pylist()
    assert [(row["entry"], row["model"]) for row in rows] == [
        ("charges", f"{MODEL}-20260922"), ("adjustments", MODEL)
    ]  # fmt: skip
    assert str(sum(row["cost_usd"] for row in rows)) == "0.008100000007"


def test_the_page_has_them_in_its_foot_and_headline(here, engine):
    book(here, 10**9)
    page = render_page(gather([engine], ReportQuery(), 0))
    assert "$0.0091 as billed, with adjustments" in page
    assert ">Adjustments</td>" in page
    assert "Reconciliation: 1 day, 2026-01-05 to 2026-01-05, 1 adjustment" in page
