"""Rates and forecasts of a run: none before it can be about right."""

import pytest

from batcher.monitoring.progress_text import Meter, percent_words, rows_words
from batcher.pipeline.progress import Progress


def test_answers_that_come_in_waves_get_no_wild_first_guess():
    progress = Progress(total_rows=10_000, in_flight=100)
    meter = Meter(progress)
    guesses = []
    for moment in range(1_900):  # each answer takes 20 s: 100 rows come at once, 5 rows/s
        progress.answered = moment // 20 * 100
        guess, left = meter.read(float(moment)).seconds_left, 10_000 - progress.answered
        guesses.append(guess / (left / 5) if guess else None)
    assert guesses[:20] == [None] * 20
    assert all(0.9 < guess < 2 for guess in guesses[20:])
    assert guesses[-1] == pytest.approx(1, abs=0.1)


def test_a_run_of_thousands_a_second_is_not_judged_by_its_first_moments():
    progress = Progress(total_rows=1_000_000, in_flight=100, answered=200)
    meter = Meter(progress)
    meter.read(0.0)
    progress.answered = 700
    assert meter.read(1.0).seconds_left is None
    progress.answered = 20_200
    assert meter.read(5.0).seconds_left == pytest.approx(979_800 / 4_000)


def test_nothing_is_forecast_before_as_many_rows_as_are_in_flight_are_through():
    progress = Progress(total_rows=1_000, in_flight=100, cost=10**12)
    meter = Meter(progress)
    meter.read(0.0)
    progress.answered = 99
    early = meter.read(60.0)
    assert (early.seconds_left, early.projected_cost) == (None, None)
    assert early.rows_per_second == pytest.approx(99 / 60)
    progress.answered = 100
    later = meter.read(61.0)
    assert later.seconds_left == pytest.approx(900 / 100 * 61)
    assert later.projected_cost == 10 * 10**12
    assert later.elapsed_seconds == 61.0


def test_the_percent_is_100_only_at_the_end():
    progress = Progress(total_rows=1_000, answered=999)
    assert percent_words(Meter(progress).read(0.0)) == "99 %"
    progress.failed = 1
    assert percent_words(Meter(progress).read(0.0)) == "100 %"
    assert percent_words(Meter(Progress()).read(0.0)) == ""


def test_rows_that_failed_are_not_called_done():
    progress = Progress(
        total_rows=10, total_is_exact=True, done_before=2, answered=3, failed=1, quarantined=2
    )
    assert rows_words(progress) == "5 of 10 rows done, 1 failed, 2 quarantined, 0 in flight"
