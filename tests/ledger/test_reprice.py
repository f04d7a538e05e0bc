"""A reprice adds a rating, moves pointers, and loses nothing of what was."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batcher.errors import Busy, UsageError
from batcher.ledger.maintenance import verify
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.rate.ratings import (
    RepriceOptions,
    close_month,
    compare,
    list_ratings,
    reprice,
)
from batcher.messages.request import Purpose, State
from batcher.pricing.book.book import parse_book
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.render.formats import Format, render
from batcher.report.summary import summarise
from tests.ledger.settling import NOON, RunLedger, book
from tests.ledger.test_rollup import ANSWERS, records

DAY = 86_400_000_000
LATER = NOON + 60 * DAY
USAGE = {"input_tokens": 10, "output_tokens": 5}
CHEAP, DEAR = book(), book("two", "3")
# 10 tokens in at 1 and 5 out at 10 USD per million; the other book takes 3 for those in.
ONE, TWO = 60_000_000, 80_000_000


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


def again(ledger, prices=DEAR, **wish):
    return reprice(ledger.url, RepriceOptions(book=prices, **wish), now_us=LATER)


def cost(ledger, **query):
    return summarise([ledger.engine], ReportQuery(**query)).total.cost()


def text(ledger, **query):
    """A report to the byte, in every dimension there is."""
    words = ("model", "day", "stop_reason", "run", "invocation", "lane", "endpoint")
    asked = ReportQuery(by=parse_dimensions(words), **query)
    by_source = ReportQuery(by=parse_dimensions(("source",)), **query)
    return "".join(
        render(summarise([ledger.engine], each), form)
        for each in (asked, by_source)
        for form in (Format.JSON, Format.CSV)
    )


def is_sound(ledger):
    return verify(ledger.engine).findings == ()


# --- what it does


def test_old_charges_stay_and_new_ones_are_current(ledger):
    ledger.write(ledger.answered(USAGE))
    found = again(ledger)
    assert ledger.ask("SELECT rating_id, current, total_amount FROM charges ORDER BY 1") == [
        (1, 0, ONE),
        (2, 1, TWO),
    ]
    assert (found.rating_id, found.answers, found.changed) == (2, 1, 1)
    assert cost(ledger) == TWO
    assert is_sound(ledger)


def test_the_difference_is_shown_per_model(ledger):
    ledger.write(ledger.answered(USAGE), ledger.answered(message={"model": "unheard-of"}))
    (known, unknown) = again(ledger).differences.values()
    assert (known.answers, known.old, known.new) == (1, {"USD": ONE}, {"USD": TWO})
    assert (unknown.answers, unknown.old, unknown.new) == (1, {}, {})
    assert (unknown.old_unpriced, unknown.new_unpriced) == (1, 1)


def test_what_becomes_unpriced_is_no_saving(ledger):
    ledger.write(ledger.answered(USAGE), ledger.answered(USAGE))
    bare = parse_book('version = "bare"\nextends = "nothing"\n[[rates]]\nmodel = "m"\n'
                      'valid_from = 2020-01-01\ninput = "1"\noutput = "1"\n')  # fmt: skip
    (found,) = compare(ledger.url, RepriceOptions(book=bare), now_us=LATER).differences.values()
    assert (found.old, found.new, found.no_longer) == ({}, {}, {"USD": 2 * ONE})
    assert (found.old_unpriced, found.new_unpriced) == (0, 2)


def test_asking_first_writes_nothing(ledger):
    ledger.write(ledger.answered(USAGE))
    before = text(ledger)
    found = compare(ledger.url, RepriceOptions(book=DEAR), now_us=LATER)
    assert (found.rating_id, found.changed) == (None, 1)
    assert text(ledger) == before
    assert len(list_ratings(ledger.engine)) == 1


def test_the_prices_of_a_day_count_for_all_days(ledger):
    ledger.write(ledger.answered(USAGE))
    again(ledger, CHEAP, as_of="2026-12-24")
    assert cost(ledger) == 550_000_000
    assert is_sound(ledger)


def test_one_run_alone_is_repriced(ledger):
    ledger.write(ledger.answered(USAGE))
    ledger.next_run("second")
    ledger.write(ledger.answered(USAGE))
    again(ledger, run_id=2)
    assert (cost(ledger, run=1), cost(ledger, run=2)) == (ONE, TWO)
    assert is_sound(ledger)


def test_an_answer_that_had_no_price_gets_one(ledger):
    ledger.next_run("free", price_list=None)
    ledger.write(ledger.answered(USAGE, price_list=None), ledger.answered(USAGE, charges=()))
    assert summarise([ledger.engine], ReportQuery()).total.counts.unpriced_requests == 2
    again(ledger)  # the list has the name of the endpoint
    report = summarise([ledger.engine], ReportQuery())
    assert (report.total.cost(), report.total.counts.unpriced_requests) == (2 * TWO, 0)
    assert is_sound(ledger)


def test_broken_streams_stay_in_doubt_and_late_answers_are_repriced(ledger):
    ledger.write(ledger.broken(), ledger.answered(USAGE, final=False, state=State.LATE))
    assert again(ledger).answers == 1
    assert ledger.ask("SELECT COUNT(*) FROM charges") == [(2,)]


# --- the same book


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(ANSWERS.map(lambda answer: (*answer[:4], True)), max_size=6))
def test_the_same_book_changes_nothing(ledger, answers):
    ledger.write(*records(ledger, answers))
    before = text(ledger)
    found = again(ledger, CHEAP)
    assert (found.rating_id, found.changed) == (None, 0)
    assert text(ledger) == before


@settings(
    max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(ANSWERS, min_size=1, max_size=6))
def test_there_and_back_costs_what_it_did(ledger, answers):
    ledger.next_run("first")  # the ledger of the example before was repriced
    ledger.write(*records(ledger, [(*answer[:4], True) for answer in answers]))
    before = summarise([ledger.engine], ReportQuery()).total
    again(ledger, DEAR)
    again(ledger, CHEAP)
    assert summarise([ledger.engine], ReportQuery()).total == before
    # A bill above the bound, as some usages here make it, is found, and rightly.
    assert {each.kind for each in verify(ledger.engine).findings} <= {"bill"}


# --- earlier reports


def test_an_old_report_comes_back_to_the_byte_whatever_follows(ledger):
    ledger.write(ledger.answered(USAGE), ledger.answered(message={"model": "unheard-of"}))
    ledger.write(ledger.broken(), ledger.unknown())
    first = text(ledger)
    again(ledger)
    second = text(ledger)
    ledger.next_run("second")
    ledger.write(ledger.answered(USAGE), ledger.unknown())
    third = text(ledger)
    again(ledger, CHEAP, as_of="2026-12-24")
    assert len({first, second, third, text(ledger)}) == 4
    assert [text(ledger, rating=number) for number in (1, 2, 3)] == [first, second, third]
    assert text(ledger, rating=4) == text(ledger)


def test_what_is_answered_after_a_reprice_is_of_a_later_rating(ledger):
    ledger.write(ledger.answered(USAGE))
    again(ledger)
    ledger.next_run("first")
    ledger.write(ledger.answered(USAGE))
    assert ledger.scope.rating_id == 3
    assert [each.reason for each in list_ratings(ledger.engine)] == [
        "initial",
        "reprice",
        "initial",
    ]
    assert (cost(ledger, rating=2), cost(ledger)) == (TWO, TWO + ONE)
    assert is_sound(ledger)


def test_runs_share_a_rating_until_there_is_a_reprice(ledger):
    ledger.next_run("second")
    assert ledger.scope.rating_id == 1


def test_simulated_runs_that_came_later_do_not_change_an_old_report(ledger):
    ledger.write(ledger.answered(USAGE))
    before = text(ledger)
    again(ledger)
    ledger.next_run("play", simulated=True)
    ledger.write(ledger.answered(USAGE))
    assert text(ledger, rating=1) == before


def test_a_rating_that_is_not_there_is_refused(ledger):
    with pytest.raises(UsageError, match="there is no rating 7"):
        summarise([ledger.engine], ReportQuery(rating=7))


# --- when it may not


def test_a_run_that_is_on_is_not_repriced(ledger):
    ledger.write(ledger.answered(USAGE))
    with hold_database(ledger.url, "first", command="run"), pytest.raises(Busy):
        again(ledger)
    with hold_database(ledger.url, "first", command="run"):
        assert compare(ledger.url, RepriceOptions(book=DEAR), now_us=LATER).changed == 1


def test_an_unknown_run_is_refused(ledger):
    with pytest.raises(UsageError, match="there is no run 9"):
        again(ledger, run_id=9)


def test_attempts_of_a_dead_process_are_settled_first(ledger):
    intent, _ = ledger.answered(attempt=ledger.attempt(purpose=Purpose.RETRY))
    ledger.write(ledger.answered(USAGE), [intent])
    again(ledger)
    assert ledger.ask("SELECT DISTINCT state FROM attempts ORDER BY state") == [
        ("answered",),
        ("unknown",),
    ]
    assert is_sound(ledger)


# --- closed months


# A price list of one's own discounts what it takes over.
TIERED = parse_book(
    CHEAP.content
    + """
