"""What a quota keeps back, and what goes nevertheless."""

import pytest

from batcher.clock import SystemClock
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import Exchange, NotSent, Rejected, Request, Unknown
from batcher.pacing.backoff import Breaker, BreakerPolicy
from batcher.pacing.limits import QuotaLimits
from batcher.pacing.pacer import Pacer
from batcher.pipeline.engine.pace import Pace
from batcher.pipeline.engine.supply import Supply
from batcher.pipeline.engine.work import Work
from tests.making_runs import answered, refused

SONNET, HAIKU = "claude-sonnet-5", "claude-haiku-5"


class StoppedClock(SystemClock):
    def monotonic(self) -> float:
        return 0.0

    def random(self) -> float:
        return 0.5


class Shop:
    """A supply and the pace behind it; every model's first row has gone already."""

    def __init__(self, **limits) -> None:
        self.pacer = Pacer(QuotaLimits(**limits), 64, 0.0)
        self.pace = Pace(self.pacer, StoppedClock())
        self.supply = Supply(self.pace, Breaker(BreakerPolicy()), lambda _: None)
        self.count = 0

    def work(self, model: str = SONNET) -> Work:
        self.count += 1
        return Work(
            request=Request(
                source_id=1,
                row_number=self.count,
                byte_offset=0,
                custom_id=None,
                params_hash=b"",
                model=model,
                max_tokens=100,
                body=b"x" * 300,
            )
        )

    def known(self, model: str) -> None:
        """Send a first row of `model`, and hear that it was answered."""
        first = self.work(model)
        self.supply.add([first])
        assert self.supply.take(0.0) is first
        self.supply.report(first, model, answered(), 0.0)
        self.pace.end(first, answered())


def test_a_row_without_quota_waits_and_the_next_moment_is_known():
    shop = Shop(requests=60)
    shop.known(SONNET)
    held = shop.work()
    shop.supply.add([held])
    assert shop.supply.take(0.0) is None
    assert shop.supply.is_held
    assert not shop.supply.is_empty
    assert 0.0 < shop.supply.next_moment(0.0) <= 1.02
    assert shop.supply.take(1.02) is held
    assert not shop.supply.is_held


def test_one_models_quota_does_not_hold_up_another_model():
    shop = Shop(requests=60)
    shop.known(SONNET)
    rows = [shop.work(SONNET), shop.work(SONNET), shop.work(HAIKU)]
    shop.supply.add(rows)
    assert shop.supply.take(0.0) is rows[2]


def test_rows_that_wait_for_quota_keep_their_order_and_retries_go_first():
    shop = Shop(requests=60)
    shop.known(SONNET)
    rows = [shop.work() for _ in range(3)]
    again = shop.work()
    again.attempts = 1
    shop.supply.add(rows)
    assert shop.supply.take(0.0) is None
    shop.supply.again(again, 0.1)
    assert shop.supply.take(0.2) is None
    went = [shop.supply.take(moment) for moment in (2.0, 4.0, 6.0, 8.0)]
    assert went == [again, *rows]


def test_what_was_put_back_has_taken_nothing():
    shop = Shop(requests=60)
    work = shop.work()
    shop.supply.add([work])
    assert shop.supply.take(0.0) is work
    shop.supply.put_back(work)
    assert work.reservation is None
    assert shop.supply.take(0.0) is work


@pytest.mark.parametrize(
    ("outcome", "waits"),
    [
        (answered(), True),
        (refused(400), False),
        (refused(529), False),
        (refused(429, headers={"retry-after": "9"}), True),
    ],
)
def test_only_what_reached_the_quota_counts_towards_it(outcome, waits):
    shop = Shop(requests=60)
    work = shop.work()
    shop.supply.add([work])
    shop.supply.take(0.0)
    shop.supply.report(work, SONNET, answered(), 0.0)
    shop.pace.end(work, outcome)
    shop.supply.add([shop.work()])
    assert (shop.supply.take(0.0) is None) is waits


def test_a_pause_is_counted_and_obeyed():
    shop = Shop()
    shop.known(SONNET)
    work = shop.work()
    shop.supply.add([work])
    shop.supply.take(0.0)
    shop.pace.end(work, refused(429, headers={"retry-after": "9"}))
    assert shop.pacer.pauses == 1
    shop.supply.add([shop.work()])
    assert shop.supply.take(8.9) is None
    assert shop.supply.take(9.0) is not None


def test_overload_and_time_outs_cut_the_concurrency_and_429_does_not():
    shop = Shop(requests=10**9)
    exchange = Exchange(sent_at=0, settled_at=1, http_status=429)
    failure = Failure(verdict=Verdict.PAUSE_QUOTA, error_type="rate_limit_error", message="")
    lost = Failure(verdict=Verdict.RETRY_ROW, error_type="connection_lost", message="")
    for outcome, has_room in (
        (Rejected(exchange, failure), True),
        (NotSent(exchange, lost), True),
        (Unknown(exchange, lost), False),
    ):
        for _ in range(30):
            work = shop.work()
            shop.pace.begin(work, 0.0)
            shop.pace.end(work, outcome)
        assert shop.pace.has_room(60, 0) is has_room
