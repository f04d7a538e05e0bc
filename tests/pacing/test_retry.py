"""When a row is tried again."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.failure import Failure, Verdict
from batcher.pacing.backoff import RetryPolicy

POLICY = RetryPolicy(max_attempts=5, first_wait_seconds=0.5, max_wait_seconds=30)
CHANCES = st.floats(0, 1, exclude_max=True)
WAITS = st.none() | st.floats(0, 1e6)


def failure(verdict: Verdict = Verdict.RETRY_ROW, asked: float | None = None) -> Failure:
    return Failure(verdict=verdict, error_type="x", message="x", retry_after_seconds=asked)


def test_a_row_is_given_up_after_its_last_attempt_and_not_before():
    waits = [
        POLICY.wait_seconds(failure(), used_up=n, tries=n, chance=0.5) for n in range(1, 7)
    ]
    assert waits == [0.5, 1, 2, 4, None, None]


@pytest.mark.parametrize("verdict", [Verdict.PAUSE_QUOTA, Verdict.OVERLOADED])
def test_a_busy_server_never_uses_up_a_rows_patience(verdict):
    assert POLICY.wait_seconds(failure(verdict), used_up=99, tries=99, chance=0) == 0


def test_an_overloaded_server_is_given_more_time_than_a_broken_one():
    kinds = (Verdict.RETRY_ROW, Verdict.OVERLOADED)
    waits = [POLICY.wait_seconds(failure(v), used_up=0, tries=20, chance=0.5) for v in kinds]
    assert waits == [15, 30]


@given(WAITS, CHANCES, st.integers(1, 10**9))
def test_a_servers_wait_is_never_shortened_and_hardly_lengthened(asked, chance, tries):
    wait = POLICY.wait_seconds(failure(asked=asked), used_up=0, tries=tries, chance=chance)
    low, high = (0, 30) if asked is None else (asked, asked + 2)
    assert low <= wait <= high


@given(st.integers(1, 40), CHANCES)
def test_the_backoff_doubles_up_to_its_ceiling(tries, chance):
    wait = POLICY.wait_seconds(failure(), used_up=0, tries=tries, chance=chance)
    assert wait == min(0.5 * 2**tries, 30) * chance
