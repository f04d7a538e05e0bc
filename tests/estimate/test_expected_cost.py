"""The interval around a total that is told by a sample."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batcher.clock import seeded
from batcher.estimate.interval import Stratum, expect_total

OUTPUT_RATE = 15_000_000  # pico-USD per token
MOST_TOKENS = 4_096
JOBS = 200


def log_normal_job(seed, rows=1_500, sigma=1.0, pilot=30):
    """(strata, what the rows outside the pilot cost, what they cost at most) of one job.

    Longer prompts get longer answers, as they do; the pilot is random within three lengths.
    """
    chance = random.Random(seed)
    population = []
    for _ in range(rows):
        length = chance.lognormvariate(6, 0.7)
        tokens = chance.lognormvariate(5 + 0.4 * (length > 400), sigma)
        population.append((length, min(int(tokens), MOST_TOKENS) * OUTPUT_RATE))
    population.sort()
    strata, rest = [], 0
    for part in range(3):
        costs = [cost for _, cost in population[part * rows // 3 : (part + 1) * rows // 3]]
        drawn = set(chance.sample(range(len(costs)), pilot // 3))
        values = tuple(costs[n] for n in sorted(drawn))
        strata.append(Stratum(rows=len(costs) - len(values), values=values))
        rest += sum(cost for n, cost in enumerate(costs) if n not in drawn)
    return strata, rest, (rows - pilot) * MOST_TOKENS * OUTPUT_RATE


@pytest.mark.parametrize("sigma", [0.6, 1.2])
def test_the_interval_holds_the_cost_of_nine_jobs_in_ten(sigma):
    held = 0
    for seed in range(JOBS):
        strata, cost, ceiling = log_normal_job(seed, sigma=sigma)
        found = expect_total(strata, seeded(f"{seed}"), ceiling=ceiling)
        assert found.high <= ceiling
        assert cost <= ceiling
        held += found.low <= cost <= found.high
    assert held >= JOBS * 85 // 100


def test_the_same_chances_give_the_same_interval():
    strata, _, _ = log_normal_job(1)
    assert expect_total(strata, seeded("a")) == expect_total(strata, seeded("a"))
    assert seeded("a")() != seeded("b")()


def test_a_larger_sample_gives_a_narrower_interval():
    small, _, _ = log_normal_job(7, pilot=30)
    large, _, _ = log_normal_job(7, pilot=300)
    few, many = expect_total(small, seeded("x")), expect_total(large, seeded("x"))
    assert many.high - many.low < (few.high - few.low) // 2


def test_what_is_the_same_everywhere_is_known_exactly():
    found = expect_total([Stratum(rows=1_000, values=(7, 7, 7))], seeded("x"), fixed=100)
    assert (found.low, found.expected, found.high) == (7_100, 7_100, 7_100)


def test_a_doubtful_fixed_part_widens_the_interval_on_both_sides():
    found = expect_total(
        [Stratum(rows=10, values=(5, 5))], seeded("x"), fixed=1_000, margin=150
    )
    assert (found.low, found.expected, found.high) == (900, 1_050, 1_200)


def test_rows_that_are_all_known_need_no_sample():
    found = expect_total([Stratum(rows=0, values=())], seeded("x"), fixed=12)
    assert (found.low, found.high) == (12, 12)


def test_one_answer_says_nothing_about_scatter():
    with pytest.raises(ValueError, match="two values"):
        expect_total([Stratum(rows=3, values=(1,))], seeded("x"))


STRATA = st.lists(
    st.builds(
        Stratum,
        rows=st.integers(0, 10**8),
        values=st.lists(st.integers(-(10**9), 10**13), min_size=2, max_size=12).map(tuple),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(STRATA, st.integers(0, 10**15), st.integers(0, 10**15), st.integers(0, 10**18))
def test_the_interval_is_in_order_and_between_nothing_and_the_ceiling(
    strata, fixed, margin, ceiling
):
    found = expect_total(strata, seeded("x"), fixed=fixed, margin=margin, ceiling=ceiling)
    assert 0 <= found.low <= found.expected <= found.high <= ceiling
