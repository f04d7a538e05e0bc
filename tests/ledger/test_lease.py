"""Leases: one owner at a time, and whoever was followed is fenced."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from batcher.errors import Fenced
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.owner import lease as leases
from batcher.ledger.owner.lease import Keeper
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.owner.process import in_pod, is_dead, is_of_pod, this_process
from tests.e2e.processes import wait_for


@pytest.fixture
def engine(postgres_url):
    engine = open_engine(postgres_url)
    yield engine
    engine.dispose()


def take(engine, name="run a", owner="me", **options):
    with writing(engine) as connection:
        return leases.take(connection, name, owner=owner, **options)


def do(engine, function, *arguments):
    with writing(engine) as connection:
        return function(connection, *arguments)


def expire(engine):
    with writing(engine) as connection:
        connection.execute(text("UPDATE leases SET expires_at = 1"))


def expiry(connection):
    return connection.scalar(text("SELECT expires_at FROM leases"))


def test_a_lease_has_one_owner(engine):
    take(engine, owner="the first")
    with pytest.raises(leases.LeaseHeld, match="the first has run a") as caught:
        take(engine)
    assert caught.value.holder.owner == "the first"
    assert take(engine, "run b").token == 1


def test_what_was_given_back_is_free_and_the_token_grows(engine):
    first = take(engine)
    do(engine, leases.release, first)
    assert take(engine).token == first.token + 1


def test_a_silent_owner_is_followed_and_fenced(engine):
    first = take(engine)
    expire(engine)
    second = take(engine, owner="the second")
    assert second.token == first.token + 1
    assert not do(engine, leases.renew, first)
    for call in ((leases.fence, first, 1), (leases.bind, first, 7), (leases.written, first)):
        with pytest.raises(Fenced, match="the second has taken over"):
            do(engine, *call)
    do(engine, leases.release, first)
    assert do(engine, leases.renew, second), "the old owner gave back nothing of ours"


def test_an_owner_that_nobody_followed_goes_on(engine):
    lease = take(engine)
    expire(engine)
    assert do(engine, leases.renew, lease)
    with pytest.raises(leases.LeaseHeld):
        take(engine)


def test_the_number_of_the_last_write_is_kept_for_its_owner_only(engine):
    lease = take(engine)
    assert do(engine, leases.written, lease) == 0
    do(engine, leases.fence, lease, 5)
    assert do(engine, leases.written, lease) == 5
    do(engine, leases.release, lease)
    assert do(engine, leases.written, take(engine)) == 0


def test_a_write_that_is_rolled_back_leaves_no_number(engine):
    lease = take(engine)
    with engine.connect() as connection:
        leases.fence(connection, lease, 3)  # and never a commit
    assert do(engine, leases.written, lease) == 0


def test_of_many_who_try_at_once_one_succeeds(engine):
    def attempt(number):
        try:
            return take(engine, owner=str(number))
        except leases.LeaseHeld:
            return None

    with ThreadPoolExecutor(5) as pool:
        got = [lease for lease in pool.map(attempt, range(25)) if lease]
    assert [lease.token for lease in got] == [1]


def test_an_owner_whose_process_ended_is_followed_at_once(engine):
    child = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    started = this_process().replace(f"/{os.getpid()}/", f"/{child.pid}/").rpartition("/")[0]
    take(engine)
    with writing(engine) as connection:
        connection.execute(text("UPDATE leases SET process = :p"), {"p": f"{started}/0"})
    child.communicate()
    assert take(engine).token == 2
    assert do(engine, leases.holders) != []


def test_who_holds_what_is_listed_by_the_beginning_of_the_name(engine):
    take(engine, "run a")
    take(engine, "run a_b", owner="them")
    take(engine, "other")
    names = [holder.name for holder in do(engine, leases.holders, "run ")]
    assert names == ["run a", "run a_b"]
    expire(engine)
    assert do(engine, leases.holders) == []


def test_whoever_needs_everything_fences_off_the_silent_and_respects_the_living(engine):
    lease = take(engine)
    with pytest.raises(leases.LeaseHeld):
        do(engine, lambda connection: leases.take_all(connection, owner="them"))
    expire(engine)
    all_of_it = do(engine, lambda connection: leases.take_all(connection, owner="them"))
    with pytest.raises(Fenced):
        do(engine, leases.fence, lease, 1)
    do(engine, leases.fence, all_of_it, 1)
    with pytest.raises(leases.LeaseHeld, match="them has all of the database"):
        do(engine, leases.keep_from_all)


def test_a_keeper_keeps_it_and_gives_it_back(engine):
    lease = take(engine, seconds=0.6)
    keeper = Keeper(engine, lease)
    before = do(engine, expiry)
    wait_for(lambda: do(engine, expiry) != before)
    wait_for(lambda: keeper.is_fresh)  # held up for long, it is so at the next renewal
    keeper.close()
    assert do(engine, leases.holders) == []


def test_a_keeper_learns_that_it_was_followed(engine):
    lease = take(engine, seconds=0.6)
    told = []
    keeper = Keeper(engine, lease)
    keeper.changed = lambda: told.append(keeper.lost)
    with writing(engine) as connection:
        connection.execute(text("UPDATE leases SET token = token + 1, owner = 'them'"))
    wait_for(lambda: any(told))  # one that comes late is told too, and nothing is lost by it
    assert "them has taken over" in str(told[-1])
    assert not keeper.is_fresh
    keeper.close()


def test_a_process_is_dead_when_it_ended_and_never_by_mistake():
    child = subprocess.Popen(
        [sys.executable, "-c", "from batcher.ledger.owner.process import this_process as p;"
         "print(p(), flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    name = child.stdout.readline().strip()
    assert not is_dead(name)
    child.communicate("\n")
    assert is_dead(name)
    assert not is_dead(this_process())


def test_a_process_says_of_which_pod_it_is():
    ours = in_pod(this_process(), "4f1c")
    assert is_of_pod(ours, "4f1c")
    assert not is_of_pod(ours, "4f1d")
    assert not is_of_pod(this_process(), "")
    assert not is_dead(ours)


@pytest.mark.parametrize(
    "name", ["", "/", "//", "elsewhere/pid:[1]/4/5", "a/b/c/d/e", "x/PID/1"]
)
def test_a_process_of_elsewhere_is_never_called_dead(name):
    assert not is_dead(name.replace("PID", str(os.getpid())))


def test_a_session_that_renews_ends_when_its_process_is_stopped_in_the_middle(postgres_url):
    """Else the row of the lease stays locked, and nobody can follow."""
    held = hold_database(postgres_url, "here", command="test", lease_seconds=60)
    with held as ownership, writing(ownership.keeper._engine) as connection:
        ends_after = connection.scalar(text("SHOW idle_in_transaction_session_timeout"))
    assert ends_after == "40s"
