"""Transactions of a run on PostgreSQL while its connection comes and goes."""

import gc
import random
import tempfile
import threading
from contextlib import ExitStack, closing
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError, IntegrityError

from batcher.errors import Fenced, LostTransactions
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.owner.lease import take
from batcher.ledger.owner.session import Session
from tests.cutting import cutting, start_server, stop_server

TERMINATE = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
    " WHERE datname = %s AND pid <> pg_backend_pid() AND application_name LIKE 'batcher%%'"
)


class Bench:
    """A session with a lease, and a table that notes which transactions were done how often."""

    def __init__(self, url, stack, **options):
        self.engine = open_engine(url)
        stack.callback(self.engine.dispose)
        with writing(self.engine) as connection:
            connection.execute(text("CREATE TABLE IF NOT EXISTS done (number bigint)"))
            self.lease = take(connection, "run a", owner="me", seconds=30)
        self.words = []
        self.session = stack.enter_context(
            Session(self.engine, self.lease, lost=self.words.append, **options)
        )

    def note(self, number):
        insert = text("INSERT INTO done VALUES (:number) RETURNING number")
        return self.session.transact(lambda c: c.scalar(insert, {"number": number}))

    def done(self):
        with writing(self.engine) as connection:
            return list(connection.scalars(text("SELECT number FROM done ORDER BY number")))


@pytest.fixture
def stack():
    with ExitStack() as held:
        yield held


@pytest.fixture
def proxy(postgres_server, stack):
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="batcher-cut-"))
    return stack.enter_context(cutting(Path(folder), postgres_server))


@pytest.mark.parametrize("when", ["cut_before", "cut_after"])
def test_a_commit_without_an_answer_is_done_exactly_once(postgres_url, proxy, stack, when):
    bench = Bench(proxy.url(postgres_url), stack)
    getattr(proxy, when).update(proxy.commits + 7 * number for number in range(1, 7))
    assert [bench.note(number) for number in range(20)] == list(range(20))
    assert bench.done() == list(range(20))
    assert any("closed" in words for words in bench.words)
    assert bench.words[-1] == "", "it is back"


def test_a_transaction_leaves_no_garbage(postgres_url, stack):
    """A run looks for it seldom: what each transaction left would pile up to megabytes."""
    bench = Bench(postgres_url, stack)
    insert = text("INSERT INTO done VALUES (1)")

    def transact(times):
        for _ in range(times):
            bench.session.transact(lambda c: c.execute(insert) and None)

    transact(10)
    gc.collect()
    gc.disable()
    stack.callback(gc.enable)
    transact(100)
    assert gc.collect() < 100


def test_cuts_in_a_row_are_survived_too(postgres_url, proxy, stack):
    bench = Bench(proxy.url(postgres_url), stack)
    first = proxy.commits + 1
    proxy.cut_after.update(range(first, first + 4, 2))
    proxy.cut_before.update(range(first + 1, first + 4, 2))
    assert [bench.note(number) for number in range(5)] == list(range(5))
    assert bench.done() == list(range(5))


def test_backends_ended_at_any_moment_lose_and_double_nothing(postgres_url, stack):
    bench, over, chance = Bench(postgres_url, stack), threading.Event(), random.Random(7)
    address = postgres_url.replace("postgresql+psycopg", "postgresql")
    name = postgres_url.partition("?")[0].rpartition("/")[2]

    def terminate():
        with closing(psycopg.connect(address, autocommit=True)) as connection:
            while not over.wait(chance.random() * 0.1):
                connection.execute(TERMINATE, (name,))

    thread = threading.Thread(target=terminate)
    thread.start()
    try:
        written = 0
        while len(bench.words) < 4 and written < 50_000:  # however fast the machine is
            assert bench.note(written) == written
            written += 1
    finally:
        over.set()
        thread.join()
    assert bench.done() == list(range(written))
    assert bench.words, "nothing was ended"


