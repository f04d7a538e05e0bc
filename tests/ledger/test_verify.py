"""A ledger that says what follows from its answers passes; every contradiction is told."""

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from batcher.ledger.connect import open_engine, reading
from batcher.ledger.maintenance import vacuum_database, verify
from batcher.ledger.verify.findings import MOST_OF_A_KIND
from batcher.ledger.verify.totals import stored_rollups
from batcher.pricing.book.book import load_shipped
from tests.ledger.settling import NOON, RunLedger
from tests.ledger.test_rollup import ANSWERS, records

DAY = 86_400_000_000


@pytest.fixture
def ledger(database_url):
    made = RunLedger(database_url)
    yield made
    made.engine.dispose()


def problems(ledger):
    """What a reader finds who may not write."""
    engine = open_engine(ledger.url, read_only=True)
    try:
        found = verify(engine)
    finally:
        engine.dispose()
    assert found.problems >= len(found.findings)
    return [f"{each.kind}: {each.text}" for each in found.findings]


@pytest.fixture
def filled(ledger):
    return fill(ledger)


def fill(ledger):
    """Two finished rows, one broken stream, one attempt in doubt."""
    ledger.write(ledger.answered(), ledger.answered({"input_tokens": 7, "output_tokens": 0}))
    ledger.write(ledger.broken(), ledger.unknown())
    return ledger


def test_two_answers_under_one_message_id_are_found(filled):
    with filled.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE answers SET message_id = 'msg_same' WHERE final = 1")
    (found,) = [line for line in problems(filled) if line.startswith("message: ")]
    assert "2 answers have the message id msg_same" in found


# --- nothing to find


def test_an_empty_ledger_has_no_problems(ledger):
    assert problems(ledger) == []


def test_what_a_run_wrote_has_no_problems(filled):
    assert problems(filled) == []


