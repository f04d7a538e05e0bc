"""Repeated custom_ids: exact and for nothing where ids count up, about right for all others."""

import random
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pipeline.engine.known_rows import SeenIds

NUMBERED = st.builds(
    lambda prefix, number, width: f"{prefix}{number:0{width}}",
    st.sampled_from(["", "row-", "row-0", "ä"]),
    st.integers(0, 30),
    st.integers(1, 3),
)


@given(st.lists(NUMBERED | st.text(max_size=4), max_size=60))
def test_a_few_ids_are_told_exactly(custom_ids):
    seen, known = SeenIds(), set()
    for custom_id in custom_ids:
        assert seen.seen_before(custom_id) == (custom_id in known)
        known.add(custom_id)


@pytest.mark.parametrize(
    ("count", "step"), [(30_000, 1), (30_000, -1), (100_000, 2), (100_000, 7)]
)
def test_ids_that_count_are_exact_and_take_next_to_no_memory(count, step):
    seen, ids = SeenIds(), [f"row-{number:07}" for number in range(count)][::step]
    tracemalloc.start()
    assert not any(seen.seen_before(custom_id) for custom_id in ids)
    used, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert all(seen.seen_before(custom_id) for custom_id in ids[::100])
    assert used < (100_000 if abs(step) == 1 else 2_000_000)


def test_ids_in_any_order_are_told():
    """More ranges than are kept: ids go to the filters, and come back from there."""
    ids = [f"{number}" for number in range(100_000, 140_000)]
    random.Random(1).shuffle(ids)
    seen = SeenIds()
    assert sum(map(seen.seen_before, ids)) <= 1
    assert all(map(seen.seen_before, ids))


def test_ids_without_a_pattern_are_told():
    chance = random.Random(2)
    ids = [f"{chance.getrandbits(128):032x}" for _ in range(150_000)]
    seen = SeenIds()
    assert sum(map(seen.seen_before, ids)) <= 3  # one in a million, two filters
    assert all(map(seen.seen_before, ids))


@pytest.mark.parametrize("custom_id", ["", "7", "row", "row-" + "9" * 40, "٣", "²", "a1b"])
def test_strange_ids_are_ids(custom_id):
    seen = SeenIds()
    assert not seen.seen_before(custom_id)
    assert seen.seen_before(custom_id)
    assert not seen.seen_before(custom_id + "0")
