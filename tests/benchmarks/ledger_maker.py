"""Fills a ledger with answers as runs would have left it, through the program's own writer.

Everything is made by numbers, not by chance, so that two ledgers of one size are equal. Beyond
a million answers the first million is copied inside the database, as further invocations of the
same run at later times: every row and sum is as the writer would have left it, so that `verify`
agrees, and ten millions take minutes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, Select, Table, insert, literal, select

from batcher.clock import SystemClock
from batcher.ledger import runs
from batcher.ledger.connect import writing
from batcher.ledger.schema import answers as answer_table
from batcher.ledger.schema import attempts, charges, invocations, rollups
from batcher.ledger.write import records
from batcher.ledger.write.records import Intent, Record, Scope, Settlement
from batcher.ledger.write.transaction import Recorder
from batcher.messages.answer import parse_answer
from batcher.messages.request import Answered, Attempt, Exchange, Purpose, Request, State
from batcher.pricing.book.book import PriceBook, load_shipped
from batcher.pricing.rate.rating import rate
from batcher.rows.read.source import fingerprint

START_US = 1_793_000_000_000_000  # in October 2026
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
PER_SECOND = 200
BATCH = 500
WRITTEN = 1_000_000  # by the program's writer; more are copies of these
QUARTER_US = 900 * 1_000_000


@dataclass(frozen=True, slots=True)
class Made:
    """The run that was made."""

    scope: Scope
    book: PriceBook


def fill_ledger(engine: Engine, answers: int, rows: Path | None = None) -> Made:
    """Invocations with so many answers, 200 of them a second, over three models.

    More than a million must be a multiple of a million: an invocation has a million then. They
    are answers to the file `rows`; `None`: to one that is gone.
    """
    made = _begin(engine, load_shipped(), rows)
    batch = Recorder(engine.dialect, made.scope, SystemClock())
    written = min(answers, WRITTEN)
    if answers % written:
        raise ValueError(f"{answers} answers are no multiple of {written}")
    for first in range(0, written, BATCH):
        numbers = range(first, min(first + BATCH, written))
        with writing(engine) as connection:
            batch.write(connection, [*_records(made, numbers)])
    with writing(engine) as connection:
        ended = START_US + written * 1_000_000 // PER_SECOND
        runs.end_invocation(connection, made.scope.invocation_id, ended_at=ended, exit_code=0)
    for copy in range(1, answers // written):
        with writing(engine) as connection:
            _copy(connection, copy, written)
    return made


def _copy(connection: Connection, copy: int, written: int) -> None:
    """All that the first invocation left once more, as the invocation `copy` after it."""
    quarters = copy * -(-written * 1_000_000 // (PER_SECOND * QUARTER_US))
    later = quarters * QUARTER_US
    ids = copy << 40
    moved = {
        "attempt_id": ids, "request_id": ids, "invocation_id": copy, "quarter": quarters,
        "row_number": copy * written, "opened_at": later, "sent_at": later,
        "settled_at": later, "answered_at": later, "started_at": later, "ended_at": later,
    }  # fmt: skip
    for table in (invocations, attempts, answer_table, charges, rollups):
        values = [_moved(column, moved.get(column.name, 0), copy) for column in table.c]
        connection.execute(insert(table).from_select([*table.c], _first(table, values)))


def _moved(column: ColumnElement[Any], by: int, copy: int) -> ColumnElement[Any]:
    if column.name == "attempt_uid":
        return column + literal(f"-{copy}")
    return column + literal(by) if by else column


def _first(table: Table, values: list[ColumnElement[Any]]) -> Select[Any]:
    """What is of the first invocation; ids of attempts begin with that of theirs."""
    if "attempt_id" in table.c:
        return select(*values).where(table.c.attempt_id < 2 << 40)
    return select(*values).where(table.c.invocation_id == 1)


def _begin(engine: Engine, book: PriceBook, rows: Path | None) -> Made:
    with writing(engine) as connection:
        run_id = runs.open_run(connection, "benchmark", None, START_US)
        start = runs.InvocationStart(
            started_at=START_US, host="here", pid=1, os_user="me", version="0",
            command="batcher run rows.jsonl", endpoint="anthropic",
            base_url="https://api.anthropic.com", lane="live", simulated=False,
            price_list="anthropic", settings_digest="s", token="", options={}, tags={},
        )  # fmt: skip
        invocation_id = runs.start_invocation(connection, run_id, start)
        source = runs.NewSource(
            name="rows.jsonl", location=str(rows or "/rows.jsonl"), settings_digest="s",
            fingerprint="f" if rows is None else fingerprint(rows), matched=True,
        )  # fmt: skip
        runs.add_source(connection, run_id, source)
        book_id, rating_id = records.open_rating(connection, book, START_US)
    scope = Scope(
        run_id=run_id, invocation_id=invocation_id, lane="live", rating_id=rating_id,
        price_book_id=book_id,
    )  # fmt: skip
    return Made(scope, book)


def _records(made: Made, numbers: range) -> Iterator[Record]:
    attempts = [(number, _attempt(made.scope, number)) for number in numbers]
    yield from (Intent(attempt=attempt) for _, attempt in attempts)
    yield from (_settlement(made, number, attempt) for number, attempt in attempts)


def _attempt(scope: Scope, number: int) -> Attempt:
    attempt_id = scope.invocation_id << 40 | number + 1
    request = Request(
        source_id=1, row_number=number + 1, byte_offset=None, custom_id=f"row-{number}",
        params_hash=number.to_bytes(16, "big"), body=b"{}", model=MODELS[number % 3],
        max_tokens=1000,
    )  # fmt: skip
    return Attempt(
        attempt_id=attempt_id, uid=f"bench-{attempt_id:x}", request_id=attempt_id,
        request=request, number=1, leg=1, purpose=Purpose.FIRST, body=b"{}",
        opened_at=_sent_at(number), cost_high=10**12,
    )  # fmt: skip


def _settlement(made: Made, number: int, attempt: Attempt) -> Settlement:
    sent_at = _sent_at(number)
    exchange = Exchange(sent_at=sent_at, settled_at=sent_at + 2_000_000, http_status=200)
    answer = parse_answer(msgspec.json.encode(message(number, attempt.request.model)))
    charges = rate(
        answer, requested_model=attempt.request.model, price_list="anthropic",
        sent_at=sent_at, book=made.book,
    )  # fmt: skip
    return Settlement(
        attempt=attempt, outcome=Answered(exchange, answer), state=State.ANSWERED,
        pending=False, cost_low=0, cost_high=10**12, charges=charges, final=True,
    )  # fmt: skip


def _sent_at(number: int) -> int:
    return START_US + number * 1_000_000 // PER_SECOND


def message(number: int, model: str) -> dict[str, Any]:
    """The number's Message."""
    text = "An answer of a few words. " * (1 + number % 20)
    return {
        "id": f"msg_{number}", "type": "message", "role": "assistant", "model": model,
        "content": [{"type": "text", "text": text}],
        "stop_reason": "max_tokens" if number % 50 == 0 else "end_turn",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 100 + number % 3000,
            "cache_creation_input_tokens": number % 7 * 100,
            "cache_read_input_tokens": number % 11 * 500, "output_tokens": 10 + number % 900,
            "cache_creation": {
                "ephemeral_5m_input_tokens": number % 7 * 100, "ephemeral_1h_input_tokens": 0,
            },
            "service_tier": "standard", "inference_geo": "global",
        },
    }  # fmt: skip
