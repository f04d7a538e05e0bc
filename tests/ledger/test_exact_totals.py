"""What a report adds up is, to the last pico-dollar, what exact rationals add up.

The other side of the comparison is arithmetic of this file and of `tests/bill.py`: prices typed
from the public list, fractions, nothing of the program. The totals are far beyond the 64 bits
in which SQLite adds.

    python -m pytest -m campaign tests/ledger/test_exact_totals.py

does it for a million records on each database.
"""

import functools
import random
from collections import Counter
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from batcher.ledger.connect import reading
from batcher.pricing.book.book import load_shipped
from batcher.report.query import ReportQuery, parse_dimensions
from batcher.report.summary import summarise
from tests.bill import cost_pico_usd
from tests.ledger.settling import NOON, RunLedger

MODELS = (
    "claude-fable-5-2", "claude-fable-5-1", "claude-fable-5", "claude-opus-5-5",
    "claude-opus-5", "claude-opus-4-8", "claude-opus-4-7", "claude-sonnet-5-5",
    "claude-sonnet-5", "claude-sonnet-4-6", "claude-sonnet-4-5", "claude-haiku-5-5",
    "claude-haiku-4-5",
)  # fmt: skip
FAST = {"claude-fable-5-2", "claude-opus-5-5", "claude-opus-5", "claude-opus-4-8"}
WITHOUT_PLACE = {"claude-sonnet-4-5", "claude-haiku-4-5"}  # older than inference_geo
UNPRICED = "claude-of-tomorrow"
PER_COMMIT = 1_000
LARGEST_INTEGER = 2**63 - 1


@dataclass
class Sums:
    """What the fractions add up to, by served model."""

    cost: dict[str, Fraction] = field(default_factory=dict)
    counts: dict[str, Counter] = field(default_factory=dict)

    def add(self, model, cost, **counts):
        self.cost[model] = self.cost.get(model, Fraction(0)) + (cost or 0)
        self.counts.setdefault(model, Counter()).update(counts)


