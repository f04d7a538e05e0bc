"""Numbers that the database counted by their first digits, against the same ones one by one."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import BigInteger, literal, select

from batcher.report.html.charts import histogram
from batcher.report.html.measured import (
    cut_off,
    read_latencies,
    read_meter_sums,
    read_row_buckets,
)
from batcher.report.ledgers import open_ledgers
from batcher.report.query import ReportQuery
from batcher.report.views.latency import read_times
from batcher.report.views.meters import read_meters
from batcher.report.views.row_costs import read_unit_costs
from batcher.report.views.spread import Buckets, Numbers, Spread, width_at
from tests.report.ledger_rows import NOON
from tests.report.months import START, filled
from tests.report.mostly_sqlite import BOTH, database_url  # noqa: F401

DAY = 86_400_000_000
NUMBERS = st.lists(st.integers(0, 2**62) | st.integers(0, 20_000), min_size=1, max_size=60)


def cut(number):
    width = width_at(number)
    return number // width * width


def spread_of(numbers):
    ordered, count = sorted(numbers), len(numbers)
    p50, p95 = (ordered[max(-(-count * each // 100), 1) - 1] for each in (50, 95))
    mean = Fraction(sum(numbers), count)
    return Spread(count=count, mean=mean, p50=p50, p95=p95, largest=ordered[-1])


def numbers_of(numbers):
    found = Numbers()
    for number in numbers:
        found.take(number)
    return found


def buckets_of(numbers):
    buckets = Buckets()
    for number in numbers:
        buckets.add(cut(number), 1, number, number)
    return buckets


@given(NUMBERS)
def test_a_spread_of_buckets_is_exact_but_for_a_thousandth_of_a_percentile(numbers):
    exact, found = spread_of(numbers), buckets_of(numbers).spread()
    assert (found.count, found.mean, found.largest) == (exact.count, exact.mean, exact.largest)
    for mine, nearest in ((found.p50, exact.p50), (found.p95, exact.p95)):
        assert mine in numbers
        assert cut(mine) == cut(nearest)
        assert 0 <= mine - nearest < max(Fraction(nearest, 1000), 1)


def test_a_spread_of_nothing_is_nothing():
    assert Buckets().spread() is None
    assert Numbers().spread() is None


@given(NUMBERS)
def test_numbers_one_by_one_have_the_exact_spread_while_they_are_few(numbers):
    found = numbers_of(numbers)
    assert found.spread() == spread_of(numbers)
    joined = numbers_of(numbers[:7])
    joined.join(numbers_of(numbers[7:]))
    assert joined.spread() == found.spread()
    assert [found.ranked(n + 1) for n in range(len(numbers))] == sorted(numbers)


@pytest.mark.parametrize("join", [False, True])
def test_very_many_different_numbers_keep_four_digits_and_bounded_memory(join):
    numbers = [number * 618_034 % 1_000_003 * 1000 + 7 for number in range(1, 250_001)]
    found = numbers_of(numbers[:: 2 if join else 1])
    if join:
        found.join(numbers_of(numbers[1::2]))
    exact, spread = spread_of(numbers), found.spread()
    assert (spread.count, spread.mean, spread.largest) == (250_000, exact.mean, exact.largest)
    for mine, nearest in ((spread.p50, exact.p50), (spread.p95, exact.p95)):
        assert mine in numbers
        assert 0 <= mine - nearest < Fraction(nearest, 1000)
    assert not found.few
    assert len(found.many.each) < 30_000


@given(st.lists(st.integers(1, 2**62) | st.integers(10**9, 10**9 + 10**6), min_size=1))
def test_a_drawing_of_buckets_shows_each_number_once(numbers):
    drawn = histogram(buckets_of(numbers), str)
    shown = [int(box.title.rsplit(": ", 1)[1].replace(",", "")) for box in drawn.boxes]
    assert sum(shown) == len(numbers)
    for box, count in zip(drawn.boxes, shown, strict=True):
        start, end = map(int, box.title.split(": ")[0].split(" to "))
        assert count == sum(start <= number < end for number in numbers)


@BOTH
def test_both_databases_cut_off_alike(engine):
    edges = [10**n + step for n in range(19) for step in (-1, 0, 1)]
    numbers = [*edges, 123_456_789, 2**62, 2**63 - 1]
    with engine.connect() as connection:
        for number in numbers:
            found = connection.scalar(select(cut_off(literal(number, BigInteger))))
            assert found == cut(number)


def queries():
    return [
        ReportQuery(),
        ReportQuery(since=START + 3 * DAY, until=START + 9 * DAY + 1),
        ReportQuery(run=1),
        ReportQuery(rating=1),
    ]


@BOTH
@pytest.mark.parametrize("query", queries(), ids=["all", "window", "run", "rating"])
def test_what_the_page_measures_is_what_the_views_say(
    database_url,  # noqa: F811
    engine,
    query,
):
    filled(database_url, days=12)
    with open_ledgers([engine], query) as ledgers:
        costs = read_unit_costs(ledgers).groups.items()
        amounts = [group.amounts for (_, money), group in costs if money == "USD"]
        assert_same(read_row_buckets(ledgers, "USD"), amounts)
        times, found = read_times(ledgers), read_latencies(ledgers)
        for key, group in times.items():
            assert_same(found.whole[key], [group.latencies])
        assert_same(found.first_token, [group.first_tokens for group in times.values()])
        groups = [g for each in ledgers.each for g in read_meters(each) if g.currency == "USD"]
        for total in (0, 2**63):  # in one piece, and in two
            meters = read_meter_sums(ledgers, "USD", total)
            assert meters.amounts == tuple(
                map(sum, zip(*(g.amounts for g in groups), strict=True))
            )


def assert_same(buckets, groups):
    together = Numbers()
    for group in groups:
        together.join(group)
    exact, found = together.spread(), buckets.spread()
    assert (found.count, found.mean, found.largest) == (exact.count, exact.mean, exact.largest)
    assert cut(found.p95) == cut(exact.p95)


@BOTH
def test_of_many_rows_only_so_many_are_measured_whatever_pattern_they_have(
    database_url,  # noqa: F811
    engine,
):
    filled(database_url, days=100)
    with open_ledgers([engine], ReportQuery()) as ledgers:
        every, some = (read_row_buckets(ledgers, "USD", n).spread() for n in (1, 3))
        assert some.count == pytest.approx(every.count / 3, rel=0.05)
        assert float(some.mean) == pytest.approx(float(every.mean), rel=0.1)
        times = [read_latencies(ledgers, n).first_token.spread() for n in (1, 3)]
        assert times[1].count == pytest.approx(times[0].count / 3, rel=0.05)
        assert times[1].p50 == pytest.approx(times[0].p50, rel=0.1)


@BOTH
def test_rows_that_are_not_answered_or_not_priced_are_not_measured(rows, engine):
    rows.run()
    rows.invocation(1)
    rows.source(1)
    first = rows.answer(1, 1, 1, final=0, stop_reason="pause_turn")
    rows.charge(first, 30)
    rows.charge(rows.answer(1, 1, 1, attempt={"request_id": first, "sent_at": NOON}), 4)
    rows.charge(rows.answer(1, 1, 2, final=0, valid=0), 900)  # given up
    half = rows.answer(1, 1, 3)
    rows.charge(half, 5)
    rows.charge(half, None, line=1)
    mixed = rows.answer(1, 1, 4)
    rows.charge(mixed, 6)
    rows.charge(mixed, 7, line=1, currency="CRUN_CREDIT")
    with open_ledgers([engine], ReportQuery()) as ledgers:
        assert list(read_row_buckets(ledgers, "USD").each) == [34]
        assert read_row_buckets(ledgers, "CRUN_CREDIT").each == {}
