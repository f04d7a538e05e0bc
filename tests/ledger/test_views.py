"""The stable views: their columns are the contract, their values the same on both databases."""

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import inspect, text

from batcher.ledger import schema
from batcher.ledger.connect import open_engine, reading
from batcher.ledger.migrate import prepare
from tests.ledger.by_hand import (
    AFTER,
    BASE,
    BEFORE,
    MIDNIGHT,
    UNPRICED,
    answer,
    attempt,
    charge,
    insert,
    query,
    row,
)

LOCATOR = "run_id invocation_id job endpoint lane source row_number custom_id"
ANSWERS = (
    "requested_model model message_id stop_reason stop_sequence text content input_tokens"
    " cache_write_5m_tokens cache_write_1h_tokens cache_read_tokens output_tokens"
    " thinking_tokens web_search_requests service_tier attempts legs latency_ms"
    " first_token_ms answered_at cost_pico_usd cost_status provider_reported_cost"
    " paid_by_attempt_uid cost_usd cost_low_usd cost_high_usd container_id thinking"
    " workspace_id key_fingerprint"
)
CONTRACT = {
    "v_answers": f"{LOCATOR} {ANSWERS}",
    "v_answers_all": f"{LOCATOR} {ANSWERS}",
    "v_texts": f"{LOCATOR} text model stop_reason cost_usd",
    "v_attempts": f"{LOCATOR} attempt_uid attempt leg purpose state requested_model sent_at"
    " settled_at http_status error_type error_code provider_request_id workspace_id"
    " cost_low_pico_usd cost_high_pico_usd cost_low_usd cost_high_usd",
    "v_charges": f"{LOCATOR} attempt_uid line model meter quantity rate amount currency"
    " amount_pico_usd amount_usd status reason price_book rating",
    "v_batches": "run_id invocation_id job endpoint lane batch_number batch_id state"
    " requested_model intended_at created_at expires_at ended_at requests succeeded errored"
    " expired canceled",
    "v_failures": f"{LOCATOR} byte_offset kind reason message",
    "v_cost_by_model_day": "day endpoint model requests attempts input_tokens"
    " cache_write_5m_tokens cache_write_1h_tokens cache_read_tokens output_tokens"
    " thinking_tokens web_search_requests cost_pico_usd in_doubt_low_pico_usd"
    " in_doubt_high_pico_usd unpriced_requests cost_usd in_doubt_low_usd in_doubt_high_usd"
    " assumed_low_usd assumed_high_usd",
}


@pytest.fixture
def engine(database_url):
    opened = open_engine(database_url)
    yield opened
    opened.dispose()


@pytest.fixture
def filled(engine):
    """One of everything: legs, doubt, a late answer, every status of a charge."""
    second_leg = {"request_id": 2, "row_number": 2}
    insert(
        engine,
        BASE
        | {
            schema.attempts: [
                attempt(1, settled_at=MIDNIGHT, http_status=200, provider_request_id="req_1"),
                attempt(2),
                attempt(3, state="unknown", number=2, leg=2, cost_high=500, **second_leg),
                attempt(4, number=3, leg=2, purpose="continuation", **second_leg),
                attempt(5, sent_at=MIDNIGHT),
                attempt(6, source_id=2),
                attempt(7, state="late", request_id=1, row_number=1, number=2),
                attempt(8, sent_at=MIDNIGHT),
                attempt(9, sent_at=MIDNIGHT),
                attempt(10, state="partial", cost_low=5, sent_at=MIDNIGHT),
                attempt(11, state="open", cost_high=900, opened_at=MIDNIGHT, sent_at=None),
                attempt(12, state="rejected", cost_high=0, http_status=429, error_type="x"),
                attempt(13, sent_at=MIDNIGHT),
            ],
            schema.answers: [
                answer(1),
                answer(2, final=0, thinking_tokens=4, stop_reason="pause_turn"),
                answer(
                    4,
                    request_id=2,
                    row_number=2,
                    legs=2,
                    attempts=3,
                    input_tokens=11,
                    cache_write_tokens=6,
                    joined_text="both",
                    joined_content="[2,4]",
                ),
                answer(5, model="unheard-of"),
                answer(6, source_id=2),
                answer(7, final=0, request_id=1, row_number=1, first_token_us=2_000_000),
                answer(8, stop_reason="refusal"),
                answer(9),
                answer(13, input_tokens=None, output_tokens=None),
            ],
            schema.charges: [
                charge(1, rating_id=2),
                charge(1, current=0, total_amount=77),
                charge(2),
                charge(4, status="assumed", reason="no tier"),
                charge(4, line=1, model="helper-1", total_amount=7, output_amount=0),
                charge(5, model="unheard-of", **UNPRICED),
                charge(6),
                charge(7),
                charge(8, status="unbilled", input_amount=0, output_amount=0, total_amount=0),
                charge(9, currency="EUR"),
                charge(13, input_quantity=None, output_quantity=None, **UNPRICED),
            ],
        },
    )
    return engine


