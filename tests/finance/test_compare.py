from fractions import Fraction

import pytest

from batcher.clock import moment_of
from batcher.errors import UsageError
from batcher.finance.compare import compare_table, parse_side
from batcher.finance.what_if import parse_supposition, what_if_table
from batcher.pricing.book.book import load_shipped
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.table import Named
from tests.report.ledger_rows import NOON, LedgerRows
from tests.report.months import RATES
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

DAY = 86_400_000_000
NAMES = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output", "web_search")
OCTOBER = NOON + 290 * DAY  # 2026-10-22: every model of the shipped book is there


def plain(table):
    names = [field.name for field in table.fields]
    return [
        dict(zip(names, (c.value if isinstance(c, Named) else c for c in row), strict=True))
        for row in table.rows
    ]


@pytest.fixture
def here(rows):
    rows.run(job="nightly")
    rows.invocation(1)
    rows.source(1)
    return rows


def compare(engine, before, after, *words, **fields):
    query = ReportQuery(by=parse_dimensions(words), **fields)
    return compare_table([engine], query, (before, after))


@BOTH
def test_two_months_are_compared_model_by_model(here, engine):
    here.charge(here.answer(1, 1, 1), 8)
    later = {"sent_at": NOON + 30 * DAY}
    here.charge(here.answer(1, 1, 2, attempt=later), 10)
    here.charge(here.answer(1, 1, 3, attempt=later, model="other"), 5)
    first, second = plain(compare(engine, "2026-01", "2026-02"))
    assert (first["before_cost"], first["after_cost"], first["difference"]) == (8, 10, 2)
    assert (first["change"], first["before_cost_per_1000"]) == (Fraction(1, 4), 8000)
    assert (second["model"], second["before_cost"], second["change"]) == ("other", 0, None)


def test_two_runs_and_two_models_are_compared(here, engine):
    here.run("second")
    here.invocation(2)
    here.source(2)
    here.charge(here.answer(1, 1, 1), 8)
    here.charge(here.answer(2, 2, 1, model="other"), 4)
    by_run = plain(compare(engine, "run:1", "run:2", "lane"))
    by_model = plain(compare(engine, "model:claude-sonnet-5", "model:other", "job"))
    assert [(row["before_cost"], row["after_cost"]) for row in by_run] == [(8, 4)]
    assert [(row["job"], row["before_cost"], row["after_cost"]) for row in by_model] == [
        ("nightly", 8, 0), (None, 0, 4),
    ]  # fmt: skip


def test_what_has_no_price_has_no_difference(here, engine):
    here.charge(here.answer(1, 1, 1), None)
    here.charge(here.answer(1, 1, 2, attempt={"sent_at": NOON + DAY}), 8)
    (row,) = plain(compare(engine, "2026-01-05", "2026-01-06"))
    assert (row["before_cost"], row["after_cost"], row["difference"]) == (None, 8, None)


def test_nothing_on_both_sides_is_said(rows, engine):
    table = compare(engine, "2026-01", "2026-02")
    assert table.rows == ()
    assert "Nothing was sent, so there is nothing to report." in table.sentences


@pytest.mark.parametrize(
    ("words", "since", "until"),
    [
        ("2026", "2026-01-01", "2027-01-01"),
        ("2026-12", "2026-12-01", "2027-01-01"),
        ("2026-02", "2026-02-01", "2026-03-01"),
        ("2026-W01", "2025-12-29", "2026-01-05"),
        ("2024-02-29", "2024-02-29", "2024-03-01"),
    ],
)
def test_a_period_begins_and_ends_where_the_calendar_says(words, since, until):
    query = parse_side(words, ReportQuery()).query
    days = [moment_of(moment).date().isoformat() for moment in (query.since, query.until)]
    assert days == [since, until]


def test_a_period_is_cut_in_the_time_zone_asked_for():
    query = parse_side("2026-07-01", ReportQuery(timezone="Europe/Paris")).query
    assert moment_of(query.since).isoformat() == "2026-06-30T22:00:00+00:00"


@pytest.mark.parametrize(
    "words",
    ["", "2026-13", "2026-W54", "2026-02-30", "soon", "run:", "run:x", "model:", "9999"],
)
def test_a_side_that_means_nothing_is_refused(words):
    with pytest.raises(UsageError, match="is not known: write 2026"):
        parse_side(words, ReportQuery())


def test_a_side_does_not_say_again_what_was_said():
    with pytest.raises(UsageError, match="leave out --since"):
        parse_side("2026", ReportQuery(since=NOON))
    with pytest.raises(UsageError, match="leave out --run"):
        parse_side("run:1", ReportQuery(run=2))