[lists.acme]
based_on = "anthropic"

[[discounts]]
list = "acme"
valid_from = 2026-11-01
tiers = [{ above = "0.0001", factor = "0.5" }, { above = "0.001", factor = "0.25" }]
"""
)


def of_acme(ledger, count):
    return [ledger.answered(USAGE, price_list="acme") for _ in range(count)]


def test_a_month_that_is_over_has_the_tier_that_it_reached(database_url):
    ledger = RunLedger(database_url, TIERED)
    ledger.next_run("acme", price_list="acme")
    ledger.write(*of_acme(ledger, 2))  # 0.00012 USD in November
    with pytest.raises(UsageError, match="discount by volume that is not applied yet"):
        close_month(ledger.url, "2026-11", now_us=LATER)
    early = reprice(ledger.url, RepriceOptions(book=TIERED), now_us=NOON + DAY)
    assert (cost(ledger), early.rating_id) == (2 * ONE, None)  # the month is not over
    assert again(ledger, TIERED).changed == 2
    assert cost(ledger) == ONE
    assert is_sound(ledger)
    assert again(ledger, TIERED).rating_id is None  # nothing new
    ledger.next_run("more", price_list="acme")
    ledger.write(*of_acme(ledger, 20))
    asked = compare(ledger.url, RepriceOptions(book=TIERED), now_us=LATER)
    assert asked.changed == 22
    again(ledger, TIERED)
    assert cost(ledger) == 22 * ONE // 4
    close_month(ledger.url, "2026-11", now_us=LATER)
    assert is_sound(ledger)
    ledger.engine.dispose()


def test_volume_counts_all_runs_and_simulated_ones_only_by_themselves(database_url):
    ledger = RunLedger(database_url, TIERED)
    ledger.next_run("acme", price_list="acme")
    ledger.write(*of_acme(ledger, 1))
    ledger.next_run("more", price_list="acme")
    ledger.write(*of_acme(ledger, 1))
    ledger.next_run("play", price_list="acme", simulated=True)
    ledger.write(*of_acme(ledger, 90))
    assert again(ledger, TIERED, run_id=2).changed == 1  # at the tier of both
    assert cost(ledger, run=2) == ONE // 2
    assert cost(ledger, run=3) == ONE
    ledger.engine.dispose()


def test_a_closed_month_keeps_its_prices(ledger):
    december = NOON + 10 * DAY
    ledger.write(ledger.answered(USAGE), ledger.answered(USAGE, sent_at=december))
    close_month(ledger.url, "2026-11", now_us=LATER)
    found = again(ledger, book("three", "1"), as_of="2026-11-02")
    assert (found.answers, found.left_out) == (1, ("2026-11",))
    assert cost(ledger, until=december) == ONE
    assert cost(ledger, since=december) == ONE
    assert is_sound(ledger)


def test_a_closed_month_can_be_opened_again(ledger):
    ledger.write(ledger.answered(USAGE))
    close_month(ledger.url, "2026-11", now_us=LATER)
    assert again(ledger).changed == 0
    assert again(ledger, reopens=True).changed == 1
    assert cost(ledger) == TWO
    said = [month for each in list_ratings(ledger.engine) for month in each.closes]
    assert said
    assert all("(reopened by " in month for month in said)
    assert ledger.ask("SELECT month, rating_id, reopened_by FROM closed_months") == [
        ("2026-11", 1, 2)
    ]
    assert is_sound(ledger)
