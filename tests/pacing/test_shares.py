"""Water-filling: everybody gets what he needs, or a fair part of what there is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pacing.limits import Claim, next_share, water_fill

demands = st.lists(st.floats(0, 1), min_size=1, max_size=20)


@given(demands)
def test_the_whole_quota_is_shared_out(wanted):
    assert sum(water_fill(wanted)) == pytest.approx(1)


@given(demands)
def test_nobody_is_left_without_a_share(wanted):
    assert min(water_fill(wanted)) > 0


@given(demands)
def test_who_wants_more_never_gets_less(wanted):
    shares = water_fill(wanted)
    by_demand = [share for _, share in sorted(zip(wanted, shares, strict=True))]
    assert by_demand == pytest.approx(sorted(by_demand))


@given(st.integers(1, 20))
def test_equal_demands_get_equal_shares(count):
    assert water_fill([1.0] * count) == pytest.approx([1 / count] * count)


def test_what_the_modest_leave_goes_to_the_hungry():
    assert water_fill([0.1, 1.0, 1.0]) == pytest.approx([0.1, 0.45, 0.45])


def test_three_idle_workers_leave_nearly_everything_to_the_fourth():
    assert water_fill([0.0, 0.0, 0.0, 1.0])[3] > 0.95


def test_no_worker_has_no_share():
    assert water_fill([]) == []


@pytest.mark.parametrize("demand", [-1.0, 7.0])
def test_a_demand_outside_the_range_breaks_nothing(demand):
    assert sum(water_fill([demand, 0.5])) == pytest.approx(1)


claims = st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=12)


def claimed(parts):
    return {number: Claim(demand, share) for number, (demand, share) in enumerate(parts)}


@given(claims)
def test_a_share_grows_only_into_what_others_gave_up(parts):
    known = claimed(parts)
    others = sum(claim.share for name, claim in known.items() if name)
    share = next_share(known, 0)
    least = 0.05 / len(known)
    assert 0 < share <= 1
    assert share <= max(known[0].share, 1 - others, least) + 1e-9


@given(claims, st.randoms())
def test_shares_settle_at_the_fair_ones_whoever_looks_when(parts, chance):
    known = claimed(parts)
    for _ in range(4):
        order = list(known)
        chance.shuffle(order)
        for name in order:
            known[name] = Claim(known[name].demand, next_share(known, name))
    fair = water_fill([claim.demand for claim in known.values()])
    assert [claim.share for claim in known.values()] == pytest.approx(fair)


def test_a_worker_that_comes_later_waits_until_it_is_given_room():
    both = {1: Claim(1.0, 1.0), 2: Claim(1.0, 0.0)}
    assert next_share(both, 2) == pytest.approx(0.025)
    both[1] = Claim(1.0, next_share(both, 1))
    assert next_share(both, 2) == pytest.approx(0.5)
