"""Who waits for what, and for how long."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.pacing.limits import (
    Expected,
    Limit,
    QuotaLimits,
    QuotaReading,
    Window,
    model_class,
    quota_limits,
)
from batcher.pacing.pacer import Pacer
from batcher.pacing.pool import Refusal

SONNET, HAIKU = "claude-sonnet-5", "claude-haiku-5"
USUAL = Expected(1_000, 400)
FULL = QuotaReading(Window(60, 60), Window(120_000, 120_000), Window(60_000, 60_000))
ASKED = Refusal(retry_after_seconds=7.0, chance=0.5)


def pacer_with(**limits) -> Pacer:
    return Pacer(QuotaLimits(**limits), 64, 0.0)


def send_all(pacer: Pacer, expected: Expected, seconds: float) -> int:
    """How many go within `seconds` when there is no end of them."""
    now, sent = 0.0, 0
    while now < seconds:
        wait = pacer.may_send(SONNET, expected, now)
        if wait == 0.0:
            pacer.sent(SONNET, expected, now)
            sent += 1
        now += wait
    return sent


def test_nothing_waits_while_no_limit_is_known():
    pacer = pacer_with()
    assert pacer.is_free(SONNET)
    assert pacer.may_send(SONNET, USUAL, 0.0) == 0.0
    assert pacer.binding_limit(0.0, in_flight=1) is None


def test_a_full_concurrency_is_what_binds_then():
    assert pacer_with().binding_limit(0.0, in_flight=64) is Limit.CONCURRENCY


@pytest.mark.parametrize(
    ("limits", "cause", "allowed"),
    [
        ({"requests": 120}, Limit.REQUESTS, 120),
        ({"input_tokens": 60_000}, Limit.INPUT_TOKENS, 60),
        ({"output_tokens": 36_000}, Limit.OUTPUT_TOKENS, 90),
    ],
)
def test_a_configured_limit_paces_and_is_named(limits, cause, allowed):
    pacer = pacer_with(**limits)
    assert 0.95 * allowed <= send_all(pacer, USUAL, 60.0) <= allowed + 3
    assert pacer.binding_limit(60.0, in_flight=5) is cause
    (use,) = pacer.quota_used(60.0)
    assert use.used == pytest.approx(1.0, abs=0.06)


@given(st.integers(1, 10_000), st.floats(1, 5_000))
def test_no_minute_exceeds_the_limit_by_more_than_a_second_of_it(per_minute, tokens):
    sent = send_all(pacer_with(output_tokens=per_minute), Expected(0, tokens), 60.0)
    assert (sent - 1) * tokens <= per_minute * 61 / 60 + 1


def test_a_request_larger_than_the_bucket_goes_when_it_is_full():
    assert send_all(pacer_with(input_tokens=600), Expected(6_000, 1), 1_190.0) == 2


def test_a_quarter_of_the_quota_is_a_quarter_of_the_pace():
    assert send_all(pacer_with(requests=240, share=0.25), USUAL, 60.0) in range(58, 63)


def test_headers_make_the_limits_known():
    pacer = pacer_with()
    assert pacer.wants_reading(SONNET, 0.0)
    pacer.reading(SONNET, FULL, 0.0)
    assert not pacer.is_free(SONNET)
    assert not pacer.wants_reading(SONNET, 0.4)
    assert send_all(pacer, USUAL, 20.0) in range(18, 25)


def test_a_refusal_stops_everybody_for_exactly_the_time_that_was_asked_for():
    pacer = pacer_with(requests=600)
    reservation = pacer.sent(SONNET, USUAL, 0.0)
    pacer.refused(reservation, ASKED, 1.0)
    assert pacer.may_send(SONNET, USUAL, 3.0) == 5.0
    assert pacer.may_send(SONNET, USUAL, 8.0) == 0.0
    assert pacer.binding_limit(4.0, in_flight=0) is Limit.PAUSE


def test_a_server_with_headers_pauses_one_quota_and_one_without_all():
    speaking, silent = pacer_with(), pacer_with()
    speaking.reading(SONNET, FULL, 0.0)
    for pacer in (speaking, silent):
        pacer.may_send(HAIKU, USUAL, 0.0)
        pacer.refused(pacer.sent(SONNET, USUAL, 0.0), ASKED, 1.0)
    assert speaking.may_send(HAIKU, USUAL, 2.0) == 0.0
    assert silent.may_send(HAIKU, USUAL, 2.0) == 6.0


def test_a_model_that_comes_later_keeps_the_pause_of_a_server_without_headers():
    pacer = pacer_with()
    pacer.refused(pacer.sent(SONNET, USUAL, 0.0), ASKED, 0.0)
    assert pacer.may_send(HAIKU, USUAL, 2.0) == 5.0


def test_an_acceleration_limit_starts_a_ramp():
    pacer = pacer_with(requests=6_000)
    refusal = Refusal(retry_after_seconds=0.0, chance=0.5, is_ramp=True)
    pacer.refused(pacer.sent(SONNET, USUAL, 0.0), refusal, 0.0)
    early = send_all(pacer, USUAL, 10.0)
    assert early < 0.5 * 1_000


def test_a_refusal_with_quota_left_starts_a_ramp_too():
    pacer = pacer_with()
    pacer.reading(SONNET, FULL, 0.0)
    pacer.refused(pacer.sent(SONNET, USUAL, 0.0), Refusal(0.0, 0.5), 0.0)
    assert send_all(pacer, USUAL, 30.0) < 20


def test_a_refusal_for_want_of_quota_starts_none():
    pacer = pacer_with()
    pacer.reading(SONNET, QuotaReading(Window(600, 0), None, None), 0.0)
    pacer.refused(pacer.sent(SONNET, USUAL, 0.0), Refusal(0.0, 0.5), 0.0)
    pacer.reading(SONNET, QuotaReading(Window(600, 300), None, None), 0.1)
    assert send_all(pacer, USUAL, 30.0) > 250


def test_what_never_arrived_is_given_back():
    pacer = pacer_with(requests=60)
    reservation = pacer.sent(SONNET, USUAL, 0.0)
    assert pacer.may_send(SONNET, USUAL, 0.0) > 0.9
    pacer.refunded(reservation)
    assert pacer.may_send(SONNET, USUAL, 0.0) == 0.0


def test_estimates_follow_what_answers_really_took():
    pacer = pacer_with(output_tokens=1_000_000)
    for moment in range(300):
        expected = pacer.expect(SONNET, 3_000, 4_096)
        reservation = pacer.sent(SONNET, expected, float(moment))
        pacer.settled(reservation, Expected(500, 50), moment + 0.5)
    expected = pacer.expect(SONNET, 3_000, 4_096)
    assert expected.input_tokens == pytest.approx(500, rel=0.01)
    assert expected.output_tokens == pytest.approx(50, rel=0.01)


def test_nothing_is_estimated_while_no_limit_is_known():
    assert pacer_with().expect(SONNET, 300, 64_000) == Expected(0.0, 0.0)


def test_the_first_estimate_of_output_is_modest():
    pacer = pacer_with(requests=60)
    assert pacer.expect(SONNET, 300, 64_000).output_tokens == 300
    assert pacer.expect(SONNET, 300, 10).output_tokens == 10
    assert pacer.expect(SONNET, 300, None).output_tokens == 300


def test_demand_is_all_while_something_waits_and_falls_when_nothing_does():
    pacer = pacer_with(requests=60)
    send_all(pacer, USUAL, 10.0)
    assert pacer.demands(10.0) == {SONNET: 1.0}
    assert pacer.demands(30.0)[SONNET] < 0.1


def test_demand_is_a_part_of_what_the_user_shares_out():
    """Else who needs little gets less than that, while somebody else is hungry."""
    pacer = pacer_with(requests=600, share=0.5)
    pacer.demands(0.0)
    for moment in range(60):
        pacer.sent(SONNET, USUAL, float(moment))  # a tenth of the limit, a fifth of the half
    assert pacer.demands(60.0)[SONNET] == pytest.approx(0.2 * 1.25, rel=0.02)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("claude-opus-4-5-20251101", "opus-4"),
        ("anthropic/claude-opus-4.8", "opus-4"),
        ("claude-sonnet-4-6", "sonnet-4"),
        ("claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("claude-sonnet-5", "claude-sonnet-5"),
        ("claude-haiku-4-5@20251001", "claude-haiku-4-5"),
        ("llama-3", "llama-3"),
    ],
)
def test_models_of_one_class_share_a_quota(model, name):
    assert model_class(model) == name


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((0, None, None, None), "rpm is 0; it must be at least 1"),
        ((None, -5, None, None), "itpm is -5"),
        ((None, None, 0, None), "otpm is 0"),
        ((None, None, None, 0.0), "quota_share is 0"),
        ((None, None, None, 1.5), "quota_share is 1.5"),
        ((None, None, None, float("nan")), "quota_share is nan"),
    ],
)
def test_limits_that_cannot_be_are_refused(given, words):
    with pytest.raises(ConfigurationError, match=words):
        quota_limits(*given)


def test_the_oldest_in_flight_is_known_with_what_answers_usually_take():
    pacer = pacer_with()
    assert pacer.oldest(9.0) == (0.0, 0.0)
    slow = pacer.sent(SONNET, USUAL, 0.0)
    for n in range(40):
        quick = pacer.sent(SONNET, USUAL, 2.0 * n)
        pacer.settled(quick, USUAL, 2.0 * n + 3.0)
    age, usual = pacer.oldest(480.0)
    assert age == 480.0
    assert usual == pytest.approx(3.0, abs=0.5)
    pacer.settled(slow, None, 500.0)
    assert pacer.oldest(500.0)[0] == 0.0


def test_a_pace_that_was_learned_is_told_until_the_server_speaks_itself():
    pacer = pacer_with()
    assert pacer.learned_per_minute() == {}
    for n in range(100):
        pacer.settled(pacer.sent(SONNET, USUAL, n / 10), USUAL, n / 10)
    pacer.refused(pacer.sent(SONNET, USUAL, 10.0), ASKED, 10.0)
    (pace,) = pacer.learned_per_minute().values()
    assert pace == pytest.approx(600, rel=0.1)
    pacer.reading(SONNET, FULL, 30.0)
    assert pacer.learned_per_minute() == {}
