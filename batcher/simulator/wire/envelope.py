"""Error bodies as the API and the things in front of it write them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import msgspec

TYPE_OF_STATUS: Final[Mapping[int, str]] = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    409: "conflict_error",
    413: "request_too_large",
    429: "rate_limit_error",
    504: "timeout_error",
    529: "overloaded_error",
}


@dataclass(frozen=True, slots=True)
class RefusedRequest:
    """A request that is refused: HTTP status, message, machine code and extra headers."""

    status: int
    message: str
    code: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


def anthropic(problem: RefusedRequest, request_id: str) -> bytes:
    """The first party's envelope."""
    details = {"error_code": problem.code} if problem.code else None
    kind = TYPE_OF_STATUS.get(
        problem.status, "api_error" if problem.status >= 500 else "invalid_request_error"
    )
    error = {"details": details, "type": kind, "message": problem.message}
    return msgspec.json.encode({"type": "error", "error": error, "request_id": request_id})


def openai(message: str, code: str) -> bytes:
    """What resellers answer for their own refusals."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return msgspec.json.encode({"error": error})


def fastapi(message: str) -> bytes:
    """What a server built on FastAPI answers to a body it cannot validate."""
    detail = {"type": "missing", "loc": ["body", "max_tokens"], "msg": message}
    return msgspec.json.encode({"detail": [detail]})


def html(title: str) -> bytes:
    """A page of a proxy or a content delivery network."""
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n<hr><center>simulator</center>\r\n"
        "</body>\r\n</html>\r\n"
    ).encode()
