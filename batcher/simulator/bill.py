"""The simulator's own account: what it has seen so far, and what it would charge for."""

import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from batcher.simulator.answers.plan import Plan
from batcher.simulator.wire.body import Body


class BilledRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One accepted request.

    `attempt_uid` is the client's `x-client-request-id`, `custom` a `[[custom:...]]` marker or
    the body's `metadata.user_id`. `billed` is false for a refusal before any output: it costs
    nothing although it has tokens. `fault` names what kept the answer from arriving whole.
    A line of `service_tier` "batch" is charged at half the price; its `attempt_uid` is the
    custom_id of the request.
    """

    attempt_uid: str | None
    request_id: str
    model: str
    input_tokens: int
    cache_creation_5m: int
    cache_creation_1h: int
    cache_read: int
    output_tokens: int
    web_search_requests: int
    stop_reason: str | None
    billed: bool
    inference_geo: str
    speed: str
    body_sha256: str
    custom: str | None
    fault: str | None
    received_at_us: int
    service_tier: str = "standard"


def billed_fields(body: Body, plan: Plan, request_id: str, fault: str | None) -> dict[str, Any]:
    """What a line of the bill says of the answer; `fault` kept it from arriving whole."""
    meters = plan.meters
    metadata = body.fields.get("metadata") or {}
    return {
        "request_id": request_id,
        "model": plan.model,
        "input_tokens": meters.input,
        "cache_creation_5m": meters.write_5m,
        "cache_creation_1h": meters.write_1h,
        "cache_read": meters.read,
        "output_tokens": meters.output,
        "web_search_requests": meters.web_searches,
        "stop_reason": plan.stop_reason,
        "billed": plan.is_charged,
        "inference_geo": meters.inference_geo,
        "speed": meters.speed,
        "custom": body.markers.custom or metadata.get("user_id"),
        "fault": fault,
    }


_ENCODER = msgspec.json.Encoder()


class Bill:
    """An append-only list of lines: in a file, so that it survives any crash, or in memory."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._file = (
            None
            if path is None
            else os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        )

    def add(self, line: BilledRequest) -> None:
        """Keep the line; when this returns the kernel has it."""
        text = _ENCODER.encode(line) + b"\n"
        if self._file is None:
            self._lines.append(text)
        else:
            os.write(self._file, text)

    def text(self) -> bytes:
        """All lines as JSONL, those of earlier processes with the same file too."""
        return self._path.read_bytes() if self._path else b"".join(self._lines)

    def lines(self) -> list[BilledRequest]:
        """All lines, oldest first."""
        return msgspec.json.decode(
            b"[" + b",".join(self.text().splitlines()) + b"]", type=list[BilledRequest]
        )

    def close(self) -> None:
        """Give the file back; lines can still be read."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


@dataclass(slots=True)
class Stats:
    """Counts of Messages requests since the start; `by_status` has those that were answered."""

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    billed: int = 0
    redirects_followed: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """A Messages request came in."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def end(self) -> None:
        """It was answered, broken off or given up by its client."""
        self.in_flight -= 1

    def as_object(self) -> dict[str, Any]:
        """The JSON of `GET /_simulator/stats`."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "billed": self.billed,
            "redirects_followed": self.redirects_followed,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "faults": dict(sorted(self.faults.items())),
        }
