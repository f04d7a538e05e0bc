"""Each row of the table of trust: what has it, and what that makes of a charge.

The source of a row is in the table itself; here is one case of each, with both ends by hand.
"""

from dataclasses import dataclass, field
from typing import Any

import pytest

from batcher.messages.answer import Evidence
from batcher.pricing.book.book import load_shipped
from batcher.pricing.rate.rating import ChargeStatus, rate
from batcher.pricing.rate.trust import RULES
from tests.pricing.answers import NOVEMBER, answer, tokens

BOOK = load_shipped()
INPUT, WRITE, HOUR, READ, OUTPUT = 5_000_000, 6_250_000, 10_000_000, 500_000, 25_000_000
SEARCH = 10**10
KNOWN = {"input_most": 1_000, "output_most": 400}


@dataclass(frozen=True)
class Row:
    """A usage with the evidence beside it, and the charge: `high` `None` has no upper end."""

    reason: str
    usage: Any
    low: int
    high: int | None
    evidence: dict[str, Any] = field(default_factory=dict)
    model: str | None = "claude-opus-5"
    others: dict[str, Any] = field(default_factory=dict)


def split(five, hour):
    return {"ephemeral_5m_input_tokens": five, "ephemeral_1h_input_tokens": hour}


SEARCHED = {"server_tool_use": {"web_search_requests": 1}}
UNCLEAR = {"stop_reason": "refusal", "content": b'[{"type":"thinking","thinking":""}]'}
RAN = {"server_tool_use": {"code_execution_requests": 1}}
TABLE = [
    Row("model_assumed", tokens(10, 2), 10 * INPUT + 2 * OUTPUT, 10 * INPUT + 2 * OUTPUT,
        model=None),
    Row("usage_missing", None, 0, 1_000 * INPUT + 400 * OUTPUT),
    Row("usage_missing", {"input_tokens": 10}, 10 * INPUT, 10 * INPUT + 400 * OUTPUT),
    Row("usage_missing", {"input_tokens": 10}, 0, None, {"output_most": None}),
    Row("count_odd", tokens(10, 2, cache_read_input_tokens=-1), 10 * INPUT + 2 * OUTPUT,
        10 * INPUT + 2 * OUTPUT + 990 * READ),
    Row("count_odd", {"prompt_tokens": 10, "completion_tokens": 2, "server_tool_use": []},
        10 * INPUT + 2 * OUTPUT, 10 * INPUT + 2 * OUTPUT),
    Row("counts_fell",
        tokens(10, 2, cache_creation_input_tokens=40, cache_creation=split(40, 0)),
        10 * INPUT + 40 * WRITE + 2 * OUTPUT, 10 * INPUT + 40 * WRITE + 40 * HOUR + 2 * OUTPUT,
        {"fell": (("ephemeral_1h_input_tokens", 0, 40),)}),
    Row("service_tier_not_echoed", tokens(10, 2), 5 * INPUT + OUTPUT, 10 * INPUT + 2 * OUTPUT,
        {"tier": "batch"}),
    Row("count_unknown", tokens(100, 2, cached_tokens=30), 70 * INPUT + 30 * READ + 2 * OUTPUT,
        130 * INPUT + 32 * OUTPUT),
    Row("count_odd", tokens(100, 2, image_tokens="many"), 100 * INPUT, None),
    Row("not_metered=ephemeral_24h_input_tokens", tokens(
        100, 2, cache_creation={"ephemeral_24h_input_tokens": 5}), 100 * INPUT, None),
    Row("cache_not_reported", tokens(100, 2), 100 * READ + 2 * OUTPUT,
        100 * WRITE + 900 * WRITE + 2 * OUTPUT, {"cache_lifetimes": 1}),
    Row("cache_not_reported", tokens(100, 2), 100 * READ + 2 * OUTPUT,
        100 * HOUR + 900 * HOUR + 2 * OUTPUT, {"cache_lifetimes": 2}),
    Row("cached_in_input", tokens(100, 2, cache_read_input_tokens=60),
        40 * INPUT + 60 * READ + 2 * OUTPUT, 100 * INPUT + 60 * READ + 2 * OUTPUT),
    Row("searches_not_reported", tokens(10, 2), 10 * INPUT + 2 * OUTPUT + SEARCH,
        10 * INPUT + 2 * OUTPUT + 3 * SEARCH, {"searches": 3, "search_results": 1}),
    Row("searches_not_reported", tokens(10, 2, **SEARCHED), 10 * INPUT + 2 * OUTPUT + SEARCH,
        10 * INPUT + 2 * OUTPUT + 2 * SEARCH, {"search_results": 2}),
    Row("not_metered=code_execution_requests", tokens(10, 2, **RAN), 10 * INPUT + 2 * OUTPUT,
        10 * INPUT + 2 * OUTPUT + 36 * 10**12),
    Row("not_metered=other", tokens(10, 2), 0, None, {"other_results": True}),
    Row("inference_geo_not_echoed", tokens(10, 0), 10 * INPUT, 11 * INPUT,
        {"geography": "us"}),
    Row("speed_not_echoed", tokens(10, 0), 10 * INPUT, 20 * INPUT, {"speed": "fast"}),
    Row("service_tier_not_echoed", tokens(10, 0), 5 * INPUT, 10 * INPUT, {"tier": "batch"}),
    Row("spellings_disagree", {**tokens(10, 2), "completion_tokens": 5},
        10 * INPUT + 2 * OUTPUT, 10 * INPUT + 5 * OUTPUT),
    Row("ttl_assumed", tokens(0, 1, cache_creation_input_tokens=8, cache_read_input_tokens=0),
        8 * WRITE + OUTPUT, 8 * HOUR + OUTPUT),
    Row("refusal_unclear", tokens(10, 0), 0, 10 * INPUT, others=UNCLEAR),
    Row("tier_assumed", tokens(150_000, 0, **SEARCHED), 150_000 * 100_000 + SEARCH,
        150_000 * 500_000 + SEARCH, {"input_most": 10**6, "several": True},
        "claude-haiku-5-5"),
    Row("counts_fell", tokens(0, 2), 2 * OUTPUT, 700 * INPUT + 2 * OUTPUT,
        {"fell": (("input_tokens", 0, 700),)}),
    Row("iterations_disagree",
        tokens(100, 2, iterations=[{"type": "message", **tokens(10, 2)}]),
        10 * INPUT + 2 * OUTPUT, 100 * INPUT + 2 * OUTPUT),
    Row("thinking_above_output",
        tokens(10, 2, output_tokens_details={"thinking_tokens": 90}),
        10 * INPUT + 2 * OUTPUT, 10 * INPUT + 400 * OUTPUT),
    Row("output_below_text", tokens(10, 0), 10 * INPUT, 10 * INPUT + 400 * OUTPUT,
        {"spoke": True}),
    Row("output_above_max_tokens", tokens(10, 500), 10 * INPUT + 40 * OUTPUT,
        10 * INPUT + 500 * OUTPUT, {"output_least": 40}),
    Row("input_above_bound", tokens(1_001, 2), 2 * OUTPUT, 1_001 * INPUT + 2 * OUTPUT),
    Row("input_below_text", tokens(0, 2), 2 * OUTPUT, 1_000 * INPUT + 2 * OUTPUT,
        {"input_least": 1}),
    Row("cache_split_mismatch",
        tokens(0, 1, cache_creation_input_tokens=8, cache_creation=split(5, 5),
               cache_read_input_tokens=0),
        3 * WRITE + 3 * HOUR + OUTPUT, 5 * WRITE + 5 * HOUR + OUTPUT),
]  # fmt: skip


