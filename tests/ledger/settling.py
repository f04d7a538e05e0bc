"""Answers put into a ledger as a run does it: rated, then written by the batch."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from sqlalchemy import Engine, text

from batcher.clock import SystemClock
from batcher.ledger import runs
from batcher.ledger.connect import open_engine, reading, writing
from batcher.ledger.write import records
from batcher.ledger.write.records import Intent, Record, Scope, Settlement
from batcher.ledger.write.transaction import Recorder
from batcher.messages.answer import parse_answer
from batcher.messages.failure import Failure, Verdict
from batcher.messages.request import (
    Answered,
    Attempt,
    Exchange,
    Partial,
    Purpose,
    Request,
    State,
    Unknown,
)
from batcher.pricing.book.book import PriceBook, parse_book
from batcher.pricing.rate.rating import rate

NOON = 1_795_608_000_000_000  # 2026-11-25T12:00:00Z
MODEL = "claude-sonnet-5"

_BOOK = """
format = 1
version = "{version}"
published = 2026-01-01
source = "a test"
extends = "nothing"

[lists.anthropic]
currency = "USD"
source = "a test"

[[rates]]
list = "anthropic"
model = "claude-sonnet-5"
valid_from = 2026-01-01
valid_until = 2026-11-30
batch_factor = "0.5"
input = "{price}"
cache_write_5m = "2"
cache_write_1h = "3"
cache_read = "0.1"
output = "10"
web_search = "10"
source = "a test"

[[rates]]
list = "anthropic"
model = "claude-sonnet-5"
valid_from = 2026-12-01
input = "50"
cache_write_5m = "2"
cache_write_1h = "3"
cache_read = "0.1"
output = "10"
web_search = "10"
source = "a test"
"""


def book(version: str = "one", price: str = "1") -> PriceBook:
    """A book with one model, dearer from December on."""
    return parse_book(_BOOK.format(version=version, price=price))


@dataclass(slots=True)
class RunLedger:
    """A ledger at `url` and one invocation of a run in it; `next_run` begins another."""

    url: str
    prices: PriceBook = field(default_factory=book)
    engine: Engine = field(init=False)
    scope: Scope = field(init=False)
    source_id: int = 0
    _number: int = 0

    def __post_init__(self) -> None:
        self.engine = open_engine(self.url)
        self.next_run("first")

    def next_run(self, key: str, **changes: Any) -> None:
        """Begin an invocation of the run of that key."""
        fields = {
            "started_at": NOON, "host": "here", "pid": 1, "os_user": "me", "version": "0",
            "command": "batcher run", "endpoint": "anthropic", "base_url": "http://127.0.0.1",
            "lane": "live", "simulated": False, "price_list": "anthropic",
            "settings_digest": "s", "token": "cafe", "options": {}, "tags": {},
        }  # fmt: skip
        with writing(self.engine) as connection:
            run_id = runs.open_run(connection, key, None, NOON)
            start = runs.InvocationStart(**(fields | changes))
            invocation_id = runs.start_invocation(connection, run_id, start)
            source = runs.NewSource(
                name=f"{key}.jsonl", location="/", fingerprint="f", settings_digest="s",
                matched=True,
            )  # fmt: skip
            self.source_id = runs.add_source(connection, run_id, source)
            book_id, rating_id = records.open_rating(connection, self.prices, NOON)
        self.scope = Scope(
            run_id=run_id, invocation_id=invocation_id, lane="live", rating_id=rating_id,
            price_book_id=book_id,
        )  # fmt: skip

    def attempt(self, **changes: Any) -> Attempt:
        """The next attempt of the invocation, of a row of its own."""
        self._number += 1
        attempt_id = self.scope.invocation_id << 40 | self._number
        request = Request(
            source_id=self.source_id, row_number=self._number, byte_offset=None,
            custom_id=None, params_hash=self._number.to_bytes(16, "big"), body=b"{}",
            model=MODEL, max_tokens=10,
        )  # fmt: skip
        fields = {
            "attempt_id": attempt_id, "uid": f"{self.uids()}{self._number:x}",
            "request_id": attempt_id, "request": request, "number": 1, "leg": 1,
            "purpose": Purpose.FIRST, "body": b"{}", "opened_at": NOON, "cost_high": 10**12,
        }  # fmt: skip
        return Attempt(**(fields | changes))

    def uids(self) -> str:
        """What the uids of the invocation's attempts begin with."""
        with reading(self.engine) as connection:
            return str(runs.attempt_uids(connection, self.scope.invocation_id))

    def begin_numbers_anew(self) -> None:
        """As another process does, which may be in another history."""
        self._number = 0

    def uid(self) -> str:
        with reading(self.engine) as connection:
            return runs.database_uid(connection)

    def answered(
        self,
        usage: dict[str, Any] | None = None,
        *,
        sent_at: int = NOON,
        message: dict[str, Any] | None = None,
        price_list: str | None = "anthropic",
        **changes: Any,
    ) -> list[Record]:
        """An attempt and its answer, rated as a run would."""
        attempt = changes.pop("attempt", None) or self.attempt()
        body = {
            "type": "message", "role": "assistant", "model": MODEL, "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Hello"}],
            "usage": usage or {"input_tokens": 10, "output_tokens": 5},
        } | (message or {})  # fmt: skip
        answer = parse_answer(msgspec.json.encode(body))
        fields = {
            "attempt": attempt,
            "outcome": Answered(Exchange(sent_at=sent_at, settled_at=sent_at + 1), answer),
            "state": State.ANSWERED,
            "pending": False,
            "cost_low": 0,
            "cost_high": attempt.cost_high,
            "final": True,
            "charges": rate(
                answer, requested_model=attempt.request.model, price_list=price_list,
                sent_at=sent_at, book=self.prices,
            ),
        }  # fmt: skip
        return [Intent(attempt=attempt), Settlement(**(fields | changes))]

    def broken(self, sent_at: int = NOON) -> list[Record]:
        """A stream that broke: in doubt, with an answer and no charges."""
        attempt = self.attempt()
        (_, settled) = self.answered(sent_at=sent_at, attempt=attempt)
        failure = Failure(verdict=Verdict.RETRY_ROW, error_type="cut", message="cut")
        outcome = Partial(settled.outcome.exchange, failure, settled.outcome.answer)
        low = sum(charge.total or 0 for charge in settled.charges)
        doubt = {"state": State.PARTIAL, "final": False, "charges": (), "cost_low": low}
        return self.answered(sent_at=sent_at, attempt=attempt, outcome=outcome, **doubt)

    def unknown(self) -> list[Record]:
        """An attempt that nobody heard of again."""
        attempt = self.attempt()
        failure = Failure(verdict=Verdict.RETRY_ROW, error_type="timeout", message="timeout")
        outcome = Unknown(Exchange(sent_at=NOON, settled_at=NOON + 1), failure)
        return [
            Intent(attempt=attempt),
            Settlement(
                attempt=attempt, outcome=outcome, state=State.UNKNOWN, pending=True, cost_low=0,
                cost_high=10**12,
            ),
        ]  # fmt: skip

    def write(self, *records: list[Record]) -> None:
        """One transaction of the writer."""
        batch = Recorder(self.engine.dialect, self.scope, SystemClock())
        with writing(self.engine) as connection:
            batch.write(connection, [each for some in records for each in some])

    def execute(self, statement: str, **values: Any) -> None:
        with writing(self.engine) as connection:
            connection.execute(text(statement), values)

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        with reading(self.engine) as connection:
            return [tuple(row) for row in connection.execute(text(query))]
