"""The tests' own price table, checked with sums done by hand."""

import json

import pytest

from tests.bill import cost_pico_usd, read_bill, total_pico_usd

LINE = {
    "model": "claude-sonnet-4-6",
    "input_tokens": 0,
    "cache_creation_5m": 0,
    "cache_creation_1h": 0,
    "cache_read": 0,
    "output_tokens": 0,
    "web_search_requests": 0,
    "stop_reason": "end_turn",
    "billed": True,
    "inference_geo": "global",
    "speed": "standard",
}


def test_every_meter_has_its_own_price():
    line = LINE | {
        "input_tokens": 1,
        "cache_creation_5m": 10,
        "cache_creation_1h": 100,
        "cache_read": 1_000,
        "output_tokens": 10_000,
    }
    expected = 3_000_000 + 37_500_000 + 600_000_000 + 300_000_000 + 150_000_000_000
    assert cost_pico_usd(line) == expected


def test_a_web_search_is_one_cent():
    assert cost_pico_usd(LINE | {"web_search_requests": 3}) == 3 * 10**10


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [(100_000, 100_000 * 100_000 + 500_000), (100_001, 100_001 * 500_000 + 2_500_000)],
)
def test_haiku_5_5_is_dearer_for_all_tokens_above_100_000(prompt, expected):
    line = LINE | {"model": "claude-haiku-5-5", "input_tokens": prompt, "output_tokens": 1}
    assert cost_pico_usd(line) == expected


def test_cache_tokens_count_towards_the_length_of_the_prompt():
    line = LINE | {"model": "claude-haiku-5-5", "cache_read": 100_000, "input_tokens": 1}
    assert cost_pico_usd(line) == 100_000 * 50_000 + 500_000


def test_us_only_and_fast_multiply():
    line = LINE | {"model": "claude-opus-5-5", "output_tokens": 1}
    assert cost_pico_usd(line) == 20_000_000
    assert cost_pico_usd(line | {"inference_geo": "us", "speed": "fast"}) == 44_000_000


@pytest.mark.parametrize("change", [{"stop_reason": "refusal"}, {"billed": False}])
def test_a_refusal_without_output_costs_nothing(change):
    assert cost_pico_usd(LINE | {"input_tokens": 500} | change) == 0


def test_a_vendor_and_a_date_do_not_change_the_price():
    line = LINE | {"model": "anthropic/claude-haiku-4-5-20251015", "input_tokens": 2}
    assert cost_pico_usd(line) == 2_000_000


def test_an_unlisted_model_has_no_price():
    with pytest.raises(KeyError):
        cost_pico_usd(LINE | {"model": "claude-new-9"})


def test_a_torn_line_is_not_overlooked(tmp_path):
    (tmp_path / "bill").write_text('{"a": 1}\n{"a"')
    with pytest.raises(json.JSONDecodeError):
        read_bill(tmp_path / "bill")


def test_a_total_is_the_sum():
    line = LINE | {"input_tokens": 1}
    assert total_pico_usd([line, line, line]) == 9_000_000
