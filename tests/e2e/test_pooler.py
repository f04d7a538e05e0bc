"""`batcher` through a PgBouncer whose few sessions it shares with another application."""

import threading
from contextlib import contextmanager, suppress

import psycopg
import pytest

from tests.e2e.inputs import rows, write_jsonl
from tests.e2e.ledgers import count
from tests.e2e.processes import kill, wait_until
from tests.pooler import pooling

SESSIONS = 2  # of the server: whatever is left on one is met at once by whoever comes next
ADVISORY = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory'"


@pytest.fixture(params=["transaction", "session"])
def pooler(request, postgres_server):
    # In session mode each connection has one of the server for as long as it lasts.
    sessions = SESSIONS if request.param == "transaction" else 20
    with pooling(postgres_server, request.param, sessions=sessions) as started:
        yield started


@pytest.fixture
def typed(folder, simulate, pooler, postgres_server):
    """Types commands for a new and empty database behind the pooler."""
    direct = postgres_server.new_database()
    simulator = simulate()

    class Typed:
        url = direct

        def run(self, number):
            """The next run, with an input of its own."""
            write_jsonl(folder.path / f"rows{number}.jsonl", rows(20))
            where = ("--endpoint", "simulator", "--base-url", simulator.url, "--quiet")
            return self.look("run", f"rows{number}.jsonl", *where)

        def look(self, *words):
            done = folder.batcher(*words, "--database", pooler.url(direct))
            assert done.code == 0, done
            return done

    yield Typed()
    postgres_server.drop(direct)


@contextmanager
def another_application(pooler, direct):
    """Writes all the while, a row a statement; gives what it was told instead of success."""
    refused, ending = [], threading.Event()
    with pooler.connect(direct) as connection:
        connection.execute("CREATE TABLE theirs (number INT, told TIMESTAMPTZ DEFAULT now())")

        def write():
            while not ending.is_set():
                try:
                    connection.execute("INSERT INTO theirs VALUES (1)")
                    with connection.transaction():
                        connection.execute("UPDATE theirs SET number = number + 1")
                        connection.execute("DELETE FROM theirs")
                except psycopg.Error as error:
                    refused.append(str(error))

        thread = threading.Thread(target=write)
        thread.start()
        try:
            yield refused
        finally:
            ending.set()
            thread.join()


def test_a_ledger_lives_behind_a_pooler(typed, pooler):
    typed.look("db", "upgrade")
    typed.run(1)
    assert "20 answered" in typed.look("status").out
    assert "20" in typed.look("report").out
    assert len(typed.look("export", "--run", "1", "-o", "-").out.splitlines()) == 20
    assert "no problems" in typed.look("verify").out
    typed.look("db", "check")
    typed.look("db", "vacuum")
    with pooler.connect(typed.url) as connection:
        assert connection.execute(ADVISORY).fetchone() == (0,)
        connection.execute("CREATE TABLE theirs (number INT)")


def test_prices_change_and_months_close_behind_a_pooler(typed, pooler, folder):
    typed.run(1)
    price = 'list = "simulator"\nmodel = "claude-haiku-4-5"\nvalid_from = 2026-01-01\n'
    own = f'version = "own"\n[[rates]]\n{price}input = "2"\noutput = "3"\n'
    (folder.path / "own.toml").write_text(own)
    assert "20" in typed.look("reprice", "--book", "own.toml").out
    typed.look("prices", "close", "2020-01")
    assert "2020-01" in typed.look("prices", "ratings").out
    assert "no problems" in typed.look("verify").out
    with pooler.connect(typed.url) as connection:
        assert connection.execute(ADVISORY).fetchone() == (0,)


def test_a_run_that_was_killed_leaves_nothing_in_the_pool(typed, pooler, folder, simulate):
    write_jsonl(folder.path / "rows.jsonl", rows(50))
    slow = simulate("--latency-ms", "60000-60000")
    where = ("--endpoint", "simulator", "--base-url", slow.url)
    process = folder.start("run", "rows.jsonl", *where, "--database", pooler.url(typed.url))
    assert wait_until(lambda: slow_is_asked(typed.url), process)
    kill(process)
    typed.look("db", "upgrade")


def slow_is_asked(url):
    with suppress(psycopg.Error):
        return count(url, "v_attempts", "state = 'open'") > 0
    return False  # no tables yet


def typed_behind(folder, simulate, server, more):
    """What a run says behind a pooler with these settings, whose sessions others have taken."""
    direct = server.new_database()
    write_jsonl(folder.path / "rows.jsonl", rows(5))
    with pooling(server, "session", sessions=1, more=more) as pooler, pooler.connect(direct):
        where = ("--endpoint", "simulator", "--base-url", simulate().url)
        done = folder.batcher("run", "rows.jsonl", *where, "--database", pooler.url(direct))
    server.drop(direct)
    return done


@pytest.mark.parametrize(
    ("more", "advice"),
    [
        ("max_client_conn = 1\n", "raise max_connections, or max_client_conn of its pooler"),
        ("query_wait_timeout = 1\n", "raise default_pool_size, or run the same command"),
    ],
)
def test_a_pooler_that_has_no_room_is_named(folder, simulate, postgres_server, more, advice):
    done = typed_behind(folder, simulate, postgres_server, more)
    assert done.code == 74
    assert advice in done.err


def runs_beside_another_application(typed, pooler, rounds):
    with another_application(pooler, typed.url) as refused:
        for number in range(rounds):
            typed.run(number)
            typed.look("report")
            typed.look("status")
    assert refused == []
    assert "no problems" in typed.look("verify").out


def test_another_application_writes_all_the_while(typed, pooler):
    typed.look("db", "upgrade")
    runs_beside_another_application(typed, pooler, rounds=3)


@pytest.mark.campaign
def test_another_application_writes_beside_two_hundred_runs(typed, pooler):
    typed.look("db", "upgrade")
    runs_beside_another_application(typed, pooler, rounds=200)