def test_a_server_that_restarts_is_waited_for(postgres_server, postgres_url, stack):
    bench = Bench(postgres_url, stack)
    bench.note(1)
    programs = stop_server(postgres_server)
    started = threading.Thread(target=start_server, args=(postgres_server, programs))
    started.start()
    try:
        assert bench.note(2) == 2
    finally:
        started.join()
    assert bench.done() == [1, 2]


def test_a_server_that_stays_away_is_given_up(postgres_server, postgres_url, stack):
    bench = Bench(postgres_url, stack, patience_seconds=0.3)
    programs = stop_server(postgres_server)
    try:
        with pytest.raises(DBAPIError):
            bench.note(1)
    finally:
        start_server(postgres_server, programs)
    assert bench.done() == []


def test_whoever_is_in_a_hurry_does_not_wait(postgres_server, postgres_url, stack):
    bench = Bench(postgres_url, stack)
    programs = stop_server(postgres_server)
    bench.session.hurry()
    try:
        with pytest.raises(DBAPIError):
            bench.note(1)
    finally:
        start_server(postgres_server, programs)


def test_an_owner_that_was_followed_changes_nothing(postgres_url, stack):
    bench = Bench(postgres_url, stack)
    bench.note(1)
    with writing(bench.engine) as connection:
        connection.execute(text("UPDATE leases SET expires_at = 0"))
        take(connection, "run a", owner="somebody else")
    with pytest.raises(Fenced, match="somebody else has taken over") as caught:
        bench.note(2)
    assert caught.value.exit_code == 75
    assert bench.done() == [1]


def test_an_owner_that_was_followed_while_its_connection_was_cut_learns_it(
    postgres_url, proxy, stack
):
    direct = Bench(postgres_url, stack)

    def follow(_):
        with writing(direct.engine) as connection:
            connection.execute(text("UPDATE leases SET expires_at = 0"))
            take(connection, "run a", owner="somebody else")

    engine = open_engine(proxy.url(postgres_url))
    stack.callback(engine.dispose)
    session = Session(engine, direct.lease, lost=follow)
    proxy.cut_before.add(proxy.commits + 1)
    insert = text("INSERT INTO done VALUES (1)")
    with session, pytest.raises(Fenced):
        session.transact(lambda connection: connection.execute(insert))
    assert direct.done() == []


def test_data_at_fault_is_raised_at_once_and_the_session_goes_on(postgres_url, stack):
    bench = Bench(postgres_url, stack)
    with writing(bench.engine) as connection:
        connection.execute(text("CREATE UNIQUE INDEX one ON done (number)"))
    bench.note(1)
    with pytest.raises(IntegrityError):
        bench.note(1)
    assert bench.note(2) == 2
    assert bench.words == []


def test_a_server_that_has_forgotten_transactions_is_noticed(postgres_url, proxy, stack):
    bench = Bench(proxy.url(postgres_url), stack)
    for number in range(5):
        bench.note(number)
    with writing(bench.engine) as connection:  # as a standby that lagged says
        connection.execute(text("UPDATE leases SET written = 3"))
    proxy.cut_before.add(proxy.commits + 1)
    with pytest.raises(LostTransactions, match="without the last 2 transactions") as caught:
        bench.note(5)
    assert bench.session.known == 3
    assert caught.value.exit_code == 74
    assert 5 not in bench.done()


def test_a_transaction_that_failed_is_not_taken_for_a_forgotten_one(postgres_url, proxy, stack):
    bench = Bench(proxy.url(postgres_url), stack)
    with writing(bench.engine) as connection:
        connection.execute(text("CREATE UNIQUE INDEX one ON done (number)"))
    bench.note(1)
    with pytest.raises(IntegrityError):
        bench.note(1)
    proxy.cut_before.add(proxy.commits + 1)
    assert bench.note(2) == 2
    assert bench.done() == [1, 2]
