"""What error answers mean."""

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.failure import (
    STATUS_OF_TYPE,
    VERDICTS,
    Failure,
    Verdict,
    classify,
    has_readable_error,
    retry_after_seconds,
)

NOW = datetime(2026, 11, 1, tzinfo=UTC)
NOW_US = int(NOW.timestamp()) * 1_000_000


def meaning(status: int, body: object = None, headers=None, overrides=None) -> Failure:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify(status, headers or {}, raw, NOW_US, overrides or {})


def envelope(kind: str = "api_error", code: str | None = None, message: str = "no") -> object:
    details = None if code is None else {"error_code": code}
    return {"type": "error", "error": {"type": kind, "message": message, "details": details}}


@pytest.mark.parametrize(("key", "verdict"), VERDICTS.items())
def test_every_row_of_the_table_is_what_the_envelope_gets(key, verdict):
    status, code = key
    assert meaning(status or 418, envelope(code=code)).verdict is verdict


@pytest.mark.parametrize(
    ("status", "code", "verdict"),
    [
        (429, "enforced_spend_limit_reached", Verdict.STOP_ACCESS),
        (429, "contract_spend_limit_reached", Verdict.STOP_ACCESS),
        (429, "ramp_limit_exceeded", Verdict.PAUSE_QUOTA),
        (400, "organization_on_hold", Verdict.STOP_ACCESS),
        (400, "cmek_key_disabled", Verdict.STOP_ACCESS),
        (400, "cmek_key_network_blocked", Verdict.STOP_ACCESS),
        (400, "image_dimensions_too_large", Verdict.FAIL_ROW),
        (400, "request_body_timeout", Verdict.RETRY_ROW),
        (400, "tool_name_conflict", Verdict.FAIL_ROW),
        (402, "linked_organization_spend_limit_reached", Verdict.STOP_ACCESS),
        (404, "file_expired", Verdict.FAIL_ROW),
        (503, "cmek_context_unavailable", Verdict.RETRY_ROW),
        (529, "compaction_unavailable", Verdict.OVERLOADED),
    ],
)
def test_machine_codes_mean_what_the_reference_says(status, code, verdict):
    failure = meaning(status, envelope(code=code))
    assert (failure.verdict, failure.error_code) == (verdict, code)


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (307, Verdict.STOP_CONFIGURATION),
        (405, Verdict.FAIL_ROW),
        (412, Verdict.FAIL_ROW),
        (499, Verdict.FAIL_ROW),
        (500, Verdict.RETRY_ROW),
        (502, Verdict.RETRY_ROW),
        (520, Verdict.RETRY_ROW),
        (526, Verdict.RETRY_ROW),
        (599, Verdict.RETRY_ROW),
    ],
)
def test_a_status_that_nobody_listed_goes_by_its_family(status, verdict):
    assert meaning(status, b"").verdict is verdict


def test_a_spend_limit_that_the_user_set_stops_the_run_though_it_is_only_words():
    message = "You have reached your specified API usage limits. Access returns on 2026-12-01."
    assert meaning(400, envelope(message=message)).verdict is Verdict.STOP_ACCESS


@pytest.mark.parametrize("status", [400, 404, 503])
def test_an_unknown_model_stops_the_run_at_any_status(status):
    body = {"error": {"message": "no such model", "type": "x", "code": "model_not_found"}}
    failure = meaning(status, body)
    assert (failure.verdict, failure.error_type) == (Verdict.STOP_CONFIGURATION, "x")


@pytest.mark.parametrize(
    ("body", "error_type", "message"),
    [
        (envelope("overloaded_error", message="Overloaded"), "overloaded_error", "Overloaded"),
        ({"error": {"message": "boom", "code": 503}}, "http_500", "boom"),
        (
            {"error": {"type": "BadRequestError", "message": None}},
            "BadRequestError",
            "HTTP 500",
        ),
        ({"error": "just words"}, "http_500", "just words"),
        ({"detail": "why"}, "http_500", "why"),
        (
            {"detail": [{"loc": ["body"], "msg": "Field required"}]},
            "http_500",
            '[{"loc":["body"],"msg":"Field required"}]',
        ),
        ({"message": "AWS says no"}, "http_500", "AWS says no"),
        ({"Message": "AWS says No"}, "http_500", "AWS says No"),
        ({}, "http_500", "HTTP 500"),
        (b"<html>502</html>", "http_500", "<html>502</html>"),
        (b"", "http_500", "HTTP 500 without a body"),
        (b"\xff\xfe", "http_500", "\ufffd\ufffd"),
    ],
)
def test_type_and_message_are_found_in_every_known_shape(body, error_type, message):
    failure = meaning(500, body)
    assert (failure.error_type, failure.message) == (error_type, message)


