"""Rating: one test per rule of the bill, and per trap in the usage object."""

import pytest

from batcher.pricing.book.book import load_shipped, parse_book
from batcher.pricing.rate.rating import ChargeStatus, rate
from tests.pricing.answers import DAY, NOVEMBER, answer, tokens

USD = 10**12
BOOK = load_shipped()


def charges(
    given, requested="claude-haiku-4-5", price_list="anthropic", at=NOVEMBER, book=BOOK
):
    return rate(given, requested_model=requested, price_list=price_list, sent_at=at, book=book)


def charge(usage, model="claude-haiku-4-5", at=NOVEMBER, **others):
    (only,) = charges(answer(usage, model, **others), at=at)
    return only


def priced(usage, model="claude-haiku-4-5", at=NOVEMBER):
    found = charge(usage, model, at)
    assert found.status is ChargeStatus.PRICED, found.reason
    assert found.total == sum(found.amounts)
    return found


def unpriced(found):
    assert found.status is ChargeStatus.UNPRICED
    assert found.total is None
    assert found.rates is None
    assert found.amounts == (None,) * 6
    return found.reason


def test_the_worked_example_of_the_price_page():
    plain = priced(tokens(50_000, 15_000), "claude-opus-5")
    assert plain.amounts == (USD // 4, 0, 0, 0, USD * 3 // 8, 0)
    cached = priced(tokens(10_000, cache_read_input_tokens=40_000), "claude-opus-5")
    assert cached.amounts == (USD // 20, 0, 0, USD // 50, 0, 0)


def test_every_meter_has_its_own_amount():
    usage = tokens(
        1,
        2,
        cache_creation_input_tokens=7,
        cache_creation={"ephemeral_5m_input_tokens": 3, "ephemeral_1h_input_tokens": 4},
        cache_read_input_tokens=5,
        server_tool_use={"web_search_requests": 6},
    )
    found = priced(usage, "claude-opus-5")
    assert found.quantities == (1, 3, 4, 5, 2, 6)
    rates = (5_000_000, 6_250_000, 10_000_000, 500_000, 25_000_000, 10_000_000_000)
    assert found.rates.rates == rates
    assert found.amounts == (
        5_000_000,
        18_750_000,
        40_000_000,
        2_500_000,
        50_000_000,
        60 * 10**9,
    )


def test_thinking_is_inside_output_and_never_added():
    usage = tokens(0, 100, output_tokens_details={"thinking_tokens": 90})
    assert priced(usage, "claude-opus-5").total == 100 * 25_000_000


def test_the_served_model_is_priced_under_the_name_it_came_with():
    (found,) = charges(answer(tokens(1, 0), "claude-opus-4-1-20250805"), "claude-haiku-4-5")
    assert found.model == "claude-opus-4-1-20250805"
    assert found.rates.model == "claude-opus-4-1"
    assert found.total == 15_000_000


def test_a_missing_model_is_assumed_to_be_the_requested_one():
    found = charge(tokens(1, 0), model=None)
    assert (found.status, found.reason) == (ChargeStatus.ASSUMED, "model_assumed")
    assert found.total == 1_000_000


def test_the_day_of_sending_in_utc_chooses_the_price():
    seventh_of_october = NOVEMBER - 45 * DAY
    usage = tokens(0, 0, cache_read_input_tokens=10)
    before = priced(usage, "claude-sonnet-5-5", seventh_of_october - 1)
    after = priced(usage, "claude-sonnet-5-5", seventh_of_october)
    assert (before.total, after.total) == (2_000_000, 1_000_000)
    assert (before.rates.valid_from, after.rates.valid_from) == ("2026-09-28", "2026-10-07")


@pytest.mark.parametrize(
    ("field", "value", "model", "terms", "total"),
    [
        ("service_tier", "batch", "claude-opus-5", "batch", 2_500_000),
        ("service_tier", "standard", "claude-opus-5", "standard", 5_000_000),
        ("speed", "fast", "claude-opus-5", "fast", 10_000_000),
        ("speed", "standard", "claude-opus-5", "standard", 5_000_000),
        ("inference_geo", "us", "claude-opus-5", "standard/us", 5_500_000),
        ("inference_geo", "global", "claude-opus-5", "standard", 5_000_000),
        ("inference_geo", "not_available", "claude-haiku-4-5", "standard", 1_000_000),
    ],
)
def test_tier_speed_and_geography_come_from_the_response(field, value, model, terms, total):
    found = priced(tokens(1, 0, **{field: value}), model)
    assert found.rates.terms == terms
    assert found.total == total


def test_batch_and_us_stack_to_the_smallest_rate_of_all():
    usage = tokens(cache_read_input_tokens=1, service_tier="batch", inference_geo="us")
    found = priced(usage, "claude-haiku-5-5")
    assert found.rates.terms == "batch/us"
    assert found.total == 5_500


def test_one_token_more_than_the_threshold_makes_every_token_dearer():
    cached = {"cache_read_input_tokens": 40_000, "cache_creation_input_tokens": 0}
    at = priced(tokens(60_000, 10, **cached), "claude-haiku-5-5")
    above = priced(tokens(60_001, 10, **cached), "claude-haiku-5-5")
    assert at.rates.terms == "standard"
    assert above.rates.terms == "standard/>100000"
    assert above.amounts[4] == 5 * at.amounts[4]


@pytest.mark.parametrize(
    ("usage", "model", "reason"),
    [
        (tokens(1, 1), "claude-opus-6", "unknown_model"),
        (tokens(1, 1), "claude-opus-4-8-fast", "unknown_model"),
        (tokens(1, 1, service_tier="priority"), "claude-opus-5", "service_tier=priority"),
        (tokens(1, 1, service_tier="flex"), "claude-opus-5", "service_tier=flex"),
        (tokens(1, 1, speed="ludicrous"), "claude-opus-5", "speed=ludicrous"),
        (tokens(1, 1, inference_geo="eu"), "claude-opus-5", "inference_geo=eu"),
        (tokens(1, 1, inference_geo="us"), "claude-haiku-4-5", "inference_geo=us"),
        (tokens(1, 1, speed="fast"), "claude-haiku-4-5", "no_price_for_fast"),
        (tokens(1, 1, speed="fast", service_tier="batch"), "claude-opus-5", "batch_and_fast"),
        ({"input_tokens": 1}, "claude-opus-5", "usage_missing"),
        ({"output_tokens": 1}, "claude-opus-5", "usage_missing"),
        (None, "claude-opus-5", "usage_missing"),
        (tokens(10**9, 10**9), "claude-opus-5", None),
    ],
)
def test_what_is_unknown_is_unpriced_with_a_reason_and_its_tokens(usage, model, reason):
    found = charge(usage, model)
    if reason is None:
        assert found.total == 10**9 * 30_000_000
    else:
        assert unpriced(found) == reason
        assert found.quantities[0] == (usage or {}).get("input_tokens")


def test_a_model_has_no_price_before_its_first_day():
    assert unpriced(charge(tokens(1, 1), "claude-fable-5-2", 0)) == "no_price_on_day"


def test_without_prices_everything_is_unpriced():
    (found,) = charges(answer(tokens(1, 1)), price_list=None)
    assert unpriced(found) == "no_price_list"
    (found,) = charges(answer(tokens(1, 1)), price_list="stranger")
    assert unpriced(found) == "unknown_price_list"


def test_a_used_meter_without_a_rate_makes_the_line_unpriced():
    used = tokens(1, 1, server_tool_use={"web_search_requests": 1})
    assert unpriced(charge(used, "claude-3-haiku")) == "no_rate_for_web_search"
    unused = tokens(1, 1, server_tool_use={"web_search_requests": 0})
    assert priced(unused, "claude-3-haiku").total == 250_000 + 1_250_000


def test_an_amount_beyond_64_bits_is_unpriced():
    usage = tokens(1, 1, server_tool_use={"web_search_requests": 10**9})
    assert unpriced(charge(usage, "claude-opus-5")) == "amount_too_large"


def test_what_was_not_reported_stays_unknown():
    assert priced(tokens(1, 1)).quantities == (1, None, None, None, 1, None)


def test_no_model_at_all_is_unpriced():
    (found,) = charges(answer(tokens(1, 1), model=None), requested="")
    assert unpriced(found) == "model_missing"


def test_a_refusal_before_output_is_not_billed():
    found = charge(tokens(500, 0), stop_reason="refusal", content=b"[]")
    assert (found.status, found.reason) == (ChargeStatus.UNBILLED, "refusal_before_output")
    assert (found.total, found.quantities[0]) == (0, 500)


@pytest.mark.parametrize(
    ("usage", "content", "stop_reason"),
    [
        (tokens(500, 3), b'[{"type":"text","text":"I"}]', "refusal"),
        (tokens(500, 0), b"[]", "end_turn"),
        (tokens(500, 0), b"[]", "max_tokens"),
    ],
)
def test_other_empty_answers_and_later_refusals_are_billed(usage, content, stop_reason):
    found = charge(usage, stop_reason=stop_reason, content=content)
    assert found.status is ChargeStatus.PRICED
    assert found.total > 0


def test_a_refusal_with_an_empty_text_block_is_not_billed():
    content = b'[{"type":"text","text":""}]'
    found = charge(tokens(500, 0), stop_reason="refusal", content=content)
    assert (found.status, found.total, found.high) == (ChargeStatus.UNBILLED, 0, 0)


@pytest.mark.parametrize(
    ("usage", "content"),
    [
        (tokens(500, 3), b"[]"),
        (tokens(500, 0, server_tool_use={"web_search_requests": 1}), b"[]"),
        (tokens(500, 0), b'[{"type":"thinking","thinking":"","signature":"x"}]'),
    ],
)
def test_a_refusal_of_which_nobody_knows_whether_it_began_is_free_at_best(usage, content):
    found = charge(usage, stop_reason="refusal", content=content)
    assert (found.status, found.reason) == (ChargeStatus.ASSUMED, "refusal_unclear")
    assert found.total == 0 < found.high


def test_cache_writes_without_a_lifetime_are_assumed_to_live_five_minutes():
    found = charge(tokens(0, 0, cache_creation_input_tokens=8), "claude-opus-5")
    assert (found.status, found.reason) == (ChargeStatus.ASSUMED, "ttl_assumed")
    assert found.quantities[1:3] == (8, None)
    assert found.total == 50_000_000


def test_a_split_that_lacks_tokens_gets_the_rest_at_five_minutes():
    split = {"ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}
    usage = tokens(0, 0, cache_creation_input_tokens=8, cache_creation=split)
    found = charge(usage, "claude-opus-5")
    assert (found.quantities[1:3], found.reason) == ((6, 2), "ttl_assumed")


def test_a_split_with_too_many_tokens_is_flagged():
    split = {"ephemeral_5m_input_tokens": 9}
    usage = tokens(0, 0, cache_creation_input_tokens=8, cache_creation=split)
    assert charge(usage, "claude-opus-5").reason == "cache_split_mismatch"


def test_no_cache_writes_need_no_assumption():
    assert priced(tokens(1, 1, cache_creation_input_tokens=0)).reason is None


def test_a_region_in_the_model_id_carries_its_premium():
    found = charge(tokens(1, 0), "us.anthropic.claude-opus-5-v1:0")
    assert (found.total, found.reason) == (5_500_000, None)
    assert found.rates.terms == "standard/regional"
    batch = charge(tokens(1, 0, service_tier="batch"), "eu.anthropic.claude-haiku-4-5")
    assert batch.total == 550_000


@pytest.mark.parametrize(
    ("model", "high"),
    [
        ("claude-opus-5@default", 5_500_000),
        ("anthropic.claude-opus-5", 5_500_000),
        ("us-gov.anthropic.claude-opus-5", 6_000_000),
    ],
)
def test_a_cloud_whose_region_is_not_told_is_an_interval(model, high):
    found = charge(tokens(1, 0), model)
    assert (found.total, found.high, found.reason) == (5_000_000, high, "region_assumed")


PROFILE = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abcdef"


@pytest.mark.parametrize(
    ("requested", "served", "low", "high"),
    [
        ("us.anthropic.claude-opus-5-v1:0", "claude-opus-5", 5_500_000, 5_500_000),
        ("eu.anthropic.claude-opus-5", "claude-opus-5-20260724", 5_500_000, 5_500_000),
        ("global.anthropic.claude-opus-5", "claude-opus-5", 5_000_000, 5_000_000),
        ("us.anthropic.claude-opus-5", "global.anthropic.claude-opus-5", 5_000_000, 5_000_000),
        ("us.anthropic.claude-opus-5", "us.anthropic.claude-opus-5", 5_500_000, 5_500_000),
        ("us.anthropic.claude-sonnet-4", "claude-sonnet-4", 3_000_000, 3_000_000),
        ("anthropic.claude-opus-5", "claude-opus-5", 5_000_000, 5_500_000),
        ("claude-opus-5@20260724", "claude-opus-5", 5_000_000, 5_500_000),
        ("us-gov.anthropic.claude-opus-5", "claude-opus-5", 5_000_000, 6_000_000),
        (PROFILE, "claude-opus-5", 5_000_000, 5_500_000),
        ("anthropic/claude-opus-5", "claude-opus-5", 5_000_000, 5_000_000),
    ],
)
def test_a_cloud_that_answers_with_the_plain_name_charges_for_the_region(
    requested, served, low, high
):
    """Priced by the name in the answer alone, a tenth of each such bill was missing."""
    for usage in (tokens(1, 0), tokens(1, 0, iterations=[tokens(1, 0, type="message")])):
        (found,) = rate(answer(usage, served), requested_model=requested,
                        price_list="anthropic", sent_at=NOVEMBER, book=BOOK)  # fmt: skip
        assert (found.total, found.high, found.model) == (low, high, served)


def test_a_list_of_ones_own_that_knows_no_premium_is_an_interval():
    own = parse_book(
        'version = "own"\n[lists.own]\n[[rates]]\nlist = "own"\nmodel = "claude-opus-5"\n'
        'valid_from = 2026-01-01\ninput = "5"\noutput = "25"\n'
    )
    (found,) = rate(answer(tokens(1, 0), "us.anthropic.claude-opus-5"), requested_model="",
                    price_list="own", sent_at=NOVEMBER, book=own)  # fmt: skip
    assert (found.total, found.high, found.reason) == (5_000_000, 5_500_000, "region_assumed")


def test_a_long_sum_of_prompts_with_searches_is_flagged():
    usage = tokens(150_000, 1, server_tool_use={"web_search_requests": 2})
    assert charge(usage, "claude-haiku-5-5").reason == "tier_assumed"


def test_a_tool_whose_cost_no_usage_tells_is_flagged_and_the_rest_is_priced():
    tools = {"code_execution_requests": 2, "web_fetch_requests": 3, "web_search_requests": 1}
    found = charge(tokens(1, 0, server_tool_use=tools), "claude-opus-5")
    assert found.status is ChargeStatus.ASSUMED
    assert found.reason == "not_metered=code_execution_requests"
    assert found.total == 5_000_000 + 10_000_000_000


def test_a_free_or_unused_tool_is_no_assumption():
    tools = {
        "code_execution_requests": 0,
        "web_fetch_requests": 3,
        "tool_search_requests": None,
    }
    assert priced(tokens(1, 1, server_tool_use=tools)).reason is None


def test_names_of_tools_are_not_repeated_when_they_are_no_words():
    tools = {"<script>": 1, "x" * 300: 2, "a_requests": 1, "b_requests": 1, "c_requests": 1}
    reason = charge(tokens(1, 0, server_tool_use=tools)).reason
    assert reason == "not_metered=a_requests+not_metered=b_requests+not_metered=c_requests"
    assert charge(tokens(1, 0, server_tool_use={"<b>": 1})).reason == "not_metered=other"


def test_a_fallback_credit_moved_tokens_already_and_is_not_taken_off_again():
    plain = tokens(10, 20, cache_read_input_tokens=30)
    credit = {"input_tokens": 5, "amount": "0.1", "cost": 3}
    assert priced({**plain, "fallback_credit": credit}).total == priced(plain).total


def test_an_answer_is_priced_on_its_own_model_not_on_the_one_that_was_asked():
    (found,) = charges(answer(tokens(1, 0), "claude-haiku-4-5"))
    assert (found.model, found.total) == ("claude-haiku-4-5", 1_000_000)


def test_a_book_can_price_in_credits():
    book = parse_book(
        'version = "1"\n[lists.crun]\ncurrency = "CRUN_CREDIT"\n[[rates]]\nlist = "crun"\n'
        'model = "claude-opus-5"\nvalid_from = 2026-01-01\ninput = "500"\noutput = "2500"\n'
    )
    (found,) = charges(answer(tokens(2, 0), "claude-opus-5"), price_list="crun", book=book)
    assert (found.rates.currency, found.total) == ("CRUN_CREDIT", 1_000_000_000)


def test_a_tier_without_a_base_prices_nothing_below_it():
    book = parse_book(
        'version = "1"\nextends = "nothing"\n[[rates]]\nmodel = "m"\nvalid_from = 2026-01-01\n'
        'prompt_tokens_above = 10\ninput = "1"\noutput = "1"\n'
    )
    (found,) = charges(answer(tokens(20, 1), "m"), book=book)
    assert unpriced(found) == "no_price_for_standard"


def test_a_server_cannot_fill_the_memory_with_model_names():
    for number in range(20_005):
        charge(tokens(1, 1), f"model-{number}")
    assert len(BOOK.resolutions) <= 20_000
