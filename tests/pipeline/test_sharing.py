"""What runs of one database tell each other of their quotas, on a real server."""

import asyncio
from concurrent.futures import Future

import pytest
from sqlalchemy import text

from batcher.ledger.connect import open_engine, writing
from batcher.ledger.owner.sharing import (
    QUOTA_LEASE_SECONDS,
    drop_quota_claims,
    quota_claims,
)
from batcher.pacing.limits import Expected, QuotaLimits
from batcher.pacing.pacer import Pacer
from batcher.pacing.pool import Refusal
from batcher.pipeline.together.sharing import Sharing
from batcher.transport.endpoint import Endpoint, Secret, quota_fingerprint
from tests.making_runs import MODEL

ONE = Expected(1.0, 1.0)
QUOTA = QuotaLimits(requests=60)


class Direct:
    """A writer that writes at once."""

    def __init__(self, engine):
        self._engine = engine

    def call(self, function):
        done = Future()
        with writing(self._engine) as connection:
            done.set_result(function(connection))
        return done


class Hand:
    """A clock that is moved by hand."""

    def __init__(self):
        self.now = 1_000.0

    def monotonic(self):
        return self.now


@pytest.fixture
def engine(postgres_url):
    opened = open_engine(postgres_url)
    yield opened
    opened.dispose()


class Worker:
    def __init__(self, engine, clock, number, fingerprint="key"):
        self.pacer = Pacer(QUOTA, 64, clock.now)
        self.clock = clock
        self.sharing = Sharing(self.pacer, Direct(engine), clock, number, fingerprint)

    def look(self):
        asyncio.run(self.sharing.look())

    def want_all(self):
        """Send until the quota says to wait."""
        while not self.pacer.may_send(MODEL, ONE, self.clock.now):
            self.pacer.settled(self.pacer.sent(MODEL, ONE, self.clock.now), ONE, self.clock.now)

    @property
    def share(self):
        return self.pacer._pools[self.pacer.quotas[0]].share


@pytest.fixture
def two(engine):
    clock = Hand()
    return [Worker(engine, clock, number) for number in (1, 2)]


def test_two_that_want_everything_get_a_half_each(two):
    for _ in range(2):
        for worker in two:
            worker.want_all()
            worker.look()
    assert [worker.share for worker in two] == pytest.approx([0.5, 0.5])


def test_who_has_nothing_to_send_gives_its_share_away(two):
    first, second = two
    for worker in (first, second, first, second):
        worker.want_all()
        worker.look()
    for _ in range(10):  # a second each
        first.clock.now += 1
        first.want_all()
        first.look()
        second.look()
    assert first.share > 0.95
    assert 0 < second.share < 0.05


def test_a_pause_is_for_all_who_share(two):
    first, second = two
    for worker in two:
        worker.want_all()
        worker.look()
    reservation = first.pacer.sent(MODEL, ONE, first.clock.now)
    first.pacer.refused(reservation, Refusal(30.0, 0.5), first.clock.now)
    first.look()
    second.look()
    assert second.pacer.may_send(MODEL, ONE, second.clock.now) > 20


def test_another_key_shares_nothing(engine):
    clock = Hand()
    workers = [Worker(engine, clock, n, fingerprint=f"key {n}") for n in (1, 2)]
    for worker in workers:
        worker.want_all()
        worker.look()
    assert [worker.share for worker in workers] == [1.0, 1.0]


def test_who_leaves_or_dies_leaves_everything(engine, two):
    first, second = two
    for worker in (first, second, first):
        worker.want_all()
        worker.look()
    with writing(engine) as connection:
        drop_quota_claims(connection, 2)
    first.look()
    assert first.share == 1.0
    with writing(engine) as connection:
        late = text("UPDATE quota_leases SET expires_at = expires_at - :us")
        connection.execute(late, {"us": int(QUOTA_LEASE_SECONDS * 1_000_000)})
        assert not quota_claims(connection, "key")


def test_a_fingerprint_tells_keys_addresses_and_databases_apart_and_holds_no_key():
    here = Endpoint(name="a", base_url="https://here.example")
    same = Endpoint(name="b", base_url="https://here.example/v1/")
    there = Endpoint(name="a", base_url="https://there.example")
    key, other = Secret("sk-ant-secret-0123456789"), Secret("sk-ant-other-0123456789")
    mine = quota_fingerprint(here, key, "one")
    assert quota_fingerprint(same, key, "one") == mine
    others = [
        (there, key, "one"),
        (here, other, "one"),
        (here, key, "two"),
        (here, None, "one"),
    ]
    assert mine not in {quota_fingerprint(*each) for each in others}
    assert len(mine) == 32
    assert "secret" not in mine
