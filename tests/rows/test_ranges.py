from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import StorageError
from batcher.rows.ranges import RowRanges

NUMBERS = st.integers(1, 60)
CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NUMBERS, NUMBERS),
        st.tuples(st.just("discard"), NUMBERS, NUMBERS),
        st.tuples(st.just("range"), NUMBERS, NUMBERS),
    )
)


def changed(changes):
    ranges, plain = RowRanges(), set()
    for what, one, two in changes:
        if what == "add":
            ranges.add(one)
            plain.add(one)
        elif what == "discard":
            ranges.discard(one)
            plain.discard(one)
        else:
            ranges.add_range(min(one, two), max(one, two))
            plain |= set(range(min(one, two), max(one, two) + 1))
    return ranges, plain


@given(CHANGES)
def test_ranges_hold_what_a_plain_set_holds(changes):
    ranges, plain = changed(changes)
    assert {n for first, last in ranges for n in range(first, last + 1)} == plain
    assert len(ranges) == len(plain)
    assert all((n in ranges) == (n in plain) for n in range(62))


@given(CHANGES)
def test_ranges_are_sorted_and_never_touch(changes):
    pairs = list(changed(changes)[0])
    assert all(first <= last for first, last in pairs)
    assert all(a[1] + 1 < b[0] for a, b in pairwise(pairs))


@given(CHANGES, NUMBERS, NUMBERS)
def test_gaps_are_what_is_missing(changes, one, two):
    ranges, plain = changed(changes)
    first, last = min(one, two), max(one, two)
    missing = {n for a, b in ranges.gaps(first, last) for n in range(a, b + 1)}
    assert missing == set(range(first, last + 1)) - plain
    assert ranges.covers(first, last) == (not missing)


@given(CHANGES, CHANGES)
def test_a_union_holds_both_and_changes_neither(one, two):
    (left, left_plain), (right, right_plain) = changed(one), changed(two)
    union = left.union(right)
    assert len(union) == len(left_plain | right_plain)
    assert (len(left), len(right)) == (len(left_plain), len(right_plain))


@given(CHANGES)
def test_json_and_back_is_the_same_set(changes):
    ranges = changed(changes)[0]
    assert RowRanges.from_json(ranges.to_json()) == ranges


def test_json_is_pairs():
    ranges = RowRanges()
    ranges.add_range(1005, 2000)
    ranges.add_range(1, 1000)
    assert ranges.to_json() == "[[1,1000],[1005,2000]]"


def test_a_copy_goes_its_own_way():
    ranges = RowRanges()
    ranges.add(1)
    twin = ranges.copy()
    ranges.add(2)
    assert (2 in twin, len(twin), twin == ranges) == (False, 1, False)


@pytest.mark.parametrize("text", ["", "{}", "[[1]]", "[[3,1]]", "[[1,2.5]]", "null"])
def test_broken_json_is_refused(text):
    with pytest.raises(StorageError):
        RowRanges.from_json(text)


def test_a_reversed_range_is_refused():
    with pytest.raises(ValueError, match="cannot end"):
        RowRanges().add_range(2, 1)
