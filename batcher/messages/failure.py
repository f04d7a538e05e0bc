"""From an error answer to what it means for the row, the quota and the run."""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum
from typing import Any, Final

import msgspec

from batcher.messages.codec import CODEC_ERRORS, MOST_PARTS_OF_EVENT, has_more_parts


class Verdict(StrEnum):
    """What a failure asks for next."""

    RETRY_ROW = "retry row"  # transient; uses up one of the row's attempts
    FAIL_ROW = "fail row"  # permanent, the row's own fault
    PAUSE_QUOTA = (
        "pause quota"  # 429: everybody who shares the quota waits; attempts are not used up
    )
    OVERLOADED = "overloaded"  # 529: back off; attempts are not used up
    STOP_ACCESS = "stop run: access"  # key, billing or spend limit: exit 77
    STOP_CONFIGURATION = "stop run: configuration"  # unknown model or path: exit 78

    @property
    def stops_run(self) -> bool:
        """Whether no further row can succeed."""
        return self in {Verdict.STOP_ACCESS, Verdict.STOP_CONFIGURATION}


class FailureKind(StrEnum):
    """Why a row is not going to be answered by itself."""

    QUARANTINED = "quarantined"  # refused before sending
    FAILED = "failed"  # given up after sending
    HELD = "held"  # waits for a person


