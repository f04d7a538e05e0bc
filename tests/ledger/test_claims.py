"""Answers find their rows again, each at most one."""

from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, insert, select

from batcher.ledger import resume, runs
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.schema import answers, attempts, failures
from batcher.ledger.write.records import Claimable, identity
from batcher.messages.request import Request
from tests.ledger.test_writer import START


def request(row_number: int, name: int, *, source_id: int = 2, custom_id=None) -> Request:
    return Request(
        source_id=source_id, row_number=row_number, byte_offset=None, custom_id=custom_id,
        params_hash=bytes([name]) * 16, model="m", max_tokens=1, body=b"{}",
    )  # fmt: skip


def among(run_id: int, *live_sources: int) -> Claimable:
    return Claimable(run_id=run_id, live_sources=live_sources)


@pytest.fixture
def ledger(database_url):
    """An engine on a ledger with a run of two sources."""
    engine = open_engine(database_url)
    with writing(engine) as connection:
        run_id = runs.open_run(connection, "k", None, 0)
        runs.start_invocation(connection, run_id, runs.InvocationStart(**START))
        for name in ("old", "new"):
            source = runs.NewSource(
                name=name, location="l", fingerprint="f", settings_digest="d", matched=False
            )
            runs.add_source(connection, run_id, source)
    yield engine
    engine.dispose()


def store(connection, found: Request, key: int, *, final: int = 1) -> None:
    """An answer to `found`."""
    common = {
        "request_id": key, "invocation_id": 1, "source_id": found.source_id,
        "row_number": found.row_number, "custom_id": found.custom_id,
        "params_hash": found.params_hash, "requested_model": "m",
    }  # fmt: skip
    connection.execute(
        insert(attempts).values(
            attempt_id=key,
            attempt_uid=str(key),
            number=1,
            leg=1,
            purpose="first",
            lane="live",
            state="answered",
            pending=0,
            opened_at=0,
            cost_low=0,
            **common,
        )
    )
    connection.execute(
        insert(answers).values(
            attempt_id=key,
            run_id=1,
            identity=identity(found.custom_id, found.params_hash),
            final=final,
            text="",
            text_repaired=0,
            content="[]",
            attempts=1,
            latency_us=1,
            answered_at=1,
            legs=1,
            **common,
        )
    )


def clear(connection) -> None:
    connection.execute(delete(answers))
    connection.execute(delete(attempts))


def places(connection) -> list[tuple[int, int, int]]:
    columns = (answers.c.attempt_id, answers.c.source_id, answers.c.row_number)
    return [tuple(row) for row in connection.execute(select(*columns).order_by(columns[0]))]


def test_an_answer_moves_to_the_row_that_asks_the_same(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1)
        assert resume.claim(connection, among(1, 2), [request(9, 1), request(10, 2)]) == {9}
        assert places(connection) == [(1, 2, 9)]


def test_an_answer_of_a_live_source_stays_where_it_is(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1)
        assert resume.claim(connection, among(1, 1, 2), [request(9, 1)]) == set()


def test_a_leg_that_is_not_final_cannot_be_claimed(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1, final=0)
        assert resume.claim(connection, among(1, 2), [request(9, 1)]) == set()


def test_the_same_body_under_another_custom_id_is_another_row(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1, custom_id="a"), 1)
        asked = [request(1, 1, custom_id="b"), request(2, 1), request(3, 1, custom_id="a")]
        assert resume.claim(connection, among(1, 2), asked) == {3}


def test_another_run_cannot_claim(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1)
        assert resume.claim(connection, among(99, 2), [request(9, 1)]) == set()


def test_identities_that_share_their_64_bits_are_told_apart(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1)
        alike = identity(None, request(0, 2).params_hash)
        connection.execute(answers.update().values(identity=alike))
        assert resume.claim(connection, among(1, 2), [request(9, 2)]) == set()


def test_a_lasting_failure_is_claimed_and_a_transient_one_is_not(ledger):
    with writing(ledger) as connection:
        for number, transient in ((1, 0), (2, 1)):
            found = request(number, number, source_id=1)
            connection.execute(
                insert(failures).values(
                    run_id=1,
                    invocation_id=1,
                    source_id=1,
                    row_number=number,
                    params_hash=found.params_hash,
                    identity=identity(None, found.params_hash),
                    kind="failed",
                    reason="r",
                    message="m",
                    transient=transient,
                    failed_at=0,
                )
            )
        assert resume.claim(connection, among(1, 2), [request(8, 1), request(9, 2)]) == {8}


def test_ten_thousand_rows_are_matched_at_once(ledger):
    with writing(ledger) as connection:
        store(connection, request(5, 1, source_id=1), 1)
        asked = [request(n, n % 250 + 2) for n in range(1, 10_000)]
        assert resume.claim(connection, among(1, 2), [*asked, request(10_000, 1)]) == {10_000}


@settings(
    deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(1, 4), max_size=8), st.lists(st.integers(1, 4), max_size=8))
def test_n_equal_rows_get_as_many_answers_as_there_are_and_never_one_twice(ledger, old, new):
    with writing(ledger) as connection:
        clear(connection)
        for number, name in enumerate(old, 1):
            store(connection, request(number, name, source_id=1), number)
        asked = [request(number, name) for number, name in enumerate(new, 1)]
        claimed = resume.claim(connection, among(1, 2), asked)
        moved = [row for _, source, row in places(connection) if source == 2]
    assert Counter(moved) == Counter(claimed)
    assert Counter(new[n - 1] for n in claimed) == Counter(old) & Counter(new)
