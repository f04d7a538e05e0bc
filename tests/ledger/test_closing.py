"""Closing a month: when it is over, once, and while nothing changes."""

import pytest

from batcher.errors import Busy, UsageError
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.rate.ratings import close_month, list_ratings
from batcher.pricing.rate.rates import moment_of_day, month_window
from tests.ledger.settling import NOON, RunLedger

DECEMBER = 1_796_083_200_000_000


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


def test_a_month_is_from_midnight_to_midnight_utc():
    assert month_window("2026-11") == (moment_of_day("2026-11-01"), DECEMBER)
    assert month_window("2026-12") == (DECEMBER, moment_of_day("2027-01-01"))
    assert month_window("2024-02")[1] - month_window("2024-02")[0] == 29 * 86_400_000_000


def test_a_month_is_closed_with_the_newest_rating(ledger):
    ledger.write(ledger.answered())
    assert close_month(ledger.url, "2026-11", now_us=DECEMBER) == 1
    (rating,) = list_ratings(ledger.engine)
    assert (rating.closes, rating.price_book) == (("2026-11",), "one")


def test_a_month_that_is_not_over_is_refused(ledger):
    with pytest.raises(UsageError, match=r"2026-11 .* not over"):
        close_month(ledger.url, "2026-11", now_us=DECEMBER - 1)


def test_a_month_is_closed_once(ledger):
    close_month(ledger.url, "2026-10", now_us=NOON)
    with pytest.raises(UsageError, match="closed already"):
        close_month(ledger.url, "2026-10", now_us=NOON)


@pytest.mark.parametrize("word", ["2026-13", "2026", "October", "2026-1", "2026-10-01", ""])
def test_what_is_no_month_is_refused(sqlite_url, word):
    with pytest.raises(UsageError, match="is no month"):
        close_month(sqlite_url, word, now_us=NOON)


def test_a_ledger_without_a_rating_has_nothing_to_close(database_url):
    with pytest.raises(UsageError, match="nothing was ever rated"):
        close_month(database_url, "2026-10", now_us=NOON)


def test_nothing_is_closed_while_a_run_is_on(ledger):
    with hold_database(ledger.url, "first", command="run"), pytest.raises(Busy):
        close_month(ledger.url, "2026-10", now_us=NOON)
