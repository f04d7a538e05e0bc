"""Rows of the ledger's tables, written by hand, and what a view says of them."""

from datetime import UTC, date, datetime

from sqlalchemy import LargeBinary, Text, text

from batcher.ledger import schema
from batcher.ledger.connect import reading, writing

# 2026-03-01 is the last microsecond before, 2026-03-02 the first of the next day.
MIDNIGHT = 1_772_409_600_000_000
BEFORE, AFTER = "2026-03-01T23:59:59.999999Z", "2026-03-02T00:00:00.000000Z"


def row(table, **values):
    """A row with the least that the table asks for."""
    needed = {
        column.name: _least(column)
        for column in table.columns
        if not column.nullable and column.server_default is None and column.name not in values
    }
    return needed | values


def _least(column):
    kinds = {Text: "", LargeBinary: b""}
    return next((least for kind, least in kinds.items() if isinstance(column.type, kind)), 1)


def attempt(attempt_id, /, **values):
    given = {"attempt_uid": f"u-{attempt_id}", "request_id": attempt_id, "state": "answered"}
    given |= {
        "lane": "live",
        "requested_model": "small",
        "cost_low": 0,
        "row_number": attempt_id,
    }
    given |= {"sent_at": MIDNIGHT - 1, "opened_at": MIDNIGHT - 2, "number": 1, "leg": 1}
    return row(schema.attempts, attempt_id=attempt_id, **(given | values))


def answer(number, **values):
    given = {"request_id": number, "row_number": number, "custom_id": f"c{number}", "final": 1}
    given |= {"text": f"text {number}", "content": f"[{number}]", "model": "small-1"}
    given |= {"input_tokens": 10, "output_tokens": 20, "latency_us": 1999, "legs": 1}
    given |= {"answered_at": MIDNIGHT, "requested_model": "small", "attempts": 1}
    return row(schema.answers, attempt_id=number, **(given | values))


def charge(number, **values):
    given = {"line": 0, "rating_id": 1, "current": 1, "rate_set_id": 1, "currency": "USD"}
    given |= {
        "status": "priced",
        "input_quantity": 10,
        "output_quantity": 20,
        "model": "small-1",
    }
    given |= {"input_amount": 30, "output_amount": 100, "total_amount": 130}
    return row(schema.charges, attempt_id=number, **(given | values))


UNPRICED = {"status": "unpriced", "reason": "no such model", "rate_set_id": None}
UNPRICED |= {
    "input_amount": None,
    "output_amount": None,
    "total_amount": None,
    "currency": None,
}

BASE = {
    schema.runs: [row(schema.runs, run_id=1, key="k", job="nightly")],
    schema.invocations: [
        row(schema.invocations, invocation_id=1, run_id=1, endpoint="anthropic", lane="live")
    ],
    schema.sources: [
        row(schema.sources, source_id=1, run_id=1, name="new.jsonl"),
        row(schema.sources, source_id=2, run_id=1, name="new.jsonl", superseded_by=1),
    ],
    schema.price_books: [row(schema.price_books, price_book_id=1, version="2026.3")],
    schema.ratings: [row(schema.ratings, rating_id=n, price_book_id=1) for n in (1, 2)],
    schema.rate_sets: [
        row(schema.rate_sets, rate_set_id=1, price_book_id=1, input_rate=3, output_rate=5)
    ],
}


def insert(engine, rows):
    with writing(engine) as connection:
        for table in schema.metadata.sorted_tables:
            for values in rows.get(table, ()):
                connection.execute(table.insert().values(**values))


def query(engine, statement):
    with reading(engine) as connection:
        return [tuple(map(plain, found)) for found in connection.execute(text(statement))]


def plain(value):
    """What SQLite shows as text, PostgreSQL has types for."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return value.isoformat() if isinstance(value, date) else value