# --- columns


def test_the_views_are_those_of_the_contract_with_at_least_its_columns(engine):
    inspector = inspect(engine)
    assert set(inspector.get_view_names()) == set(CONTRACT)
    for view, columns in CONTRACT.items():
        found = [column["name"] for column in inspector.get_columns(view)]
        assert set(columns.split()) <= set(found), view


def test_both_databases_show_the_same_columns_in_the_same_order(sqlite_url, postgres_url):
    shown = []
    for url in (sqlite_url, postgres_url):
        opened = open_engine(url)
        with reading(opened) as connection:
            rows = {v: connection.execute(text(f"SELECT * FROM {v}")) for v in CONTRACT}
            shown.append({view: list(found.keys()) for view, found in rows.items()})
        opened.dispose()
    assert shown[0] == shown[1]


# --- values


def test_answers_add_up_the_legs_and_leave_out_what_was_superseded(filled):
    statement = (
        "SELECT source, row_number, text, content, input_tokens, output_tokens,"
        " thinking_tokens, cache_write_tokens, cost_pico_usd, cost_status"
        " FROM v_answers ORDER BY row_number"
    )
    assert query(filled, statement) == [
        ("new.jsonl", 1, "text 1", "[1]", 10, 20, None, None, 130, "priced"),
        ("new.jsonl", 2, "both", "[2,4]", 21, 40, 4, 6, 267, "assumed"),
        ("new.jsonl", 5, "text 5", "[5]", 10, 20, None, None, None, "unpriced"),
        ("new.jsonl", 8, "text 8", "[8]", 10, 20, None, None, 0, "unbilled"),
        ("new.jsonl", 9, "text 9", "[9]", 10, 20, None, None, None, "priced"),
        ("new.jsonl", 13, "text 13", "[13]", None, None, None, None, None, "unpriced"),
    ]


def test_all_answers_show_each_with_its_own_numbers(filled):
    statement = (
        "SELECT attempt_uid, text, final, state, leg, input_tokens, cost_pico_usd"
        " FROM v_answers_all WHERE request_id IN (1, 2, 6) ORDER BY attempt_uid"
    )
    assert query(filled, statement) == [
        ("u-1", "text 1", 1, "answered", 1, 10, 130),
        ("u-2", "text 2", 0, "answered", 1, 10, 130),
        ("u-4", "text 4", 1, "answered", 2, 11, 137),
        ("u-6", "text 6", 1, "answered", 1, 10, 130),
        ("u-7", "text 7", 0, "late", 1, 10, 130),
    ]


def test_an_answer_says_where_it_belongs_and_when_it_came(filled):
    statement = f"SELECT {LOCATOR.replace(' ', ', ')}, latency_ms, first_token_ms, answered_at"
    first, late = query(
        filled, f"{statement} FROM v_answers_all WHERE request_id = 1 ORDER BY attempt_uid"
    )
    place = (1, 1, "nightly", "anthropic", "live", "new.jsonl", 1)
    assert first == (*place, "c1", 1, None, AFTER)
    assert late == (*place, "c7", 1, 2000, AFTER)


