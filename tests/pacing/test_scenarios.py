"""Thirty simulated minutes against an exact provider: the whole quota, and hardly a 429."""

from dataclasses import replace

import pytest

from batcher.pacing.limits import QuotaLimits
from tests.pacing.market import AT_END, STALE, Scenario, simulate

# One history of each kind always, others of the same kind in a campaign.
SEEDS = (0, *(pytest.param(seed, marks=pytest.mark.campaign) for seed in (1, 2)))
CONFIGURED = QuotaLimits(requests=4_000, input_tokens=2_000_000, output_tokens=400_000)
SMALL_TIER = (50, 30_000, 8_000)

KNOWN_LIMITS = {
    "90k output tokens bind": Scenario(limits=(4_000, 2_000_000, 90_000)),
    "400k output tokens bind": Scenario(),
    "2M input tokens bind": Scenario(mean_input=4_000, binding=1),
    "1,000 requests bind": Scenario(
        limits=(1_000, 2_000_000, 400_000), mean_input=500, mean_output=200, binding=0
    ),
}
HARD = {
    "buckets of 10 s": Scenario(burst_seconds=(10, 10, 10)),
    "buckets of 2 s, output 10 s": Scenario(burst_seconds=(2, 2, 10)),
    "buckets of 1 s, output 5 s": Scenario(burst_seconds=(1, 1, 5)),
    "somebody else takes a third every other minute": Scenario(other_user=0.3),
    "somebody else takes most of it": Scenario(other_user=0.7, other_always=True, seconds=900),
    "somebody else takes a third, and a ceiling of one's own is above the rest": Scenario(
        limits=(1_000, 2_000_000, 4_000_000),
        binding=0,
        seconds=900,
        other_user=0.3,
        other_always=True,
        configured=QuotaLimits(requests=900),
    ),
    "input estimates are 0.6 of the truth": Scenario(estimate_factor=0.6),
    "output varies wildly": Scenario(output_sigma=1.3),
    "headers come at the end": Scenario(headers=AT_END),
    "headers come at the end and are old": Scenario(headers=STALE),
    "40 % overload for a minute of five": Scenario(
        overload=lambda now: 0.4 if now % 300 < 60 else 0.005
    ),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", [*KNOWN_LIMITS, *HARD])
def test_the_binding_quota_is_used_without_being_refused(name, seed):
    result = simulate({**KNOWN_LIMITS, **HARD}[name], seed)
    assert result.used >= 0.98
    assert result.refused_share < 0.001


@pytest.mark.parametrize(
    ("burst_seconds", "least_used"), [((60, 60, 60), 0.98), ((1, 10, 30), 0.97)]
)
def test_a_small_tier_is_used_too(burst_seconds, least_used):
    """Some 500 requests in half an hour: single ones weigh, so many runs are judged as one."""
    scenario = Scenario(limits=SMALL_TIER, burst_seconds=burst_seconds)
    results = [simulate(scenario, seed) for seed in range(16)]
    sent = sum(result.sent for result in results)
    assert sum(result.used for result in results) / len(results) >= least_used
    assert sum(len(result.refused_at) for result in results) / sent < 0.001


@pytest.mark.parametrize(("rows", "least_used"), [(900, 0.88), (1_800, 0.94)])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_short_job_spends_what_was_in_the_buckets_when_it_began(seed, rows, least_used):
    """Requests are debited when they come: nothing has to be waited for, as with output."""
    short = Scenario(
        limits=(1_800, 2_000_000, 400_000), mean_input=500, mean_output=200, binding=0,
        burst_seconds=(5, 5, 5), rows=rows, seconds=120, dropped=0, overload=lambda _: 0.0,
    )  # fmt: skip
    result = simulate(short, seed)
    assert rows >= least_used * 1_800 / 60 * (5 + result.last_sent)
    assert result.refused_at == []


@pytest.mark.parametrize("seed", SEEDS)
def test_halved_and_restored_limits_are_found_at_once(seed):
    result = simulate(Scenario(resize=((900, 0.5), (1_350, 2.0))), seed)
    before, after = sum(result.admitted[60:90]) / 30, result.admitted[93:135]
    assert sum(after[:6]) / 6 < 0.6 * before  # 30 s after the change the pace is the new one
    assert result.used_between(930, 1_350) >= 0.98
    assert result.used_between(1_380, 1_800) >= 0.98
    assert result.refused_share < 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_configured_limits_pace_a_server_without_headers(seed):
    result = simulate(Scenario(speaks=False, configured=CONFIGURED, seconds=900), seed)
    assert result.used >= 0.98
    assert not result.refused_at


@pytest.mark.parametrize("seed", SEEDS)
def test_wrong_configured_limits_are_corrected_by_refusals_alone(seed):
    """The server's bucket hides a halved limit for a minute; then a few refusals do."""
    scenario = Scenario(speaks=False, configured=CONFIGURED, resize=((900, 0.5),))
    result = simulate(scenario, seed)
    assert result.used_between(980, 1_800) >= 0.98
    assert len(result.refused_at) < 100


@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_that_tells_nothing_is_learned(seed):
    result = simulate(Scenario(speaks=False), seed)
    assert result.used >= 0.98
    assert result.refused_share < 0.01


def untold(requests: int, burst: float, *resize: tuple[float, float], **more) -> Scenario:
    """A server that minds requests per minute and tells of nothing; answers take 1.3 s."""
    return Scenario(
        limits=(requests, 10**10, 10**10), burst_seconds=(burst, 60, 60), binding=0,
        mean_output=20, output_sigma=0.3, speaks=False, seconds=900, resize=resize,
        concurrency=3_000, **more,
    )  # fmt: skip


@pytest.mark.parametrize("names_moment", [False, True])
@pytest.mark.parametrize("factor", [0.25, 0.5, 2, 4])
@pytest.mark.parametrize(
    "burst", [1, *(pytest.param(more, marks=pytest.mark.campaign) for more in (10, 60))]
)
@pytest.mark.parametrize("requests", [1_000, pytest.param(4_000, marks=pytest.mark.campaign)])
def test_another_limit_in_mid_run_that_nobody_tells_is_found_within_half_a_minute(
    requests, burst, factor, names_moment
):
    """It was 30 % of a limit that had quadrupled, minutes after the change."""
    changing = untold(requests, burst, (450, factor), names_moment=names_moment)
    result = simulate(changing, 0)
    assert result.used_between(480, 900) >= 0.95
    assert result.refused_share < 0.01


@pytest.mark.parametrize("factor", [0.5, 2])
@pytest.mark.parametrize("binding", [1, 2])
def test_other_limits_of_tokens_that_nobody_tells_are_found_too(binding, factor):
    scenario = Scenario(
        mean_input=4_000 if binding == 1 else 1_000, binding=binding, speaks=False,
        names_moment=False, seconds=900, resize=((450, factor),), concurrency=3_000,
    )  # fmt: skip
    result = simulate(scenario, 0)
    assert result.used_between(480, 900) >= 0.95
    assert result.refused_share < 0.01


@pytest.mark.parametrize("idle", [0, 1, 3])
@pytest.mark.parametrize("seed", SEEDS)
def test_four_workers_share_one_quota(idle, seed):
    result = simulate(Scenario(workers=4, idle=idle), seed)
    assert result.used >= 0.98
    assert result.refused_share < 0.001


def test_a_fixed_share_of_the_quota_leaves_the_rest_to_others():
    quarter = Scenario(configured=QuotaLimits(share=0.25), seconds=600)
    whole = simulate(Scenario(seconds=600), 1)
    assert simulate(quarter, 1).sent < 0.4 * whole.sent  # some more, as nobody uses the rest


def test_a_ceiling_below_the_servers_limit_is_kept():
    scenario = Scenario(configured=QuotaLimits(requests=300), seconds=900)
    result = simulate(scenario, 1)
    assert 0.97 * 300 <= sum(result.admitted[30:90]) / 10 <= 300


UNLIMITED = (10**7, 10**10, 10**10)


def at_once(*most: tuple[float, int], names_moment: bool, seconds: float = 600) -> Scenario:
    """A server that minds nothing but how many it works on; answers take 1.3 s."""
    return Scenario(
        limits=UNLIMITED, speaks=False, dropped=0, seconds=seconds, mean_output=20,
        output_sigma=0.3, most_at_once=most, names_moment=names_moment,
    )  # fmt: skip


@pytest.mark.parametrize("names_moment", [False, True])
@pytest.mark.parametrize("most", [4, 8, 30, 50])
@pytest.mark.parametrize("seed", SEEDS)
def test_a_server_that_minds_the_number_in_flight_is_used_up_to_it(seed, most, names_moment):
    result = simulate(at_once((0, most), names_moment=names_moment), seed)
    assert result.busy_between(30, 600) >= 0.95
    assert result.refused_share < 0.01


@pytest.mark.parametrize(("names_moment", "least_busy"), [(False, 0.95), (True, 0.9)])
@pytest.mark.parametrize("most", [64, 200])
def test_a_large_number_in_flight_is_not_taken_for_a_rate(most, names_moment, least_busy):
    """Where the server says when to come again, a little is lost to its pauses."""
    result = simulate(at_once((0, most), names_moment=names_moment), 0)
    assert result.busy_between(30, 600) >= least_busy
    assert result.refused_share < 0.01


@pytest.mark.parametrize("names_moment", [False, True])
@pytest.mark.parametrize(("before", "after"), [(40, 20), (20, 40), (50, 10), (8, 16)])
@pytest.mark.parametrize("seed", SEEDS)
def test_another_number_in_mid_run_is_found_within_half_a_minute(
    seed, before, after, names_moment
):
    changing = at_once((0, before), (200, after), names_moment=names_moment)
    result = simulate(changing, seed)
    assert result.busy_between(30, 200) >= 0.95
    assert result.busy_between(240, 600) >= 0.95
    assert result.refused_share < 0.01


def test_a_server_that_minds_nothing_gets_all_that_the_user_allows():
    result = simulate(at_once((0, 10_000), names_moment=False, seconds=120), 0)
    assert result.refused_at == []
    assert result.busy_between(30, 120) * 10_000 >= 0.95 * Scenario().concurrency


@pytest.mark.parametrize("names_moment", [False, True])
@pytest.mark.parametrize(
    "scenario",
    [
        Scenario(limits=(1_000, 2_000_000, 400_000), mean_output=200, binding=0),
        Scenario(),
        Scenario(mean_input=4_000, binding=1),
    ],
    ids=["requests", "output tokens", "input tokens"],
)
def test_quotas_that_nobody_names_are_told_from_numbers_in_flight(scenario, names_moment):
    quiet = replace(scenario, speaks=False, names_moment=names_moment, seconds=900)
    result = simulate(quiet, 0)
    assert result.used >= 0.95
    assert result.refused_share < 0.01
