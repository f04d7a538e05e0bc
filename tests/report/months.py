"""A ledger of some weeks with everything in it that a report can show; always the same."""

import random
from datetime import UTC, datetime
from typing import Any

from batcher.clock import microseconds
from batcher.ledger.schema import METERS
from tests.report.ledger_rows import LedgerRows

DAY = 86_400_000_000
START = microseconds(datetime(2026, 10, 12, 9, tzinfo=UTC))
# input, cache write 5 minutes, 1 hour, cache read, output (pico-USD per token), a search
RATES = {
    "claude-haiku-4-5": (1_000_000, 1_250_000, 2_000_000, 100_000, 5_000_000, 10_000_000_000),
    "claude-opus-5-5": (4_000_000, 5_000_000, 8_000_000, 200_000, 20_000_000, 10_000_000_000),
    "claude-sonnet-5-5": (2_000_000, 2_500_000, 4_000_000, 100_000, 10_000_000, 10_000_000_000),
}


class Buffered(LedgerRows):
    """Keeps rows until they are flushed, a table at a time: a commit for each would be slow."""

    def __init__(self, url: str) -> None:
        self.waiting: dict[tuple[str, frozenset[str]], list[dict[str, Any]]] = {}
        super().__init__(url)

    def insert_many(self, table: str, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            self.waiting.setdefault((table, frozenset(row)), []).append(row)

    def flush(self) -> None:
        for (table, _), rows in self.waiting.items():
            super().insert_many(table, rows)
        self.waiting.clear()


def filled(url: str, days: int = 30, each_day: int = 20) -> None:
    """Put `fill` into the empty ledger at `url`."""
    rows = Buffered(url)
    fill(rows, days, each_day)
    rows.flush()
    rows.engine.dispose()


def fill(rows: LedgerRows, days: int = 30, each_day: int = 20) -> None:
    """Answers of three models, some cut off, refused, late, in doubt or without a price."""
    chance = random.Random(7)
    rows.run(job="tickets")
    rows.invocation(1, tags='{"team": "search", "env": "prod"}')
    rows.invocation(1, started_at=START, tags="{}", lane="batch")
    rows.source(1, "tickets.jsonl")
    for model, rates in RATES.items():
        named = dict(zip((f"{meter}_rate" for meter in METERS), rates, strict=True))
        rows.rate_set(model=model, **named)
    for number in range(days * each_day):
        _one(rows, chance, number, START + number // each_day * DAY)


def _one(rows: LedgerRows, chance: random.Random, number: int, day: int) -> None:
    model = chance.choice(list(RATES))
    sent_at = day + chance.randrange(8 * 3600) * 1_000_000
    invocation = 1 + (number % 3 == 0)
    about = {"sent_at": sent_at, "opened_at": sent_at, "requested_model": model}
    if number % 41 == 0:
        rows.attempt(invocation, 1, number, **about, cost_low=10**9, cost_high=9 * 10**9)
        return
    used = (chance.randrange(50, 900), chance.randrange(0, 300), 0, chance.randrange(0, 900),
            int(chance.lognormvariate(4.6, 0.9)) + 1, int(number % 50 == 0))  # fmt: skip
    latency = int(chance.lognormvariate(15, 0.5))
    late = number % 67 == 0
    end = {0: "max_tokens", 1: "refusal"}.get(number % 29, "end_turn")
    attempt = rows.answer(
        invocation, 1, number, attempt=about | {"state": "late" if late else "answered"},
        final=int(not late), model=model, requested_model=model, stop_reason=end,
        input_tokens=used[0], cache_write_tokens=used[1], cache_write_5m_tokens=used[1],
        cache_write_1h_tokens=0, cache_read_tokens=used[3], output_tokens=used[4],
        web_search_requests=used[5], latency_us=latency,
        first_token_us=latency // 5, answered_at=sent_at + latency, service_tier="standard",
        inference_geo="global",
    )  # fmt: skip
    quantities = dict(zip((f"{meter}_quantity" for meter in METERS), used, strict=True))
    if number % 97 == 0:
        rows.charge(attempt, None, model=model, **quantities)
        return
    amounts = [quantity * rate for quantity, rate in zip(used, RATES[model], strict=True)]
    named = dict(zip((f"{meter}_amount" for meter in METERS), amounts, strict=True))
    rate_set = list(RATES).index(model) + 1
    rows.charge(attempt, sum(amounts), model=model, rate_set_id=rate_set, **quantities, **named)