def test_attempts_cost_their_charges_or_an_interval(filled):
    statement = (
        "SELECT attempt_uid, state, cost_low_pico_usd, cost_high_pico_usd FROM v_attempts"
        " ORDER BY request_id, attempt"
    )
    assert query(filled, statement) == [
        ("u-1", "answered", 130, 130),
        ("u-7", "late", 130, 130),
        ("u-2", "answered", 130, 130),
        ("u-3", "unknown", 0, 500),
        ("u-4", "answered", 137, 137),
        ("u-5", "answered", 0, None),
        ("u-6", "answered", 130, 130),
        ("u-8", "answered", 0, 0),
        ("u-9", "answered", 0, None),
        ("u-10", "partial", 5, None),
        ("u-11", "open", 0, 900),
        ("u-12", "rejected", 0, 0),
        ("u-13", "answered", 0, None),
    ]


def test_answers_tell_who_pays_and_shared_ones_that_nobody_does(engine):
    paying = BASE[schema.invocations][0] | {"key_fingerprint": "aa11"}
    rows = BASE | {schema.invocations: [paying]}
    rows[schema.attempts] = [attempt(1, workspace_id="wrkspc_1")]
    rows[schema.answers] = [answer(1)]
    rows[schema.shared_answers] = [row(schema.shared_answers, attempt_id=1, row_number=2)]
    insert(engine, rows)
    who = "SELECT row_number, workspace_id, key_fingerprint FROM {} ORDER BY row_number"
    paid = (1, "wrkspc_1", "aa11")
    assert query(engine, who.format("v_answers")) == [paid, (2, None, None)]
    assert query(engine, who.format("v_answers_all")) == [paid]


def test_times_are_shown_to_the_microsecond(filled):
    statement = "SELECT opened_at, sent_at, settled_at FROM v_attempts WHERE attempt_uid = "
    before = "2026-03-01T23:59:59.999998Z"
    assert query(filled, statement + "'u-1'") == [(before, BEFORE, AFTER)]
    assert query(filled, statement + "'u-11'") == [(AFTER, None, None)]


def test_charges_have_a_line_per_meter_of_the_current_rating(filled):
    statement = (
        "SELECT attempt_uid, line, model, meter, quantity, rate, amount, currency,"
        " amount_pico_usd, status, price_book, rating FROM v_charges"
        " WHERE attempt_uid IN ('u-1', 'u-5', 'u-8', 'u-9', 'u-13')"
        " ORDER BY request_id, meter"
    )
    book = ("2026.3", 1)
    assert query(filled, statement) == [
        ("u-1", 0, "small-1", "input", 10, 3, 30, "USD", 30, "priced", "2026.3", 2),
        ("u-1", 0, "small-1", "output", 20, 5, 100, "USD", 100, "priced", "2026.3", 2),
        ("u-5", 0, "unheard-of", "input", 10, None, None, None, None, "unpriced", *book),
        ("u-5", 0, "unheard-of", "output", 20, None, None, None, None, "unpriced", *book),
        ("u-8", 0, "small-1", "input", 10, 3, 0, "USD", 0, "unbilled", *book),
        ("u-8", 0, "small-1", "output", 20, 5, 0, "USD", 0, "unbilled", *book),
        ("u-9", 0, "small-1", "input", 10, 3, 30, "EUR", None, "priced", *book),
        ("u-9", 0, "small-1", "output", 20, 5, 100, "EUR", None, "priced", *book),
        ("u-13", 0, "small-1", "unknown", None, None, None, None, None, "unpriced", *book),
    ]


def test_costs_of_a_day_count_what_is_paid_in_doubt_and_unpriced(filled):
    statement = (
        "SELECT day, model, requests, attempts, input_tokens, cost_pico_usd,"
        " in_doubt_low_pico_usd, in_doubt_high_pico_usd, in_doubt_unbounded, unpriced_requests"
        " FROM v_cost_by_model_day ORDER BY day, model"
    )
    first, second = "2026-03-01", "2026-03-02"
    assert query(filled, statement) == [
        (first, "small", 0, 2, None, 0, 0, 500, 0, 0),
        (first, "small-1", 3, 5, 51, 657, 0, 0, 0, 0),
        (second, "small", 0, 2, None, 0, 5, 900, 1, 0),
        (second, "small-1", 3, 3, 20, 0, 0, 0, 0, 1),
        (second, "unheard-of", 1, 1, 10, None, 0, 0, 0, 1),
    ]


