"""What is read from rate-limit headers, and what is not believed."""

import pytest

from batcher.pacing.limits import QuotaReading, Window, read_quota

HEADERS = {
    "anthropic-ratelimit-requests-limit": "1000",
    "anthropic-ratelimit-requests-remaining": "999",
    "anthropic-ratelimit-input-tokens-limit": "2000000",
    "anthropic-ratelimit-input-tokens-remaining": "1999000",
    "anthropic-ratelimit-output-tokens-limit": "400000",
    "anthropic-ratelimit-output-tokens-remaining": "0",
}


def test_all_three_buckets_are_read():
    assert read_quota(HEADERS) == QuotaReading(
        Window(1_000, 999), Window(2_000_000, 1_999_000), Window(400_000, 0)
    )


def test_a_server_without_headers_has_said_nothing():
    assert read_quota({"request-id": "req_1"}) is None


def test_the_combined_tokens_family_alone_is_no_reading():
    assert read_quota({"anthropic-ratelimit-tokens-limit": "1000"}) is None


def test_one_bucket_alone_is_a_reading():
    one = {"anthropic-ratelimit-requests-remaining": "5"}
    assert read_quota(one) == QuotaReading(Window(None, 5), None, None)


@pytest.mark.parametrize("value", ["", "-1", "1e9", "1.5", "many", "²", "9" * 30, " 5"])
def test_a_value_that_is_no_count_is_not_believed(value):
    assert read_quota({"anthropic-ratelimit-requests-limit": value}) is None


def test_a_limit_of_zero_is_not_believed():
    headers = {**HEADERS, "anthropic-ratelimit-requests-limit": "0"}
    assert read_quota(headers).requests == Window(None, 999)