def test_long_and_unstorable_words_are_cut_and_cleaned():
    failure = meaning(500, envelope("t" * 500, "c\0" * 500, "m\0" * 5000))
    assert (len(failure.error_type), len(failure.error_code), len(failure.message)) == (
        100,
        100,
        2000,
    )
    assert "\0" not in failure.error_code + failure.message


@pytest.mark.parametrize("depth", [900, 100_000])
def test_a_deeply_nested_error_is_still_an_error(depth):
    nested = b"[" * depth + b"]" * depth
    for body in (
        b'{"detail":%b}' % nested,
        b'{"error":{"type":%b,"message":%b}}' % (nested, nested),
    ):
        assert meaning(400, body).verdict is Verdict.FAIL_ROW


def test_an_endpoint_can_give_a_status_its_own_meaning_but_not_a_code():
    overrides = {403: Verdict.PAUSE_QUOTA, 429: Verdict.OVERLOADED}
    assert meaning(403, b"", overrides=overrides).verdict is Verdict.PAUSE_QUOTA
    spent = envelope(code="enforced_spend_limit_reached")
    assert meaning(429, spent, overrides=overrides).verdict is Verdict.STOP_ACCESS


def test_should_retry_false_makes_a_transient_failure_final():
    assert meaning(500, b"", {"x-should-retry": "false"}).verdict is Verdict.FAIL_ROW


def test_should_retry_true_makes_a_final_failure_transient():
    assert meaning(400, b"", {"x-should-retry": "TRUE"}).verdict is Verdict.RETRY_ROW


@pytest.mark.parametrize("asked", ["true", "false"])
@pytest.mark.parametrize(
    ("status", "verdict"),
    [(401, Verdict.STOP_ACCESS), (404, Verdict.STOP_CONFIGURATION), (429, Verdict.PAUSE_QUOTA)],
)
def test_should_retry_neither_saves_a_run_nor_sends_against_a_quota(status, verdict, asked):
    assert meaning(status, b"", {"x-should-retry": asked}).verdict is verdict


@pytest.mark.parametrize("kind", STATUS_OF_TYPE)
def test_a_type_stands_for_the_status_it_comes_with(kind):
    assert STATUS_OF_TYPE[kind] in range(400, 600)


# --- retry-after


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "2"}, 2),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "1.5"}, 1.5),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9),
        ({"retry-after": format_datetime(NOW + timedelta(seconds=90), usegmt=True)}, 90),
        ({"retry-after": format_datetime(NOW - timedelta(days=1), usegmt=True)}, 0),
        ({"retry-after": "Sun, 01 Nov 2026 00:01:00 -0000"}, 60),
        ({"retry-after": "Sun, 01 Nov 2026 02:01:00 +0200"}, 60),
    ],
)
def test_the_wait_that_a_server_asks_for_is_found_in_every_form(headers, seconds):
    assert retry_after_seconds(headers, NOW_US) == seconds


@pytest.mark.parametrize(
    "value",
    ["", "soon", "-1", "nan", "inf", "1e400", "Sun, 31 Feb 2026 00:00:00 GMT",
     "Wed, 01 Jan 3000 00:00:00 GMT", "10000000",
     "Mon, 01 Jan 99999 00:00:00 GMT", "Mon, 01 Jan 2026 99999999999999999999:00:00 GMT"],
)  # fmt: skip
def test_a_wait_that_means_nothing_was_not_asked_for(value):
    assert retry_after_seconds({"retry-after": value}, NOW_US) is None


@given(st.text(st.characters(max_codepoint=0x17F), max_size=40))
def test_no_header_at_all_breaks_the_reading_of_a_wait(value):
    seconds = retry_after_seconds({"retry-after": value, "retry-after-ms": value}, NOW_US)
    assert seconds is None or seconds >= 0


@given(st.binary(max_size=80), st.integers(300, 599))
def test_any_error_body_has_a_verdict_and_storable_words(body, status):
    failure = meaning(status, body)
    assert failure.error_type
    assert "\0" not in failure.error_type + failure.message


@pytest.mark.parametrize(
    ("body", "readable"),
    [
        (b'{"error":{"message":"boom"}}', True),
        (b'{"detail":"x"}', True),
        (b'{"error":null}', False),
        (b"{}", False),
        (b"[1]", False),
        (b"<html>", False),
        (b"", False),
    ],
)
def test_a_readable_error_is_json_that_says_what_went_wrong(body, readable):
    assert has_readable_error(body) is readable


@pytest.mark.parametrize("years_off", [-30, 0, 30])
def test_a_date_to_come_back_counts_from_the_servers_own(years_off):
    headers = {
        "date": "Mon, 30 Nov 2026 10:00:00 GMT",
        "retry-after": "Mon, 30 Nov 2026 10:00:20 GMT",
    }
    now_us = (1_796_032_800 + years_off * 31_536_000) * 10**6
    assert retry_after_seconds(headers, now_us) == 20
