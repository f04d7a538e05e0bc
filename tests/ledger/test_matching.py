"""Answers are found by identity, from numbers that are read once."""

from hypothesis import given
from hypothesis import strategies as st

from batcher.ledger.matching import SortedKeys

NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)


def pieces(pairs, at_once):
    return [pairs[start : start + at_once] for start in range(0, len(pairs), at_once)]


@given(st.lists(st.tuples(NUMBERS, st.integers(0, 2**62))), st.sets(NUMBERS), st.integers(1, 9))
def test_keys_give_every_attempt_of_the_identities_and_no_other(pairs, wanted, at_once):
    found = SortedKeys(pieces(sorted(pairs), at_once)).of(sorted(wanted))
    assert sorted(found) == sorted(attempt for identity, attempt in pairs if identity in wanted)


def test_more_keys_than_are_read_at_once_are_all_there():
    keys = SortedKeys(pieces([(number // 2, number) for number in range(50_000)], 10_000))
    assert keys.of(range(10_000, 10_003)) == [20_000, 20_001, 20_002, 20_003, 20_004, 20_005]
    assert keys.of([-1, 24_999, 25_000]) == [49_998, 49_999]
