"""Answers made of several samplings: each is billed by itself, at its own model and size."""

from batcher.pricing.book.book import load_shipped
from batcher.pricing.rate.rating import ChargeStatus, rate
from tests.pricing.answers import NOVEMBER, answer, tokens


def charges(iterations, model="claude-opus-5", requested="claude-opus-5", **others):
    stop = {key: others.pop(key) for key in ("stop_reason", "content") if key in others}
    own = [each for each in iterations if each["type"] not in {"compaction", "advisor_message"}]
    hops = [n for n, each in enumerate(own) if each["type"] == "fallback_message"]
    served = own[hops[-1] :] if hops else own
    names = "input_tokens", "output_tokens", "cache_creation_input_tokens"
    sums = {name: sum(each.get(name) or 0 for each in served) for name in names}
    usage = {**sums, **others}
    given = answer({**usage, "iterations": iterations}, model, **stop)
    return rate(given, requested_model=requested, price_list="anthropic", sent_at=NOVEMBER,
                book=load_shipped())  # fmt: skip


def step(kind, input_tokens, output_tokens, **others):
    return {"type": kind, **tokens(input_tokens, output_tokens, **others)}


def total(found):
    return sum(charge.total for charge in found)


def test_compaction_and_advisors_are_billed_beside_the_totals():
    found = charges(
        [
            step("compaction", 1_000, 100),
            step("advisor_message", 10, 10, model="claude-fable-5"),
            step("message", 200, 20),
        ]
    )
    assert [charge.line for charge in found] == [0, 1, 2]
    assert found[0].total == 1_000 * 5_000_000 + 100 * 25_000_000
    assert found[1].total == 10 * 10_000_000 + 10 * 50_000_000
    assert found[2].total == 200 * 5_000_000 + 20 * 25_000_000


def test_an_advisor_without_a_model_is_unpriced():
    found = charges([step("advisor_message", 10, 10), step("message", 1, 1)])
    assert found[0].status is ChargeStatus.UNPRICED
    assert (found[0].reason, found[0].model) == ("model_missing", None)
    assert found[1].status is ChargeStatus.PRICED


def test_a_declined_hop_of_a_fallback_chain_is_not_billed():
    found = charges(
        [step("message", 900, 0), step("fallback_message", 900, 30, model="claude-opus-4-8")],
        model="claude-opus-4-8",
        requested="claude-fable-5",
    )
    assert [charge.status for charge in found] == [ChargeStatus.UNBILLED, ChargeStatus.PRICED]
    assert (found[0].model, found[0].reason) == ("claude-fable-5", "declined_fallback")
    assert found[1].rates.model == "claude-opus-4-8"


def test_a_hop_that_spoke_before_it_declined_is_billed_at_the_requested_model():
    found = charges(
        [step("message", 100, 5), step("fallback_message", 100, 30, model="claude-opus-4-8")],
        model="claude-opus-4-8",
        requested="claude-fable-5",
    )
    assert found[0].total == 100 * 10_000_000 + 5 * 50_000_000


def test_a_chain_that_only_refused_costs_nothing():
    found = charges(
        [step("message", 900, 0), step("fallback_message", 900, 0, model="claude-opus-4-8")],
        stop_reason="refusal",
        content=b"[]",
    )
    assert [charge.status for charge in found] == [ChargeStatus.UNBILLED] * 2
    assert total(found) == 0


def test_a_prewarm_is_billed_though_it_has_no_output():
    found = charges([step("message", 3, 0, cache_creation_input_tokens=8)],
                    stop_reason="max_tokens", content=b"[]")  # fmt: skip
    assert (found[0].status, found[0].reason) == (ChargeStatus.ASSUMED, "ttl_assumed")
    assert found[0].total == 3 * 5_000_000 + 8 * 6_250_000


def test_the_prompt_size_is_judged_per_iteration():
    found = charges(
        [step("message", 60_000, 1), step("message", 60_000, 1), step("message", 100_001, 1)],
        model="claude-haiku-5-5",
    )
    assert [charge.rates.terms for charge in found] == [
        "standard",
        "standard",
        "standard/>100000",
    ]
    assert not any(charge.reason for charge in found)


def test_searches_are_billed_once_on_the_first_billed_line():
    found = charges(
        [
            step("message", 9, 0),
            step("advisor_message", 1, 1, model="claude-fable-5"),
            step("fallback_message", 9, 9, model="claude-opus-5"),
        ],
        server_tool_use={"web_search_requests": 3},
    )
    assert [charge.quantities[5] for charge in found] == [None, None, 3]
    assert found[2].amounts[5] == 30_000_000_000


def test_what_no_usage_tells_is_flagged_once_on_the_line_of_the_searches():
    found = charges(
        [step("compaction", 9, 1), step("message", 9, 1), step("message", 9, 1)],
        server_tool_use={"code_execution_requests": 3},
    )
    reasons = [charge.reason for charge in found]
    assert reasons == [None, "not_metered=code_execution_requests", None]


def test_tier_speed_and_geography_of_the_answer_hold_for_its_iterations():
    found = charges([step("message", 1, 0)], inference_geo="us", service_tier="batch")
    assert found[0].rates.terms == "batch/us"


def test_side_work_alone_does_not_hide_the_answer():
    found = charges([step("compaction", 1_000, 100)], input_tokens=10, output_tokens=1)
    assert [charge.line for charge in found] == [0, 1]
    assert found[0].total == 10 * 5_000_000 + 25_000_000


def test_an_iteration_without_counts_is_unpriced():
    found = charges([{"type": "message", "output_tokens": 1}])
    assert (found[0].status, found[0].reason) == (ChargeStatus.UNPRICED, "usage_missing")


def test_an_empty_list_of_iterations_is_none():
    (found,) = charges([], input_tokens=2, output_tokens=0)
    assert found.total == 10_000_000
