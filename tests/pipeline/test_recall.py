"""When batches are canceled for a deadline: as late as the live lane can still redo them."""

from hypothesis import given
from hypothesis import strategies as st

from batcher.ledger.batches.store import StoredBatch
from batcher.messages.request import BatchState
from batcher.pacing.limits import DeadlinePlan, Forecast
from batcher.pipeline.batches.asking import RecallInTime

MINUTE_US = 60 * 10**6


def out(*batches):
    return [
        StoredBatch(
            number=number,
            run_id=1,
            state=BatchState.IN_PROGRESS,
            batch_id=f"batch_{number}",
            model="m",
            requests=requests,
            intended_at=began * MINUTE_US,
            created_at=began * MINUTE_US,
            expires_at=None,
            ended_at=None,
        )
        for number, (began, requests) in enumerate(batches, 1)
    ]


def recall_for(minutes, queue_minutes=1):
    known = Forecast(
        queue_seconds=60.0 * queue_minutes, seconds_per_row=4.0, latency_seconds=0.0
    )
    plan = DeadlinePlan(at_us=minutes * MINUTE_US, forecast=known)
    return RecallInTime(plan, pays=False)


def numbers(batches):
    return [batch.number for batch in batches]


def test_the_newest_go_first_and_each_as_late_as_the_rest_allows():
    recall, batches = recall_for(100), out((0, 100), (1, 100))  # each takes ten minutes live
    assert numbers(recall.due(batches, 69 * MINUTE_US)) == []
    assert numbers(recall.due(batches, 70 * MINUTE_US)) == [2]
    assert numbers(recall.due(batches, 80 * MINUTE_US)) == [1, 2]
    assert numbers(recall.too_late(batches, 79 * MINUTE_US)) == []
    assert numbers(recall.too_late(batches, 80 * MINUTE_US)) == [2]


def test_none_is_canceled_before_it_should_be_back_unless_it_alone_would_be_late():
    batches = out((0, 500), (0, 500))  # the live lane could not redo both
    assert numbers(recall_for(100, 20).due(batches, 19 * MINUTE_US)) == []
    assert numbers(recall_for(100, 20).due(batches, 20 * MINUTE_US)) == [2]
    assert numbers(recall_for(70, 60).due(batches, 10 * MINUTE_US)) == [1, 2]


@given(
    batches=st.lists(
        st.tuples(st.integers(0, 30), st.integers(1, 200)), min_size=1, max_size=8
    ),
    minutes=st.integers(40, 300),
)
def test_whatever_ends_in_time_leaves_the_live_lane_enough_time_for_it(batches, minutes):
    recall = recall_for(minutes)
    plan = recall.plan
    for batch in out(*batches):
        last_start = plan.last_start_us(batch.requests)
        assert numbers(recall.too_late([batch], last_start)) == [batch.number]
        assert numbers(recall.due([batch], plan.recall_us(batch.requests))) == [batch.number]
