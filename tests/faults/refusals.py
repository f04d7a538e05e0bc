"""Faults that come as an HTTP status."""

import json

from tests.faults.kinds import (
    FINE,
    IN_DOUBT,
    MISCONFIGURED,
    NO_ACCESS,
    NOT_RETRIED,
    PAUSED,
    REFUSED,
    RETRIED,
    UNUSABLE,
    Bytes,
    Follows,
    Order,
    Stage,
    WireFault,
    maybe_billed,
)
from tests.making_runs import message
from tests.transport.servers import http

_HTML = b"<html><head><title>No</title></head><body>gateway</body></html>"


def envelope(kind: str, code: str | None = None, text: str = "on purpose") -> bytes:
    error = {"type": kind, "message": text} | (
        {"details": {"error_code": code}} if code else {}
    )
    return json.dumps({"type": "error", "error": error, "request_id": "req_1"}).encode()


def _ordered(follows: Follows, *names: str, times: int | None = None) -> list[WireFault]:
    return [
        WireFault(
            id=f"simulator {name}",
            stage=Stage.STATUS,
            cause=Order(f"[[fault:{name}{{n}}]]"),
            follows=follows,
            times=times,
        )
        for name in names
    ]


def _status(
    id_: str,
    follows: Follows,
    answer: bytes,
    times: int | None = None,
    reason: str | None = None,
) -> WireFault:
    return WireFault(
        id=id_,
        stage=Stage.STATUS,
        cause=Bytes(answer),
        follows=follows,
        times=times,
        reason=reason,
    )


def _json(id_: str, follows: Follows, status: int, body: bytes, *headers: str) -> WireFault:
    times = 2 if follows is PAUSED else None
    return _status(id_, follows, http(status, body, *headers), times)


def _inside(id_: str, follows: Follows, kind: str) -> WireFault:
    """The work had begun: nobody says what of it is billed."""
    times = 2 if follows is PAUSED else None
    return _status(f"200 {id_}", maybe_billed(follows), http(200, envelope(kind)), times)


_NEVER = "x-should-retry: false"
_AGAIN = "x-should-retry: true"
_ELSEWHERE = "location: http://127.0.0.2:9/v1/messages"

REFUSALS = [
    *_ordered(REFUSED, "400", "413", "422"),
    *_ordered(maybe_billed(REFUSED), "500_no_retry", "501"),
    *_ordered(NO_ACCESS, "400_spend", "400_on_hold", "401", "402", "403", "429_spend"),
    *_ordered(MISCONFIGURED, "404", "model_not_found", "redirect"),
    *_ordered(RETRIED, "409"),
    *_ordered(maybe_billed(RETRIED), "408", "500", "503", "504", "200_error"),
    *_ordered(PAUSED, "429", "429_date", "429_ms", "429_no_header", "429_ramp", times=2),
    *_ordered(PAUSED, "529", "529_retry_after", times=2),
    *_ordered(IN_DOUBT, "500_html", "502_html"),
    # Codes that mean more than their status
    _json("400 cmek_key_disabled", NO_ACCESS, 400, envelope("x", "cmek_key_disabled")),
    _json("400 cmek blocked", NO_ACCESS, 400, envelope("x", "cmek_key_network_blocked")),
    _json("400 request_body_timeout", RETRIED, 400, envelope("x", "request_body_timeout")),
    _json("404 file_expired", REFUSED, 404, envelope("not_found_error", "file_expired")),
    _json("429 contract", NO_ACCESS, 429, envelope("x", "contract_spend_limit_reached")),
    _json("429 insufficient_quota", NO_ACCESS, 429, b'{"error":{"code":"insufficient_quota"}}'),
    _json("400 invalid_api_key", NO_ACCESS, 400, b'{"error":{"code":"invalid_api_key"}}'),
    # Statuses of servers and gateways that are not the provider's
    _json("407 proxy", REFUSED, 407, _HTML),
    _json("411 length required", REFUSED, 411, _HTML),
    _json("413 JSON", REFUSED, 413, envelope("request_too_large")),
    _json("418 unknown 4xx", REFUSED, 418, b""),
    _json("424 failed dependency", REFUSED, 424, envelope("api_error")),
    _json("431 headers too large", REFUSED, 431, b""),
    _json("499 closed", REFUSED, 499, b""),
    _json("505 version", IN_DOUBT, 505, _HTML),
    _json("500 empty", IN_DOUBT, 500, b""),
    _json("503 text", IN_DOUBT, 503, b"upstream connect error"),
    _json("503 detail", maybe_billed(RETRIED), 503, b'{"detail":"no worker"}'),
    _json("504 cut JSON", IN_DOUBT, 504, b'{"error":{"type":"api_'),
    _json("520 gateway", IN_DOUBT, 520, _HTML),
    _json("522 gateway", IN_DOUBT, 522, _HTML),
    _json("524 gateway", IN_DOUBT, 524, _HTML),
    _json("529 HTML", PAUSED, 529, _HTML),
    _json("429 HTML", PAUSED, 429, _HTML, "retry-after: 1"),
    _json("429 absurd wait", PAUSED, 429, b"", "retry-after: -5"),
    _json("429 wait in words", PAUSED, 429, b"", "retry-after: soon"),
    # The server's wish
    _json("500 HTML, never again", NOT_RETRIED, 500, _HTML, _NEVER),
    _json("503 never again", maybe_billed(REFUSED), 503, envelope("api_error"), _NEVER),
    _json("400 again", RETRIED, 400, envelope("invalid_request_error"), _AGAIN),
    _json("401 again", NO_ACCESS, 401, envelope("authentication_error"), _AGAIN),
    _json("429 never again", PAUSED, 429, envelope("rate_limit_error"), _NEVER),
    # Redirects are never followed
    *(
        _json(f"{status} elsewhere", MISCONFIGURED, status, b"", _ELSEWHERE)
        for status in (301, 302, 303, 307, 308)
    ),
    _json("304", MISCONFIGURED, 304, b""),
    _json("300 without a place", MISCONFIGURED, 300, b""),
    # Successes that are none
    _json("202", UNUSABLE, 202, b"{}"),
    _json("204", UNUSABLE, 204, b""),
    _json("206", UNUSABLE, 206, message()),
    # Answers before the answer
    _status(
        "100 a thousand times",
        FINE,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 1000 + http(200, message()),
    ),
    _status(
        "103 early hints", FINE, b"HTTP/1.1 103 X\r\nlink: </x>\r\n\r\n" + http(200, message())
    ),
    # Errors inside HTTP 200
    _inside("invalid_request_error", REFUSED, "invalid_request_error"),
    _inside("authentication_error", NO_ACCESS, "authentication_error"),
    _inside("billing_error", NO_ACCESS, "billing_error"),
    _inside("permission_error", NO_ACCESS, "permission_error"),
    _inside("not_found_error", MISCONFIGURED, "not_found_error"),
    _inside("conflict_error", RETRIED, "conflict_error"),
    _inside("request_too_large", REFUSED, "request_too_large"),
    _inside("rate_limit_error", PAUSED, "rate_limit_error"),
    _inside("api_error", RETRIED, "api_error"),
    _inside("timeout_error", RETRIED, "timeout_error"),
    _inside("overloaded_error", PAUSED, "overloaded_error"),
    _inside("an error of the future", RETRIED, "future_error"),
]
