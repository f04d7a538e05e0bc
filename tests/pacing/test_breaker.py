"""The breaker that stops the stream while a server is down."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pacing.backoff import Breaker, BreakerPolicy

POLICY = BreakerPolicy(trips_after=3, first_contact_seconds=60, give_up_seconds=3600)


def answered_once() -> Breaker:
    breaker = Breaker(POLICY)
    breaker.succeeded()
    return breaker


def failed(breaker: Breaker, times: int, now: float = 0) -> Breaker:
    for _ in range(times):
        breaker.failed(now)
    return breaker


def test_a_server_that_never_answered_is_tried_with_one_row_after_one_failure():
    assert failed(Breaker(POLICY), 1).is_open


def test_a_server_that_answered_may_fail_a_few_times_in_a_row():
    assert not failed(answered_once(), 2).is_open
    assert failed(answered_once(), 3).is_open


def test_an_answer_between_failures_starts_the_count_again():
    breaker = failed(answered_once(), 2)
    breaker.succeeded()
    assert not failed(breaker, 2).is_open


def test_few_failures_open_it_too_when_nothing_was_answered_for_a_minute():
    breaker = failed(answered_once(), 1, now=100)
    assert not failed(breaker, 1, now=159.9).is_open
    breaker.succeeded()
    breaker = failed(failed(breaker, 1, now=200), 1, now=260)
    assert breaker.is_open
    assert breaker.next_probe == 260.5
    breaker.succeeded()
    assert not failed(breaker, 1, now=261).is_open


def test_an_open_breaker_lets_one_probe_through_and_waits_for_it():
    breaker = failed(answered_once(), 3)
    assert not breaker.allows(breaker.next_probe - 0.001)
    assert breaker.allows(breaker.next_probe)
    breaker.sent()
    assert (breaker.is_probing, breaker.allows(1e9)) == (True, False)


def test_a_probe_that_is_answered_opens_the_way_for_all():
    breaker = failed(answered_once(), 3)
    breaker.sent()
    breaker.succeeded()
    assert (breaker.is_open, breaker.is_probing, breaker.allows(0)) == (False, False, True)


def test_the_wait_between_probes_doubles_up_to_a_minute():
    breaker, waits, now = failed(answered_once(), 2), [], 0.0
    for _ in range(10):
        breaker.failed(now)
        waits.append(breaker.next_probe - now)
        now = breaker.next_probe
    assert waits == [0.5, 1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_many_that_were_under_way_when_it_went_down_count_as_one_outage():
    breaker = failed(answered_once(), 1_000, now=7)
    assert breaker.next_probe == 7.5


def test_an_outage_after_a_recovery_is_probed_soon_again():
    breaker = answered_once()
    for _ in range(10):
        breaker.failed(breaker.next_probe)
    breaker.succeeded()
    assert failed(breaker, 3, now=500).next_probe == 500.5


@pytest.mark.parametrize(("ever", "patience"), [(False, 60), (True, 3600)])
def test_patience_is_longer_with_a_server_that_once_answered(ever, patience):
    breaker = answered_once() if ever else Breaker(POLICY)
    failed(breaker, 3, now=100)
    assert not breaker.gives_up(100 + patience - 1)
    assert breaker.gives_up(100 + patience)


def test_a_breaker_without_failures_never_gives_up():
    assert not answered_once().gives_up(1e12)


@given(st.lists(st.sampled_from(["fail", "answer", "send"]), max_size=40))
def test_whatever_happens_there_is_always_a_moment_at_which_a_row_may_go(events):
    breaker, now = Breaker(POLICY), 0.0
    for event in events:
        now += 1
        if event == "fail":
            breaker.failed(now)
        elif event == "answer":
            breaker.succeeded()
        else:
            breaker.sent()
    assert breaker.is_probing or breaker.allows(now + 61)
    if breaker.is_probing:
        breaker.failed(now)
    assert breaker.allows(now + 61)