def test_a_split_beside_a_total_of_nothing_is_a_contradiction_without_evidence_too():
    usage = tokens(0, 1, cache_creation_input_tokens=0, cache_creation=split(5, 0))
    (found,) = rate(answer(usage, "claude-opus-5"), requested_model="", price_list="anthropic",
                    sent_at=NOVEMBER, book=BOOK)  # fmt: skip
    assert (found.status, found.reason) == (ChargeStatus.ASSUMED, "cache_split_mismatch")
    assert (found.total, found.high) == (OUTPUT, 5 * WRITE + OUTPUT)


def test_the_short_way_of_a_clear_answer_charges_like_all_the_rules():
    for usage in (tokens(10, 2), tokens(0, 0), tokens(7, 3, service_tier="batch"),
                  tokens(5, 2, cache_creation_input_tokens=8, cache_creation=split(3, 5)),
                  tokens(5, 2, cache_read_input_tokens=9, inference_geo="us")):  # fmt: skip
        row = Row("", usage, 0, 0, {"input_most": 100}, "claude-opus-4-8")
        (short,) = rate(answer(usage, row.model), requested_model="", price_list="anthropic",
                        sent_at=NOVEMBER, book=BOOK)  # fmt: skip
        assert charge(row) == short


def charge(row):
    evidence = Evidence(**{**KNOWN, **row.evidence})
    given = answer(row.usage, row.model, **row.others)
    object_ = type(given)(
        **{name: getattr(given, name) for name in given.__struct_fields__}
        | {"evidence": evidence}
    )
    (found,) = rate(object_, requested_model="claude-opus-5", price_list="anthropic",
                    sent_at=NOVEMBER, book=BOOK)  # fmt: skip
    return found


@pytest.mark.parametrize("row", TABLE, ids=[f"{n} {row.reason}" for n, row in enumerate(TABLE)])
def test_what_is_open_makes_a_charge_assumed_with_both_ends(row):
    found = charge(row)
    assert row.reason in (found.reason or "").split("+")
    if row.high is None:
        assert (found.status, found.total, found.high) == (ChargeStatus.UNPRICED, None, None)
        return
    assert (found.status, found.total, found.high) == (
        ChargeStatus.ASSUMED, row.low, row.high,
    )  # fmt: skip


def test_every_row_of_the_table_has_a_case_and_a_source():
    named = {rule.reason for rule in RULES if rule.reason}
    assert named <= {row.reason for row in TABLE}
    assert all(rule.source for rule in RULES)
    for rule in RULES:
        if not rule.reason:  # it says its reasons itself
            assert any(
                rule.widens.__name__.removeprefix("_widen_") in word
                for word in ("code", "tools", "terms", "sizes")
            )