class Priced(LedgerRows):
    """A ledger whose price book is the shipped one."""

    def insert_many(self, table, rows):
        if table == "price_books":
            book = load_shipped()
            rows = [row | {"content": book.content, "version": book.version} for row in rows]
        super().insert_many(table, rows)


@pytest.fixture
def priced(database_url):  # noqa: F811
    rows = Priced(database_url)
    rows.run()
    rows.invocation(1)
    rows.source(1)
    rows.rate_set(model="claude-opus-5-5", **rates("claude-opus-5-5"))
    yield rows
    rows.engine.dispose()


def rates(model):
    return dict(zip((f"{name}_rate" for name in NAMES), RATES[model], strict=True))


def charge(rows, used, number=1, sent_at=OCTOBER):
    model = "claude-opus-5-5"
    amounts = [quantity * rate for quantity, rate in zip(used, RATES[model], strict=True)]
    attempt = rows.answer(1, 1, number, model=model, attempt={"sent_at": sent_at})
    rows.charge(
        attempt, sum(amounts), model=model, rate_set_id=1,
        **dict(zip((f"{name}_quantity" for name in NAMES), used, strict=True)),
        **dict(zip((f"{name}_amount" for name in NAMES), amounts, strict=True)),
    )  # fmt: skip


def suppose(engine, *words):
    return what_if_table([engine], ReportQuery(), parse_supposition(words))


def test_the_same_tokens_at_another_models_rates(priced, engine):
    charge(priced, (1000, 0, 0, 100, 200, 3))
    (row,) = plain(suppose(engine, "model=claude-haiku-4-5"))
    # 1 in, 0.10 read, 5 out per million, 10 USD per thousand searches
    assert row["cost"] == 1000 * 4_000_000 + 100 * 200_000 + 200 * 20_000_000 + 3 * 10**10
    assert row["cost_then"] == 1000 * 1_000_000 + 100 * 100_000 + 200 * 5_000_000 + 3 * 10**10
    assert row["difference"] == row["cost_then"] - row["cost"]


def test_the_batch_lane_halves_tokens(priced, engine):
    charge(priced, (1000, 0, 0, 0, 200, 0))
    (row,) = plain(suppose(engine, "lane=batch"))
    assert row["cost_then"] * 2 == row["cost"]
    assert row["change"] == Fraction(-1, 2)


@BOTH
def test_a_long_prompt_gets_the_rates_of_its_own_size(priced, engine):
    charge(priced, (100_000, 0, 0, 0, 10, 0))
    charge(priced, (100_001, 0, 0, 0, 10, 0), number=2)
    (row,) = plain(suppose(engine, "model=claude-haiku-5-5"))
    small = 100_000 * 100_000 + 10 * 500_000
    large = 100_001 * 500_000 + 10 * 2_500_000
    assert row["cost_then"] == small + large


def test_a_model_that_had_no_price_yet_gets_its_first_and_it_is_said(priced, engine):
    charge(priced, (1000, 0, 0, 0, 0, 0), sent_at=NOON)
    table = suppose(engine, "model=claude-haiku-5-5")
    assert plain(table)[0]["cost_then"] == 1000 * 100_000
    assert any("had no price yet" in sentence for sentence in table.sentences)


def test_what_has_no_price_is_left_out_on_both_sides_and_told(priced, engine):
    charge(priced, (1000, 0, 0, 0, 0, 0))
    priced.charge(priced.answer(1, 1, 2), None)
    table = suppose(engine, "lane=batch")
    assert plain(table)[0]["charges"] == 1
    assert table.sentences[-1] == "Left out: 1 charge without a price on both sides."


def test_supposing_what_is_changes_nothing(priced, engine):
    for number in range(1, 6):
        charge(priced, (number * 37, number, 0, number * 5, number * 11, 0), number=number)
    (row,) = plain(suppose(engine, "model=claude-opus-5-5", "lane=live"))
    assert row["difference"] == 0


@pytest.mark.parametrize("words", [("colour=red",), ("model",), ("model=",), ("lane=fast",)])
def test_what_cannot_be_supposed_is_refused(words):
    with pytest.raises(UsageError, match="is not known: write model=NAME"):
        parse_supposition(words)


def test_a_model_that_nobody_sells_is_refused(priced, engine):
    charge(priced, (1, 0, 0, 0, 0, 0))
    with pytest.raises(UsageError, match="no price list of"):
        suppose(engine, "model=claude-nothing")
