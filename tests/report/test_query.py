from datetime import UTC
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.clock import microseconds, moment_of
from batcher.errors import UsageError
from batcher.report.figures import sort_key
from batcher.report.names import bucket
from batcher.report.query import (
    BY_MODEL,
    Dimension,
    Kind,
    Period,
    last_period,
    parse_dimension,
    parse_dimensions,
    parse_moment,
    time_zone,
)

PARIS = ZoneInfo("Europe/Paris")


def at(text, zone=UTC):
    return parse_moment(text, zone)


def test_a_tag_carries_its_name():
    assert parse_dimension("tag:team:a") == Dimension(Kind.TAG, "team:a")
    assert parse_dimension("tag:team").name == "tag:team"


def test_dimensions_are_kept_once_and_default_to_the_model():
    assert parse_dimensions(()) == BY_MODEL
    assert [each.name for each in parse_dimensions(("day", "model", "day"))] == ["day", "model"]


@pytest.mark.parametrize("word", ["", "tag", "tag:", "modell", "Model", "DAY"])
def test_an_unknown_dimension_is_refused_with_the_list(word):
    with pytest.raises(UsageError, match=r"use one of model, requested_model, .* or tag:NAME"):
        parse_dimension(word)


def test_a_date_is_midnight_in_the_zone():
    assert at("2026-01-05") == 1_767_571_200_000_000
    assert at("2026-01-05", PARIS) == 1_767_571_200_000_000 - 3_600_000_000


def test_a_time_with_its_own_offset_ignores_the_zone():
    assert at("2026-01-05T00:00:00+05:30", PARIS) == at("2026-01-04T18:30:00")


@pytest.mark.parametrize("word", ["yesterday", "2026-13-01", "", "05/01/2026"])
def test_what_is_no_date_is_refused(word):
    with pytest.raises(UsageError, match="is no date"):
        at(word)


@pytest.mark.parametrize("name", ["Mars/Olympus", "../../etc/passwd", "", "Europe"])
def test_an_unknown_time_zone_is_refused(name):
    with pytest.raises(UsageError, match="is no time zone known here"):
        time_zone(name)


@pytest.mark.parametrize(
    ("period", "since", "until"),
    [
        (Period.DAY, "2026-03-29", "2026-03-30"),
        (Period.WEEK, "2026-03-23", "2026-03-30"),
        (Period.MONTH, "2026-02-01", "2026-03-01"),
    ],
)
def test_the_last_period_is_whole_and_before_now(period, since, until):
    now = at("2026-03-30T00:30:00", PARIS)
    assert last_period(period, now, PARIS) == (at(since, PARIS), at(until, PARIS))


def test_the_day_of_a_change_of_clocks_has_23_hours():
    since, until = last_period(Period.DAY, at("2026-03-30T12:00", PARIS), PARIS)
    assert until - since == 23 * 3_600_000_000


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind.HOUR, "2026-01-05T04:00+05:45"),
        (Kind.DAY, "2026-01-05"),
        (Kind.WEEK, "2026-W02"),
        (Kind.MONTH, "2026-01"),
    ],
)
def test_buckets_follow_the_zone_to_the_quarter_hour(kind, words):
    moment = at("2026-01-04T23:00:00")  # 04:45 in Kathmandu
    assert bucket(kind, moment, ZoneInfo("Asia/Kathmandu")) == words


def test_hours_are_in_the_order_of_time_through_a_clock_change():
    hours = ["2026-10-25T02:00+02:00", "2026-10-25T02:00+01:00", "2026-10-25T03:00+01:00"]
    assert sorted([(hour,) for hour in reversed(hours)], key=sort_key) == [(h,) for h in hours]


def test_the_hour_that_comes_twice_in_autumn_is_two_buckets():
    first, second = at("2026-10-25T00:15:00"), at("2026-10-25T01:15:00")
    assert bucket(Kind.HOUR, first, PARIS) == "2026-10-25T02:00+02:00"
    assert bucket(Kind.HOUR, second, PARIS) == "2026-10-25T02:00+01:00"


@given(st.integers(min_value=-(2**40), max_value=2**53))
def test_moments_come_back_as_they_went(moment):
    assert microseconds(moment_of(moment)) == moment
