"""The buckets: exact, continuous, and told in headers."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from batcher.simulator.desk import Bucket, Quota
from tests.simulator.asking import Counter, body_of

SECOND = 1_000_000_000
steps = st.lists(st.tuples(st.integers(0, 5 * SECOND), st.integers(0, 5_000)), max_size=40)


@given(per_minute=st.integers(1, 1_000_000), steps=steps)
def test_a_bucket_holds_exactly_what_fractions_say(per_minute, steps):
    bucket, now = Bucket(per_minute, 60, 0), 0
    level = Fraction(per_minute)
    for elapsed, amount in steps:
        now += elapsed
        level = min(level + Fraction(elapsed * per_minute, 60 * SECOND), Fraction(per_minute))
        assert bucket.remaining(now) == max(level.__floor__(), 0)
        bucket.take(amount, now)
        level -= amount


@given(per_minute=st.integers(1, 1_000_000), amount=st.integers(1, 100_000), steps=steps)
def test_the_wait_is_enough_and_not_a_nanosecond_too_long(per_minute, amount, steps):
    bucket, now = Bucket(per_minute, 10, 0), 0
    for elapsed, taken in steps:
        now += elapsed
        bucket.take(taken, now)
    wait = bucket.wait_ns(amount, now)
    if wait:
        assert bucket.wait_ns(amount, now + wait - 1) > 0
    assert bucket.wait_ns(amount, now + wait) == 0


@given(waits=st.lists(st.integers(0, SECOND), max_size=60))
def test_no_window_admits_more_than_burst_plus_refill(waits):
    quota, now, admitted = Quota((60, None, None), 5, 0), 0, 0
    for wait in waits:
        now += wait
        admitted += quota.admit(1, now) == 0
    assert admitted <= 5 + now / SECOND


def test_a_request_larger_than_the_bucket_passes_when_the_bucket_is_full():
    quota = Quota((None, 1_000, None), 1, 0)
    assert quota.admit(50_000, 0) == 0
    assert quota.admit(1, 0) > 0


def test_a_refused_request_takes_nothing_from_any_bucket():
    quota = Quota((10, 100, None), 60, 0)
    quota.admit(100, 0)
    assert quota.admit(100, 0) > 0
    assert quota.headers(0)["anthropic-ratelimit-requests-remaining"] == "9"


def test_output_may_go_below_zero_and_then_everybody_waits():
    quota = Quota((None, None, 600), 60, 0)
    assert quota.admit(5, 0) == 0
    quota.produced(1_200, 0)
    assert quota.admit(5, 0) >= 60 * SECOND


def test_headers_tell_limit_rounded_remainder_and_reset():
    quota = Quota((100, 20_000, 10_000), 60, 0)
    quota.admit(3_700, 0)
    quota.produced(10_000, 0)
    headers = quota.headers(0)
    assert headers["anthropic-ratelimit-requests-limit"] == "100"
    assert headers["anthropic-ratelimit-requests-remaining"] == "99"
    assert headers["anthropic-ratelimit-input-tokens-remaining"] == "16000"
    assert headers["anthropic-ratelimit-output-tokens-remaining"] == "0"
    assert headers["anthropic-ratelimit-output-tokens-reset"] == "1970-01-01T00:01:00Z"
    assert headers["anthropic-ratelimit-tokens-limit"] == "30000"
    assert headers["anthropic-ratelimit-tokens-remaining"] == "16000"


def test_an_empty_bucket_is_a_429_with_a_wait_and_off_the_bill():
    counter = Counter(requests_per_minute=1)
    assert counter.decide(body_of("hi")).status == 200
    refused = counter.decide(body_of("hi"))
    assert refused.status == 429
    assert 1 <= int(refused.headers["retry-after"]) <= 60
    assert refused.headers["anthropic-ratelimit-requests-remaining"] == "0"
    assert len(counter.bill.lines()) == 1


def test_each_model_class_has_its_own_quota():
    counter = Counter(requests_per_minute=1)
    models = ["claude-opus-4-6", "claude-opus-4-5", "claude-opus-5-5"]
    statuses = [counter.decide(body_of("hi", model=model)).status for model in models]
    assert statuses == [200, 429, 200]


def test_cache_reads_do_not_use_up_the_input_quota():
    quota = Counter(input_tokens_per_minute=5_000)
    prompt = "[[usage:cache]] [[input:1]] " + "word " * 2_000
    line_free = [quota.decide(body_of(f"{prompt}{n}")).status for n in range(3)]
    assert line_free == [200, 200, 200]


def test_without_a_quota_there_are_no_rate_limit_headers():
    assert Counter().decide(body_of("hi")).quota is None