def test_failures_of_superseded_inputs_are_not_shown(engine):
    common = {"kind": "quarantined", "reason": "bad_json", "message": "no", "byte_offset": 7}
    failures = [
        row(schema.failures, failure_id=n, source_id=n, row_number=3, **common) for n in (1, 2)
    ]
    insert(engine, BASE | {schema.failures: failures})
    columns = f"{LOCATOR} byte_offset kind reason message".replace(" ", ", ")
    assert query(engine, f"SELECT {columns} FROM v_failures") == [
        (
            1,
            1,
            "nightly",
            "anthropic",
            "live",
            "new.jsonl",
            3,
            None,
            7,
            *list(common.values())[:3],
        )
    ]


def test_an_answer_that_was_never_rated_is_unpriced_and_not_free(engine):
    insert(engine, BASE | {schema.attempts: [attempt(1)], schema.answers: [answer(1)]})
    costs = "SELECT cost_pico_usd, cost_status FROM v_answers"
    assert query(engine, costs) == [(None, "unpriced")]
    days = "SELECT cost_pico_usd, unpriced_requests FROM v_cost_by_model_day"
    assert query(engine, days) == [(None, 1)]


@pytest.mark.parametrize("amount", [2**63 - 1, 2**53 + 1])
def test_a_view_line_is_exact_up_to_64_bits(engine, amount):
    charges = [charge(1, total_amount=amount)]
    insert(
        engine,
        BASE
        | {schema.attempts: [attempt(1)], schema.answers: [answer(1)], schema.charges: charges},
    )
    for view, column in (("v_answers", "cost_pico_usd"), ("v_attempts", "cost_low_pico_usd")):
        assert query(engine, f"SELECT {column} FROM {view}") == [(amount,)]
    assert query(engine, "SELECT cost_pico_usd FROM v_cost_by_model_day") == [(amount,)]


AMOUNTS = st.one_of(st.none(), st.integers(0, 2**40))


@given(lines=st.lists(st.lists(AMOUNTS, min_size=1, max_size=3), min_size=1, max_size=4))
@settings(max_examples=15, deadline=None)
def test_the_cost_of_an_answer_is_the_sum_of_its_legs_or_unknown(tmp_path_factory, lines):
    opened = open_engine(str(tmp_path_factory.mktemp("legs") / "batcher.db"))
    prepare(opened)
    legs = len(lines)
    rows = BASE | {
        schema.attempts: [attempt(n, request_id=1, leg=n) for n in range(1, legs + 1)],
        schema.answers: [
            answer(n, request_id=1, legs=legs, final=int(n == legs), stop_reason="pause_turn")
            for n in range(1, legs + 1)
        ],
        schema.charges: [
            charge(
                n,
                line=line,
                total_amount=amount,
                status="unpriced" if amount is None else "priced",
            )
            for n, amounts in enumerate(lines, 1)
            for line, amount in enumerate(amounts)
        ],
    }
    insert(opened, rows)
    amounts = [amount for leg in lines for amount in leg]
    expected = None if None in amounts else sum(amounts)
    assert query(opened, "SELECT cost_pico_usd FROM v_answers") == [(expected,)]
    opened.dispose()


def test_what_came_of_a_broken_stream_is_in_doubt_and_no_answer(engine):
    broken = attempt(1, state="partial", cost_low=5, cost_high=9)
    insert(engine, BASE | {schema.attempts: [broken], schema.answers: [answer(1, final=0)]})
    assert query(engine, "SELECT * FROM v_answers_all") == []
    totals = (
        "SELECT model, requests, attempts, output_tokens, in_doubt_low_pico_usd,"
        " in_doubt_high_pico_usd, unpriced_requests FROM v_cost_by_model_day"
    )
    assert query(engine, totals) == [("small", 0, 1, None, 5, 9, 0)]


