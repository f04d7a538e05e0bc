"""What is expected of both lanes, and by when what must be done for a deadline."""

from hypothesis import given
from hypothesis import strategies as st

from batcher.pacing.limits import (
    CANCEL_SECONDS,
    USUAL_QUEUE_SECONDS,
    DeadlinePlan,
    Forecast,
    QuotaLimits,
    forecast,
)

HOUR_US = 3_600 * 10**6


def test_nothing_seen_is_what_is_usual():
    found = forecast((), None, None, QuotaLimits(), 64)
    assert (found.queue_seconds, found.seen_batches) == (USUAL_QUEUE_SECONDS, 0)
    assert found.seconds_per_row == 30 / 64


def test_nine_of_ten_batches_were_back_within_the_queue_time():
    found = forecast([60.0 * n for n in range(1, 12)], 1.0, None, QuotaLimits(), 1)
    assert (found.queue_seconds, found.seen_batches) == (600.0, 11)


def test_the_tightest_quota_counts_with_the_share_of_it():
    quota = QuotaLimits(requests=600, input_tokens=60_000, output_tokens=60_000, share=0.5)
    found = forecast((), 1.0, (1_000.0, 100.0), quota, 64)
    assert found.seconds_per_row == 2.0


def test_a_batch_is_no_larger_than_what_the_live_lane_could_redo():
    plan = DeadlinePlan(at_us=8 * HOUR_US, forecast=Forecast(seconds_per_row=10.0))
    assert 0 < plan.batch_rows(0, 10_000) < 8 * 3_600 / 10
    assert plan.batch_rows(0, 100) == 100
    assert plan.batch_rows(7 * HOUR_US, 10_000) == 0


@given(
    left=st.floats(0, 1e6),
    queue=st.floats(0, 1e5),
    per_row=st.floats(0.001, 100),
    latency=st.floats(0.01, 600),
    most=st.integers(1, 10_000),
)
def test_a_batch_that_is_made_in_time_can_be_redone_before_the_deadline(
    left, queue, per_row, latency, most
):
    known = Forecast(queue_seconds=queue, seconds_per_row=per_row, latency_seconds=latency)
    plan = DeadlinePlan(at_us=round(left * 1e6), forecast=known)
    rows = plan.batch_rows(0, most)
    if rows:
        needed = queue + CANCEL_SECONDS + known.live_seconds(rows)
        assert needed <= left + 1e-3
        assert plan.packs_until_us(rows) >= -3