def tokens(chance):
    """From none to half of the most that is believed, of all sizes.

    The largest are the most frequent: a few thousand records are more than SQLite can add.
    """
    return chance.randrange(10 ** chance.choice((*range(1, 9), 9, 9, 9, 9)) // 2)


def part(chance, model, kind="message"):
    """One sampling: the five counts of its tokens, as the API names them."""
    five, hour = tokens(chance), tokens(chance)
    return {
        "type": kind, "model": model, "input_tokens": tokens(chance),
        "cache_creation_input_tokens": five + hour,
        "cache_creation": {
            "ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour,
        },
        "cache_read_input_tokens": tokens(chance), "output_tokens": tokens(chance),
    }  # fmt: skip


def counts_of(sampling):
    return {
        "input_tokens": sampling["input_tokens"],
        "cache_creation_5m": sampling["cache_creation"]["ephemeral_5m_input_tokens"],
        "cache_creation_1h": sampling["cache_creation"]["ephemeral_1h_input_tokens"],
        "cache_read": sampling["cache_read_input_tokens"],
        "output_tokens": sampling["output_tokens"],
    }


def rational(sampling, model, *, searches, tier, speed, place, stop_reason):
    """What one sampling costs, in pico-USD, by the arithmetic of the bill."""
    line = {
        "model": model, "billed": True, "stop_reason": stop_reason, "inference_geo": place,
        "speed": speed, "web_search_requests": 0, **counts_of(sampling),
    }  # fmt: skip
    cost = Fraction(cost_pico_usd(line)) / (2 if tier == "batch" else 1)
    return cost + searches * Fraction(10**12, 100)


def record(chance, sums):
    """(message, usage) of a random answer; what it costs is added to `sums`."""
    model = (
        chance.choice((*MODELS, UNPRICED)) if chance.random() < 0.2 else chance.choice(MODELS)
    )
    speed = "fast" if model in FAST and chance.random() < 0.2 else "standard"
    tier = chance.choice(("standard", "batch")) if speed == "standard" else "standard"
    place = chance.choice(("global", "us")) if model not in WITHOUT_PLACE else "not_available"
    # Searches add up prompts, so that nobody knows the size which that model is priced by.
    searches = 0 if model == "claude-haiku-5-5" else chance.randrange(5)
    own = part(chance, model)
    stop = "end_turn"
    if chance.random() < 0.02:  # refused before the first token: not charged
        stop, own["output_tokens"], searches = "refusal", 0, 0
    if chance.random() < 0.02:
        tier = "priority"  # committed capacity: no price per token
    usage = {
        **{name: own[name] for name in own if name not in {"type", "model"}},
        "service_tier": tier, "speed": speed, "inference_geo": place,
        "server_tool_use": {"web_search_requests": searches},
    }  # fmt: skip
    samplings = [own]
    if (
        stop == "end_turn" and chance.random() < 0.1
    ):  # a compaction is billed, not in the totals
        samplings = [part(chance, model, "compaction"), own]
        usage["iterations"] = samplings
    unpriced = model == UNPRICED or tier == "priority"
    cost = None
    if stop == "refusal":
        unpriced, cost = False, Fraction(0)
    elif not unpriced:
        terms = {"tier": tier, "speed": speed, "place": place, "stop_reason": stop}
        cost = sum(
            (
                rational(each, model, searches=searches if each is own else 0, **terms)
                for each in samplings
            ),
            Fraction(0),
        )
    named = Counter({"requests": 1, "unpriced_requests": int(unpriced)})
    named["web_search_requests"] = searches
    for name, count in counts_of(own).items():
        named[name] = count
    sums.add(model, cost, **named)
    content = [] if stop == "refusal" else [{"type": "text", "text": "Hello"}]
    return {"model": model, "stop_reason": stop, "content": content}, usage


class Ledger(RunLedger):
    """See `RunLedger`; asks the database for its name once."""

    @functools.cached_property
    def _uid(self):
        return super().uid()

    def uid(self):
        return self._uid


def fill(ledger, count, seed):
    """That many random answers through the program's writer; what they cost, exactly."""
    chance, sums = random.Random(seed), Sums()
    for first in range(0, count, PER_COMMIT):
        made = []
        for _ in range(min(PER_COMMIT, count - first)):
            message, usage = record(chance, sums)
            sent_at = NOON + chance.randrange(86_400_000_000)
            made.append(ledger.answered(usage, message=message, sent_at=sent_at))
        ledger.write(*made)
    return sums


def compare(engine, sums):
    """Every number of the report against the fractions, by model, by hour, and all together."""
    report = summarise([engine], ReportQuery(by=parse_dimensions(("model",))))
    assert {line.key[0]: line.cost() for line in report.lines} == sums.cost
    for line in report.lines:
        wanted = sums.counts[line.key[0]]
        counts = line.counts
        assert counts.requests == wanted["requests"]
        assert counts.unpriced_requests == wanted["unpriced_requests"]
        assert counts.input_tokens == wanted["input_tokens"]
        assert counts.cache_write_5m_tokens == wanted["cache_creation_5m"]
        assert counts.cache_write_1h_tokens == wanted["cache_creation_1h"]
        assert counts.cache_read_tokens == wanted["cache_read"]
        assert counts.output_tokens == wanted["output_tokens"]
        assert counts.web_search_requests == wanted["web_search_requests"]
    total = sum(sums.cost.values())
    assert total > LARGEST_INTEGER  # more than a naive sum can hold
    for words in ((), ("hour", "stop_reason"), ("source", "model")):
        found = summarise([engine], ReportQuery(by=parse_dimensions(words)))
        assert found.total.cost() == sum(line.cost() for line in found.lines) == total


def check(url, count, seed):
    ledger = Ledger(url, prices=load_shipped())
    try:
        sums = fill(ledger, count, seed)
        compare(ledger.engine, sums)
        if ledger.engine.dialect.name == "sqlite":
            naive = text("SELECT SUM(total_amount) FROM charges")
            with reading(ledger.engine) as connection, pytest.raises(OperationalError):
                connection.execute(naive).all()
    finally:
        ledger.engine.dispose()
    return sum(sums.cost.values())


def test_three_thousand_random_records_add_up_exactly(database_url):
    assert check(database_url, 3_000, seed=1).denominator == 1


@pytest.mark.campaign
def test_a_million_random_records_add_up_exactly(database_url):
    assert check(database_url, 1_000_000, seed=2).denominator == 1
