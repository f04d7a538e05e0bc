"""Hand-made rows of a ledger: a column that a test does not care about has a plain value."""

from typing import Any

from sqlalchemy import Connection

from batcher.ledger import schema
from batcher.ledger.connect import open_engine, writing
from batcher.ledger.verify.totals import expected_rollups
from batcher.ledger.write.transaction import KEY

NOON = 1_767_614_400_000_000  # 2026-01-05T12:00:00Z
SECOND = 1_000_000
HASH = b"h" * 16
MICRO_USD = 10**6  # pico-USD


class LedgerRows:
    """Puts rows into the ledger at `url`; the methods return the ids they were given."""

    def __init__(self, url: str) -> None:
        self.engine = open_engine(url)
        self._ids = dict.fromkeys(("invocation", "source", "rate_set", "run", "failure"), 0)
        self._attempt_id = 0
        self._insert("price_books", price_book_id=1, version="2026-01", sha256="f" * 64,
                     source="the provider's page", content="")  # fmt: skip
        self._insert("ratings", rating_id=1, price_book_id=1, created_at=NOON, reason="initial")

    def run(self, key: str = "rows.jsonl", job: str | None = None) -> int:
        run_id = self._next("run")
        self._insert("runs", run_id=run_id, key=key, job=job, created_at=NOON)
        return run_id

    def invocation(self, run_id: int, /, **fields: Any) -> int:
        invocation_id = self._next("invocation")
        plain = {
            "invocation_id": invocation_id, "run_id": run_id, "started_at": NOON,
            "ended_at": NOON + 60 * SECOND, "exit_code": 0, "host": "elsewhere", "pid": 7,
            "os_user": "ana", "version": "0.1.0", "command": "batcher run rows.jsonl",
            "endpoint": "anthropic", "base_url": "https://api.anthropic.com", "lane": "live",
            "simulated": 0, "settings_digest": "s", "options": "{}", "tags": "{}",
        }  # fmt: skip
        self._insert("invocations", **(plain | fields))
        return invocation_id

    def source(self, run_id: int, name: str = "rows.jsonl", /, **fields: Any) -> int:
        source_id = self._next("source")
        plain = {
            "source_id": source_id, "run_id": run_id, "name": name, "location": f"/gone/{name}",
            "fingerprint": "f", "settings_digest": "s", "matched": 1, "rows": None,
        }  # fmt: skip
        self._insert("sources", **(plain | fields))
        return source_id

    def attempt(
        self, invocation_id: int, source_id: int, row_number: int = 1, /, **fields: Any
    ) -> int:
        self._attempt_id += 1
        attempt_id = self._attempt_id
        plain = {
            "attempt_id": attempt_id, "attempt_uid": f"uid-{attempt_id}",
            "invocation_id": invocation_id, "request_id": attempt_id, "source_id": source_id,
            "row_number": row_number, "custom_id": f"row-{row_number}", "params_hash": HASH,
            "number": 1, "leg": 1, "purpose": "first", "lane": "live",
            "requested_model": "claude-sonnet-5", "state": "unknown", "pending": 0,
            "opened_at": NOON, "sent_at": NOON, "settled_at": NOON + 2 * SECOND,
            "provider_request_id": f"req_{attempt_id}", "cost_low": 0, "cost_high": 0,
        }  # fmt: skip
        self._insert("attempts", **(plain | fields))
        return attempt_id

    def answer(
        self, invocation_id: int, source_id: int, row_number: int = 1, /, **fields: Any
    ) -> int:
        """`attempt` among the fields has those of its attempt."""
        attempt = {"state": "answered", "http_status": 200, **fields.pop("attempt", {})}
        attempt_id = self.attempt(invocation_id, source_id, row_number, **attempt)
        sent_at = attempt.get("sent_at", NOON)
        plain = {
            "attempt_id": attempt_id, "request_id": attempt.get("request_id", attempt_id),
            "run_id": 1, "invocation_id": invocation_id, "source_id": source_id,
            "row_number": row_number, "custom_id": f"row-{row_number}", "params_hash": HASH,
            "identity": row_number, "final": 1, "requested_model": "claude-sonnet-5",
            "model": "claude-sonnet-5", "message_id": f"msg_{attempt_id}",
            "stop_reason": "end_turn", "text": "Hello", "text_repaired": 0,
            "content": '[{"type":"text","text":"Hello"}]', "input_tokens": 10,
            "output_tokens": 5, "usage": '{"input_tokens":10,"output_tokens":5}', "attempts": 1,
            "legs": 1, "latency_us": 2 * SECOND, "answered_at": sent_at + 2 * SECOND,
        }  # fmt: skip
        self._insert("answers", **(plain | fields))
        return attempt_id

    def charge(self, attempt_id: int, amount: int | None, **fields: Any) -> None:
        plain = {
            "attempt_id": attempt_id, "line": 0, "rating_id": 1, "current": 1,
            "model": "claude-sonnet-5", "currency": "USD", "status": "priced",
            "input_quantity": 10, "output_quantity": 5, "total_amount": amount,
        }  # fmt: skip
        if amount is None:
            plain |= {"currency": None, "status": "unpriced", "reason": "unknown_model"}
        self._insert("charges", **(plain | fields))

    def rate_set(self, **fields: Any) -> int:
        rate_set_id = self._next("rate_set")
        plain = {
            "rate_set_id": rate_set_id, "price_book_id": 1, "price_list": "anthropic",
            "model": "claude-sonnet-5", "terms": "standard", "valid_from": "2026-01-01",
            "currency": "USD",
        }  # fmt: skip
        self._insert("rate_sets", **(plain | fields))
        return rate_set_id

    def failure(
        self, invocation_id: int, source_id: int, row_number: int, /, **fields: Any
    ) -> int:
        failure_id = self._next("failure")
        plain = {
            "failure_id": failure_id, "run_id": 1, "invocation_id": invocation_id,
            "source_id": source_id, "row_number": row_number, "custom_id": f"row-{row_number}",
            "kind": "failed", "reason": "overloaded_error", "message": "Overloaded",
            "transient": 0, "failed_at": NOON,
        }  # fmt: skip
        self._insert("failures", **(plain | fields))
        return failure_id

    def _next(self, name: str) -> int:
        self._ids[name] += 1
        return self._ids[name]

    def _insert(self, table: str, **values: Any) -> None:
        self.insert_many(table, [values])

    def insert_many(self, table: str, rows: list[dict[str, Any]]) -> None:
        with writing(self.engine) as connection:
            connection.execute(schema.metadata.tables[table].insert(), rows)
            if table in {"answers", "charges"}:
                fill_rollups(connection)


def fill_rollups(connection: Connection) -> None:
    """Bring the rollups up to what answers and charges say."""
    connection.execute(schema.rollups.delete())
    columns = (*KEY, *schema.ROLLUP_SUMS, "superseded_by")
    rows = [
        dict(zip(columns, (*key, *sums), strict=True))
        for key, sums in expected_rollups(connection).items()
    ]
    if rows:
        connection.execute(schema.rollups.insert(), rows)