class Failure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Why an attempt did not end in an answer.

    `error_type` and `error_code` are the server's words, or ours in snake_case where no answer
    came (`timeout`, `connection_lost`, …). `retry_after_seconds` is what the server asked for.
    """

    verdict: Verdict
    error_type: str
    message: str
    error_code: str | None = None
    retry_after_seconds: float | None = None


# One row per case: (HTTP status, machine code or None for any) -> verdict. A machine code is
# `details.error_code`, or OpenAI-style `error.code`. The more specific row wins, then the
# status, then `_by_family`. Source: docs/development/messages-api.md#error-codes.
VERDICTS: Final[Mapping[tuple[int | None, str | None], Verdict]] = {
    (400, None): Verdict.FAIL_ROW,
    (400, "organization_on_hold"): Verdict.STOP_ACCESS,
    (400, "cmek_key_disabled"): Verdict.STOP_ACCESS,
    (400, "cmek_key_network_blocked"): Verdict.STOP_ACCESS,
    (400, "request_body_timeout"): Verdict.RETRY_ROW,
    (401, None): Verdict.STOP_ACCESS,
    (402, None): Verdict.STOP_ACCESS,
    (403, None): Verdict.STOP_ACCESS,
    (404, None): Verdict.STOP_CONFIGURATION,
    (404, "file_expired"): Verdict.FAIL_ROW,
    (408, None): Verdict.RETRY_ROW,
    (409, None): Verdict.RETRY_ROW,
    (413, None): Verdict.FAIL_ROW,
    (422, None): Verdict.FAIL_ROW,
    (429, None): Verdict.PAUSE_QUOTA,
    (429, "enforced_spend_limit_reached"): Verdict.STOP_ACCESS,
    (429, "contract_spend_limit_reached"): Verdict.STOP_ACCESS,
    (429, "insufficient_quota"): Verdict.STOP_ACCESS,
    (501, None): Verdict.FAIL_ROW,
    (529, None): Verdict.OVERLOADED,
    (None, "model_not_found"): Verdict.STOP_CONFIGURATION,
    (None, "invalid_api_key"): Verdict.STOP_ACCESS,
}

# HTTP 200 with an error inside, and `event: error`: the type stands in for the status.
STATUS_OF_TYPE: Final[Mapping[str, int]] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "conflict_error": 409,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}

_SPEND_LIMIT_WORDS: Final = "specified api usage limits"
_MESSAGE_LENGTH: Final = 2_000
_MOST_SECONDS: Final = 1e7  # of a wait


def classify(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    now_us: int,
    overrides: Mapping[int, Verdict],
) -> Failure:
    """What an error answer means; `overrides` are the endpoint's own verdicts by status.

    Understands the Anthropic envelope, OpenAI-style and FastAPI bodies, HTML and nothing at
    all. `x-should-retry` wins over every rule but those that stop the run.
    """
    error_type, code, message = _read_error(body, status)
    verdict = _verdict(status, code, message, overrides)
    asked = headers.get("x-should-retry", "").lower()
    if asked == "false" and verdict is Verdict.RETRY_ROW:
        verdict = Verdict.FAIL_ROW
    elif asked == "true" and verdict is Verdict.FAIL_ROW:
        verdict = Verdict.RETRY_ROW
    return Failure(
        verdict=verdict,
        error_type=error_type,
        error_code=code,
        message=message,
        retry_after_seconds=retry_after_seconds(headers, now_us),
    )


def has_readable_error(body: bytes) -> bool:
    """Whether a 5xx body says in JSON what went wrong, so that the server surely refused."""
    fields = _json(body)
    return isinstance(fields, dict) and any(
        fields.get(name) for name in ("error", "detail", "message", "Message")
    )


def retry_after_seconds(headers: Mapping[str, str], now_us: int) -> float | None:
    """The wait asked for: `retry-after-ms`, else `retry-after` as a number or HTTP date.

    `None` for what is neither, or further away than 115 days: no server means that. A date
    counts from the server's own, since our clock may be wrong.
    """
    milliseconds = _number(headers.get("retry-after-ms"), _MOST_SECONDS * 1000)
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    moment = _moment(value)
    if moment is None:
        return None
    now = _moment(headers.get("date")) or datetime.fromtimestamp(now_us / 1e6, tz=UTC)
    asked = max((moment - now).total_seconds(), 0)
    return asked if asked < _MOST_SECONDS else None


def _moment(value: str | None) -> datetime | None:
    """An HTTP date; `None` for what is none."""
    try:
        moment = parsedate_to_datetime(value) if value else None
    except (ValueError, OverflowError):
        return None
    return moment.replace(tzinfo=UTC) if moment and not moment.tzinfo else moment


def _verdict(
    status: int, code: str | None, message: str, overrides: Mapping[int, Verdict]
) -> Verdict:
    for key in ((status, code), (None, code)):
        if code and key in VERDICTS:
            return VERDICTS[key]
    if status == 400 and _SPEND_LIMIT_WORDS in message.lower():
        return Verdict.STOP_ACCESS  # a limit the user set: no code, only words
    return overrides.get(status) or VERDICTS.get((status, None)) or _by_family(status)


def _by_family(status: int) -> Verdict:
    if 300 <= status < 400:
        return Verdict.STOP_CONFIGURATION  # a redirect is never followed with a key or a prompt
    return Verdict.RETRY_ROW if status >= 500 or status < 300 else Verdict.FAIL_ROW


def _read_error(body: bytes, status: int) -> tuple[str, str | None, str]:
    fields = _json(body)
    if not isinstance(fields, dict):
        text = body[:_MESSAGE_LENGTH].decode("utf-8", "replace").strip()
        return f"http_{status}", None, _clean(text) or f"HTTP {status} without a body"
    error = fields.get("error")
    if isinstance(error, dict):
        return _read_envelope(error, status)
    message = error or fields.get("detail") or fields.get("message") or fields.get("Message")
    return f"http_{status}", None, _clean(_words(message) or f"HTTP {status}")


def _read_envelope(error: dict[str, Any], status: int) -> tuple[str, str | None, str]:
    details = error.get("details")
    code = details.get("error_code") if isinstance(details, dict) else None
    code = code or error.get("code")
    return (
        _clean(str(error.get("type") or f"http_{status}"))[:100],
        _clean(code)[:100] if isinstance(code, str) else None,
        _clean(_words(error.get("message")) or f"HTTP {status}"),
    )


def _words(value: object) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()


def _clean(text: str) -> str:
    return text.replace("\0", "\ufffd")[:_MESSAGE_LENGTH]


def _json(body: bytes) -> object:
    if has_more_parts(body, MOST_PARTS_OF_EVENT):
        return None
    try:
        return msgspec.json.decode(body)
    except CODEC_ERRORS:
        return None


def _number(value: str | None, below: float = _MOST_SECONDS) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    return number if number is not None and 0 <= number < below else None