@settings(
    max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(answers=st.lists(ANSWERS.map(lambda answer: (*answer[:4], True)), max_size=6))
def test_whatever_is_answered_recomputes_to_the_same_integers(ledger, answers):
    ledger.write(*records(ledger, answers))
    # Usage made up at random may be dearer than what was asked for, which is told, too.
    assert [line for line in problems(ledger) if not line.startswith("bill: ")] == []


def test_answers_are_recomputed_across_chunks(sqlite_url):
    ledger = RunLedger(sqlite_url)
    ledger.write(*(ledger.answered() for _ in range(4_500)))
    ledger.execute("UPDATE charges SET total_amount = 1 WHERE attempt_id % 1500 = 0")
    found = verify(ledger.engine)
    assert (found.answers, found.charges) == (4_500, 4_500)
    assert sum(each.kind == "charge" for each in found.findings) == 3
    ledger.engine.dispose()


def test_each_invocation_is_recomputed_with_its_own_list(ledger):
    ledger.write(ledger.answered(sent_at=NOON + 10 * DAY))
    ledger.next_run("without prices", price_list=None)
    ledger.write(ledger.answered(price_list=None))
    assert problems(ledger) == []
    ledger.execute("UPDATE invocations SET price_list = 'anthropic' WHERE price_list IS NULL")
    (found,) = problems(ledger)
    assert "stored as no amount unpriced" in found


# --- everything to find

NUMBERS = [
    f"{meter}_{kind}"
    for meter in ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
    for kind in ("quantity", "amount")
]


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(column=st.sampled_from([*NUMBERS, "total_amount"]), by=st.integers(1, 10**6))
def test_no_number_of_a_charge_can_be_off_by_anything(sqlite_url, column, by):
    ledger = RunLedger(sqlite_url)
    ledger.write(ledger.answered())
    ledger.execute(f"UPDATE charges SET {column} = COALESCE({column}, 0) + {by}")
    found = verify(ledger.engine).findings
    ledger.execute(f"UPDATE charges SET {column} = {column} - {by}")
    ledger.engine.dispose()
    assert "charge" in {each.kind for each in found}


ONE = "(SELECT MIN(attempt_id) FROM answers)"
TAMPERED = [
    (f"UPDATE charges SET total_amount = total_amount + 1 WHERE attempt_id = {ONE}",
     "charge: answer .* stored as 60000001 pico-units priced, recomputed as 60000000"),
    (f"UPDATE charges SET output_amount = 0 WHERE attempt_id = {ONE}",
     "charge: .* quantities or amounts"),
    (f"UPDATE charges SET status = 'unpriced' WHERE attempt_id = {ONE}", "charge: .* unpriced"),
    (f"UPDATE charges SET current = 0 WHERE attempt_id = {ONE}", "current: .* not current"),
    ("UPDATE rate_sets SET input_rate = 5", "charge: .* rates"),
    ("UPDATE price_books SET content = replace(content, 'a test', 'a tale')",
     "price book: .* sha256"),
    ("UPDATE price_books SET content = 'no book'", "price book: .* cannot be read"),
    ("UPDATE price_books SET version = 'two'", "price book: .* says that it is version one"),
    ("UPDATE answers SET usage = '{\"input_tokens\": 11}'",
     "usage: .* token columns"),
    ("UPDATE answers SET usage = '{\"input_tokens\": -1}'", "usage: .* token columns"),
    ("UPDATE answers SET model = 'unheard-of'", "charge: .* recomputed as no amount unpriced"),
    (f"DELETE FROM charges WHERE attempt_id = {ONE}", "charge: .* was never rated"),
    ("UPDATE rollups SET final_answers = 3",
     "rollup: rollup of invocation_id 1, .*: final_answers 3 instead of 2"),
    ("DELETE FROM rollups", "rollup: .* charges 0 instead of 2"),
    ("UPDATE answers SET final = 1 WHERE final = 0", "row: .* partial"),
    ("UPDATE answers SET row_number = 1", "row: row 1 of source 1 has 2 final answers"),
    ("UPDATE attempts SET state = 'rejected' WHERE state = 'answered'",
     "orphan: attempt .* has an answer and is rejected"),
    ("UPDATE attempts SET state = 'answered' WHERE state = 'unknown'",
     "orphan: attempt .* is answered and has no answer"),
    ("UPDATE attempts SET state = 'unusable' WHERE state = 'unknown'",
     "orphan: .* bytes are not kept"),
    ("UPDATE attempts SET pending = 1 WHERE state = 'answered'",
     "pending: attempt .* final answer"),
    ("UPDATE attempts SET state = 'open', pending = 0 WHERE state = 'unknown'",
     "open: attempt .* no longer pending"),
    ("UPDATE attempts SET cost_low = 9, cost_high = 8 WHERE state = 'unknown'",
     "doubt: .* at least 9 and at most 8"),
    ("UPDATE sources SET done_ranges = '[[1,9]]'", "done: row .* remembered as done"),
    ("UPDATE sources SET rows = 1", "done: row 2 of first.jsonl has an answer; it has 1 rows"),
    ("UPDATE invocations SET command = 'run --key sk-ant-api03-abcdefghijklmnop'",
     "key: command of invocations 1"),
    ("UPDATE attempts SET error_message = 'Bearer abcdefghijklmnopqrstuvwxyz0123'"
     " WHERE state = 'unknown'", "key: error_message of attempts"),
]  # fmt: skip


@pytest.mark.parametrize(("statement", "told"), TAMPERED)
def test_what_was_tampered_with_is_told(sqlite_url, statement, told):
    ledger = fill(RunLedger(sqlite_url))
    ledger.execute(statement)
    found = problems(ledger)
    ledger.engine.dispose()
    assert any(re.search(told, each) for each in found), found


def test_a_server_is_told_the_same(postgres_url):
    ledger = fill(RunLedger(postgres_url))
    for statement, told in TAMPERED[::4]:
        ledger.execute(statement)
        assert any(re.search(told, each) for each in problems(ledger)), statement
    ledger.engine.dispose()


SUMS = (
    "UPDATE rollups SET lane = 'elsewhere', final_answers = 3",
    "DELETE FROM rollups",
)


@pytest.mark.parametrize("statement", SUMS)
def test_sums_that_are_wrong_are_added_up_anew(database_url, statement):
    ledger = fill(RunLedger(database_url))
    before = stored(ledger)
    ledger.execute(statement)
    assert "batcher db vacuum" in problems(ledger)[0]
    ledger.engine.dispose()
    assert "sums that were wrong, and are right now" in vacuum_database(database_url)
    assert (problems(ledger), stored(ledger)) == ([], before)
    assert "are right now" not in vacuum_database(database_url)


def stored(ledger):
    engine = open_engine(ledger.url, read_only=True)
    with reading(engine) as connection:
        found = stored_rollups(connection)
    engine.dispose()
    return found


def test_an_attempt_that_was_followed_waits_for_nothing(filled):
    first = filled.ask("SELECT attempt_id FROM attempts WHERE state = 'unknown'")[0][0]
    again = filled.attempt(request_id=first, number=2, replaces=first)
    filled.write(filled.answered(attempt=again))
    assert problems(filled) == []
    filled.execute("UPDATE attempts SET pending = 1 WHERE state = 'unknown'")
    assert f"pending: attempt {first} is to be followed" in problems(filled)[0]


def test_a_key_that_is_found_is_not_repeated(filled):
    filled.execute("UPDATE runs SET key = 'sk-ant-api03-abcdefghijklmnop'")
    assert "abcdefg" not in "".join(problems(filled))


def test_an_attempt_that_a_later_process_left_open_is_told(filled):
    filled.execute("UPDATE attempts SET state = 'open' WHERE state = 'unknown'")
    assert problems(filled) == []  # nobody recovered yet
    filled.next_run("first")
    filled.execute("UPDATE invocations SET ended_at = 1 WHERE invocation_id = 2")
    (found,) = problems(filled)
    assert "is open although the run went on without it" in found


def test_orphans_are_told(database_url):
    ledger = RunLedger(database_url)
    ledger.write(ledger.answered(), ledger.answered())
    ledger.execute(f"DELETE FROM attempts WHERE attempt_id = {ONE}")
    ledger.execute(
        "DELETE FROM answers WHERE attempt_id = (SELECT MAX(attempt_id) FROM answers)"
    )
    found = "\n".join(problems(ledger))
    ledger.engine.dispose()
    assert "has no attempt" in found
    assert "has charges and no answer" in found
    assert "points to nothing in attempts" in found


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        (f"UPDATE answers SET source_id = 99 WHERE attempt_id = {ONE}", "sources"),
        (f"UPDATE answers SET run_id = 99 WHERE attempt_id = {ONE}", "runs"),
        (f"UPDATE charges SET rate_set_id = 99 WHERE attempt_id = {ONE}", "rate_sets"),
        (f"UPDATE charges SET rating_id = 99 WHERE attempt_id = {ONE}", "ratings"),
    ],
)
def test_a_reference_to_nothing_is_told(filled, statement, told):
    filled.execute(statement)
    table = statement.split()[1]
    ((first,),) = filled.ask(f"SELECT {ONE}")
    assert f"{table} {first} points to nothing in {told}" in "\n".join(problems(filled))


def test_a_long_list_is_cut_and_still_counted(filled):
    filled.write(*(filled.answered() for _ in range(2 * MOST_OF_A_KIND)))
    filled.execute("UPDATE charges SET total_amount = 0")
    found = verify(filled.engine)
    assert sum(each.kind == "charge" for each in found.findings) == MOST_OF_A_KIND
    assert found.problems > 2 * MOST_OF_A_KIND


def test_what_was_charged_before_regions_were_seen_is_not_held_against_these_rules(sqlite_url):
    ledger = RunLedger(sqlite_url, load_shipped())
    attempt = ledger.attempt()
    asked = replace(attempt.request, model="us.anthropic.claude-sonnet-5")
    ledger.write(ledger.answered(attempt=replace(attempt, request=asked)))
    assert problems(ledger) == []
    ledger.execute("UPDATE charges SET input_amount = input_amount - 1")
    assert [line for line in problems(ledger) if line.startswith("charge: ")]
    ledger.execute("UPDATE ratings SET rules = 2")
    assert not [line for line in problems(ledger) if line.startswith("charge: ")]
    ledger.engine.dispose()
