"""From an HTTP answer to an outcome."""

import json
from base64 import b64encode
from collections.abc import Callable

import pytest

from batcher.messages.failure import Verdict
from batcher.messages.request import (
    Answered,
    NotSent,
    Rejected,
    Unknown,
    Unusable,
)
from tests.making_runs import message, simulating
from tests.simulator.asking import asynchronous, body_of
from tests.transport.servers import KEY, free_port, http, raw_server, reset, send


async def outcome_of(answer, **fields):
    async with raw_server(answer) as raw:
        return await send(raw.url, **fields)


def error(kind: str) -> bytes:
    return json.dumps({"type": "error", "error": {"type": kind, "message": "no"}}).encode()


@asynchronous
async def test_a_message_is_an_answer_with_its_request_id_and_times():
    answer = http(200, message("hi"), "request-id: req_1", "x-litellm-response-cost: 0.0001")
    outcome = await outcome_of(answer)
    assert isinstance(outcome, Answered)
    assert (outcome.answer.text, outcome.exchange.provider_request_id) == ("hi", "req_1")
    assert outcome.exchange.reported_cost == "0.0001"
    assert outcome.exchange.sent_at <= outcome.exchange.settled_at


@asynchronous
async def test_the_workspace_that_is_billed_is_recorded_as_the_provider_names_it():
    for status, body in ((200, message()), (429, error("rate_limit_error"))):
        outcome = await outcome_of(http(status, body, "anthropic-workspace-id: wrkspc_1"))
        assert outcome.exchange.workspace_id == "wrkspc_1"
    assert (await outcome_of(http(200, message()))).exchange.workspace_id is None


@pytest.mark.parametrize("header", ["request-id", "x-request-id"])
@asynchronous
async def test_a_request_id_of_any_bytes_can_be_stored(header):
    outcome = await outcome_of(http(200, message(), f"{header}: \xff\xfe" + "x" * 500))
    stored = outcome.exchange.provider_request_id
    assert len(stored.encode()) <= 200
    assert isinstance(outcome, Answered)


RECORDED = {
    "request-id": "provider_request_id",
    "x-request-id": "provider_request_id",
    "anthropic-workspace-id": "workspace_id",
    "x-litellm-response-cost": "reported_cost",
}
SPELLED: dict[str, Callable[[str], str]] = {
    "plain": str,
    "upper": str.upper,
    "part": lambda key: key[-12:],
    "base64": lambda key: b64encode(key.encode()).decode(),
    "hex": lambda key: key.encode().hex(),
    "percent": lambda key: "".join(f"%{ord(c):02x}" for c in key),
    "cut": lambda key: "x" * 187 + key,  # 11 characters of it fit into what is recorded
}


@pytest.mark.parametrize("form", SPELLED)
@pytest.mark.parametrize("header", RECORDED)
@asynchronous
async def test_what_is_recorded_of_headers_loses_every_form_of_the_key(header, form):
    spelled = SPELLED[form](KEY)
    for status, body in ((200, message()), (429, error("rate_limit_error"))):
        outcome = await outcome_of(http(status, body, f"{header}: a {spelled}"))
        recorded = getattr(outcome.exchange, RECORDED[header])
        assert recorded.startswith("a ")
        assert "[key]" in recorded
        assert spelled[-11:] not in recorded


@pytest.mark.parametrize(
    ("status", "body", "verdict"),
    [
        (400, error("invalid_request_error"), Verdict.FAIL_ROW),
        (401, error("authentication_error"), Verdict.STOP_ACCESS),
        (413, b"<html>too large</html>", Verdict.FAIL_ROW),
        (429, error("rate_limit_error"), Verdict.PAUSE_QUOTA),
        (500, error("api_error"), Verdict.RETRY_ROW),
        (529, b"", Verdict.OVERLOADED),
        (307, b"", Verdict.STOP_CONFIGURATION),
        (200, error("overloaded_error"), Verdict.OVERLOADED),
        (200, error("invalid_request_error"), Verdict.FAIL_ROW),
        (200, error("authentication_error"), Verdict.STOP_ACCESS),
        (200, b'{"error":{"message":"boom"}}', Verdict.RETRY_ROW),
    ],
)
@asynchronous
async def test_a_readable_refusal_is_rejected_and_assumed_free(status, body, verdict):
    outcome = await outcome_of(http(status, body))
    assert isinstance(outcome, Rejected)
    assert (outcome.failure.verdict, outcome.exchange.http_status) == (verdict, status)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520])
@asynchronous
async def test_a_5xx_that_says_nothing_readable_may_have_been_billed(status):
    assert isinstance(await outcome_of(http(status, b"<html>Bad Gateway</html>")), Unknown)


@pytest.mark.parametrize(
    ("status", "body"),
    [(200, b"<html>"), (200, b""), (200, b"{}"), (202, message()), (204, b"")],
)
@asynchronous
async def test_a_success_that_is_no_message_is_unusable_with_its_bytes_kept(status, body):
    outcome = await outcome_of(http(status, body))
    assert isinstance(outcome, Unusable)
    assert outcome.body == body


@pytest.mark.parametrize(
    "answer", [b"", reset, b"\0\xff noise\0\r\n\r\n"], ids=["closed", "reset", "noise"]
)
@asynchronous
async def test_a_lost_answer_is_unknown_with_words_that_can_be_stored(answer):
    outcome = await outcome_of(answer)
    assert isinstance(outcome, Unknown)
    assert outcome.exchange.http_status is None
    assert "\0" not in outcome.failure.message
    assert outcome.failure.message.encode()


@asynchronous
async def test_an_unreachable_server_means_not_sent():
    outcome = await send(f"http://127.0.0.1:{free_port()}")
    assert isinstance(outcome, NotSent)
    assert outcome.failure.error_type == "unreachable"


@asynchronous
async def test_an_endpoints_own_meaning_of_a_status_counts():
    outcome = await outcome_of(http(403, b""), verdicts={403: Verdict.PAUSE_QUOTA})
    assert outcome.failure.verdict is Verdict.PAUSE_QUOTA


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ("reset_before", Unknown),
        ("reset_after_headers", Unknown),
        ("close", Unknown),
        ("hang", Unknown),
        ("200_cut", Unusable),
        ("200_empty", Unusable),
        ("200_html", Unusable),
        ("200_error", Rejected),
        ("502_html", Unknown),
        ("429_date", Rejected),
        ("model_not_found", Rejected),
        ("redirect", Rejected),
    ],
)
def test_every_way_of_the_simulator_to_fail_is_told_apart(fault, kind):
    @asynchronous
    async def ask():
        body = json.dumps(body_of(f"[[fault:{fault}]]")).encode()
        patience = {"request_timeout_seconds": 0.3} if fault == "hang" else {}
        assert isinstance(await send(simulator.base_url, body, **patience), kind)

    with simulating() as simulator:
        ask()
        assert simulator.stats.redirects_followed == 0
