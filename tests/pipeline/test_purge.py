"""`db purge`: the words of old answers go, everything that money needs stays."""

from pathlib import Path

import pytest

from batcher.ledger.connect import open_engine, writing
from batcher.ledger.maintenance import Purged, purge_database
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.purge import PURGED
from tests.making_runs import FakeLane, answered, refused, row, rows, unusable
from tests.pipeline.test_store import SAID, paused, problems, words_in

NEVER, NOW = 0, 2**62


def script(attempt):
    """Every kind of thing that holds words; only the first row's own answer is plain."""
    number = int(attempt.request.custom_id.removeprefix("id-"))
    if number == 1 and attempt.leg == 1:
        return paused(SAID)
    if number == 2 and attempt.number == 1:
        return unusable(SAID.encode())
    return refused(400) if number == 3 else answered(f"{SAID} {number}")


@pytest.fixture
def old(on_both):
    """A run with six rows, one of them refused before it was sent, that has ended."""
    on_both.write([*rows(5), '{"prompt": 7}'])
    assert on_both.run(FakeLane(script)).exit_code == 65
    return on_both


def purge(case, before_us=NOW, **options) -> Purged:
    return purge_database(case.database, before_us=before_us, **options)


def totals(case) -> list:
    """What reports are made of."""
    tables = ("v_charges", "v_cost_by_model_day", "rollups", "charges")
    return [sorted(map(str, case.ask(f"SELECT * FROM {table}"))) for table in tables]


def test_words_go_and_totals_and_resuming_stay(old):
    before = totals(old)
    assert SAID in words_in(old)
    done = purge(old)
    assert (done.answers, done.unusable, done.tools, done.kept) == (5, 1, 0, 0)
    assert SAID not in words_in(old)
    assert totals(old) == before
    assert problems(old) == []
    again = FakeLane()
    assert old.run(again).exit_code == 65
    assert again.sent == []


def test_nothing_that_was_said_is_left_in_the_file(old):
    purge(old)
    if "postgresql" in old.database:
        assert f"{SAID} 4" not in words_in(old)
        return
    path = Path(old.database.removeprefix("sqlite:///"))
    for file in path.parent.glob(f"{path.name}*"):
        assert f"{SAID} 4".encode() not in file.read_bytes(), file.name


def test_a_dry_run_counts_the_same_and_changes_nothing(old):
    before = words_in(old)
    found = purge(old, dry_run=True)
    assert words_in(old) == before
    assert found == purge(old)
    assert purge(old) == Purged()


def test_what_is_younger_stays(old):
    before = words_in(old)
    assert purge(old, NEVER) == Purged()
    assert words_in(old) == before


def test_failures_keep_their_reason_and_lose_their_message(old):
    reasons = old.ask("SELECT row_number, kind, reason FROM v_failures ORDER BY row_number")
    purge(old)
    assert old.ask("SELECT DISTINCT message FROM v_failures") == [(PURGED,)]
    assert reasons == old.ask(
        "SELECT row_number, kind, reason FROM v_failures ORDER BY row_number"
    )


def test_a_request_that_is_not_finished_keeps_its_legs_and_goes_on(on_both):
    on_both.write([row("x", "x")])
    first = FakeLane(lambda a: paused(SAID) if a.leg == 1 else refused(401))
    assert on_both.run(first).exit_code == 77
    assert purge(on_both).kept == 1
    second = FakeLane()
    assert on_both.run(second).exit_code == 0
    assert SAID in second.sent[0].body.decode()
    assert purge(on_both).answers == 2
    assert SAID not in words_in(on_both)


def test_a_run_that_is_on_goes_on_and_keeps_its_own_words(on_both):
    on_both.write(rows(3))
    on_both.run(FakeLane(lambda _: answered(SAID)))
    on_both.write(rows(9))
    found = []

    def during(attempt):
        found.append(purge(on_both))
        return answered("new")

    assert on_both.limit(concurrency=1).run(FakeLane(during)).exit_code == 0
    assert [done.answers for done in found] == [3, 0, 0, 0, 0, 0]
    assert sorted(text for _, text in on_both.texts()) == [""] * 3 + ["new"] * 6


def test_what_a_crash_left_is_purged_when_no_run_is_on(on_both):
    on_both.write(rows(3))
    on_both.run(FakeLane(lambda _: answered(SAID)))
    engine = open_engine(on_both.database)
    with writing(engine) as connection:
        connection.exec_driver_sql("UPDATE invocations SET ended_at = NULL")
    engine.dispose()
    with hold_database(on_both.database, "case", command="a run"):
        assert purge(on_both) == Purged()
    assert purge(on_both).answers == 3


def test_a_long_ledger_is_purged_in_steps(on_both):
    on_both.write(rows(1_203))
    on_both.limit(concurrency=64).run(FakeLane(lambda _: answered(SAID)))
    assert purge(on_both).answers == 1_203
    assert SAID not in words_in(on_both)
