"""Fills a ledger with answers as runs would have left it, through the program's own writer.

Everything is made by numbers, not by chance, so that two ledgers of one size are equal.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import msgspec
from sqlalchemy import Engine

from batcher.clock import SystemClock
from batcher.ledger import runs
from batcher.ledger.batch import Batch
from batcher.ledger.connect import writing
from batcher.ledger.records import Intent, Record, Scope, Settlement
from batcher.messages.answer import parse_answer
from batcher.messages.attempt import Attempt, Purpose, State
from batcher.messages.outcome import Answered, Exchange
from batcher.messages.request import Request
from batcher.pricing.book import PriceBook, load_shipped
from batcher.pricing.rating import rate

START_US = 1_793_000_000_000_000  # in October 2026
MODELS = ("claude-opus-5-5", "claude-sonnet-5-5", "claude-haiku-5-5")
PER_SECOND = 200
BATCH = 500


@dataclass(frozen=True, slots=True)
class Made:
    """The run that was made."""

    scope: Scope
    book: PriceBook


def fill_ledger(engine: Engine, answers: int) -> Made:
    """One invocation with so many answers, 200 of them a second, over three models."""
    made = _begin(engine, load_shipped())
    batch = Batch(engine.dialect, made.scope, SystemClock())
    for first in range(0, answers, BATCH):
        numbers = range(first, min(first + BATCH, answers))
        with writing(engine) as connection:
            batch.write(connection, [*_records(made, numbers)])
    with writing(engine) as connection:
        ended = START_US + answers * 1_000_000 // PER_SECOND
        runs.end_invocation(connection, made.scope.invocation_id, ended_at=ended, exit_code=0)
    return made


def _begin(engine: Engine, book: PriceBook) -> Made:
    with writing(engine) as connection:
        run_id = runs.open_run(connection, "benchmark", None, START_US)
        start = runs.InvocationStart(
            started_at=START_US, host="here", pid=1, os_user="me", version="0",
            command="batcher run rows.jsonl", endpoint="anthropic",
            base_url="https://api.anthropic.com", lane="live", simulated=False,
            price_list="anthropic", settings_digest="s", options={}, tags={},
        )  # fmt: skip
        invocation_id = runs.start_invocation(connection, run_id, start)
        source = runs.NewSource(
            name="rows.jsonl", location="/rows.jsonl", fingerprint="f", settings_digest="s",
            matched=True,
        )  # fmt: skip
        runs.add_source(connection, run_id, source)
        book_id, rating_id = runs.open_rating(connection, book, START_US)
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
    answer = parse_answer(msgspec.json.encode(_message(number, attempt.request.model)))
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


def _message(number: int, model: str) -> dict[str, Any]:
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