UNREADABLE = [
    '{"type": "text", "text": "\\"thinking\\": \\"aha\\""}',
    '{"type": "thinking", "thinking": "half \\ud800 of one"}',
    '{"type": "thinking", "thinking": "nul \\u0000"}',
    '{"type": "thinking"}',
    "[" * 1_100 + '{"type": "thinking", "thinking": "deep"}' + "]" * 1_100,
]


def test_what_a_model_thought_is_shown_and_breaks_no_view(engine):
    """Content is kept as received: half surrogates, NUL and deep nesting among it."""
    blocks = '{"type": "thinking", "thinking": "one"}, {"type": "text", "text": "x"},'
    more = '{"type": "thinking", "thinking": "zwölf", "signature": "s", "n": 1e99999}'
    contents = [f"[{blocks} {more}]", "null", *(f"[{block}]" for block in UNREADABLE)]
    attempts, answers = [], []
    for number, content in enumerate(contents, 1):
        attempts.append(attempt(number))
        answers.append(answer(number, content=content, container_id=f"c{number}"))
    insert(engine, BASE | {schema.attempts: attempts, schema.answers: answers})
    for view in ("v_answers_all", "v_answers"):
        found = query(engine, f"SELECT thinking, container_id FROM {view} ORDER BY row_number")
        assert found[0] == ("one\nzwölf", "c1")
        assert [thought for thought, _ in found[1:]] == [None] * (len(contents) - 1)


def test_every_amount_in_pico_dollars_is_shown_in_dollars(filled):
    for view in CONTRACT:
        columns = [column["name"] for column in inspect(filled).get_columns(view)]
        for pico in (name for name in columns if name.endswith("_pico_usd")):
            usd = pico.replace("_pico_usd", "_usd")
            for exact, shown in query(filled, f"SELECT {pico}, {usd} FROM {view}"):
                assert (exact is None) == (shown is None)
                assert exact is None or abs(float(shown) - exact / 1e12) < 1e-15


# --- speed


def test_the_answers_of_one_source_are_found_by_an_index(sqlite_url):
    opened = open_engine(sqlite_url)
    plan = query(opened, "EXPLAIN QUERY PLAN SELECT * FROM v_answers WHERE source = 'a'")
    opened.dispose()
    scanned = [line for *_, line in plan if line.startswith("SCAN")]
    tables = [line for line in scanned if "VIRTUAL" not in line]  # blocks of one answer
    assert tables == ["SCAN s", "SCAN s"]  # own answers, and shared ones
    assert any("ix_answers_locator (source_id=?)" in line for *_, line in plan)


# --- documentation

DOCUMENT = Path(__file__).parents[2] / "docs" / "database.md"


def test_v_texts_says_what_v_answers_says(filled):
    columns = CONTRACT["v_texts"].replace(" ", ", ")
    order = "ORDER BY run_id, source, row_number"
    of_answers = query(filled, f"SELECT {columns} FROM v_answers {order}")
    assert query(filled, f"SELECT {columns} FROM v_texts {order}") == of_answers
    assert len(of_answers) > 1
    assert len({found[-1] for found in of_answers}) > 1


def documented(view):
    """The columns that the document names in the section of `view`."""
    section = DOCUMENT.read_text().split(f"\n## {view}\n")[1].split("\n## ")[0]
    cells = [line.split(" | ")[0] for line in section.splitlines() if line.startswith("| `")]
    return re.findall(r"`(\w+)`", " ".join(cells))


@pytest.mark.parametrize("view", sorted(CONTRACT))
def test_the_documentation_names_every_column(sqlite_url, view):
    opened = open_engine(sqlite_url)
    found = [column["name"] for column in inspect(opened).get_columns(view)]
    opened.dispose()
    named = documented("v_answers" if view == "v_answers_all" else view)
    assert sorted(found) == sorted(named)


def test_the_queries_of_the_documentation_run(filled):
    queries = re.findall(r"```sql\n(-- .*?)```", DOCUMENT.read_text(), re.DOTALL)
    other = "-- PostgreSQL" if filled.dialect.name == "sqlite" else "-- SQLite"
    mine = [statement for statement in queries if not statement.startswith(other)]
    assert len(mine) == 8
    for statement in mine:
        query(filled, statement.replace("::", r"\:\:"))
