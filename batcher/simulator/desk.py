"""Decides what each Messages request gets, and puts it on the bill; knows no sockets.

The quotas that it keeps to are token buckets with continuous refill, in exact integers.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any, Final

import msgspec

from batcher.simulator.answers.models import quota_group
from batcher.simulator.answers.plan import Plan, make_plan, message_object
from batcher.simulator.answers.usage import PromptCache, prompt_tokens
from batcher.simulator.bill import Bill, BilledRequest, Stats, billed_fields
from batcher.simulator.settings import SimulatorSettings
from batcher.simulator.wire.checks import VERSIONS
from batcher.simulator.wire.faults import FAULTS, Fault, FaultPicker, Manner
from batcher.simulator.wire.forms import ORDINARY, RefusedRequest, StreamForm
from batcher.simulator.wire.requests import DIALECTS, Body, read_body

# Levels are counted in tokens x 60e9, so that a refill of `per_minute x nanoseconds` is exact.
_SCALE: Final = 60_000_000_000


class Bucket:
    """One quota: refills continuously up to `burst_seconds` of it, may go below zero."""

    def __init__(self, per_minute: int, burst_seconds: float, now_ns: int) -> None:
        self.per_minute = per_minute
        self._capacity = max(int(burst_seconds * 1e9) * per_minute, _SCALE)
        self._level = self._capacity
        self._at_ns = now_ns

    def wait_ns(self, amount: int, now_ns: int) -> int:
        """Nanoseconds until `amount` would be let in, 0 for now.

        More than the bucket holds is let in when the bucket is full.
        """
        self._refill(now_ns)
        missing = min(amount * _SCALE, self._capacity) - self._level
        return max(-(-missing // self.per_minute), 0)

    def take(self, amount: int, now_ns: int) -> None:
        """Lower the level by `amount`, below zero if need be."""
        self._refill(now_ns)
        self._level -= amount * _SCALE

    def remaining(self, now_ns: int) -> int:
        """Whole tokens left, never negative."""
        self._refill(now_ns)
        return max(self._level // _SCALE, 0)

    def full_at_ns(self, now_ns: int) -> int:
        """When the bucket will be full if nothing more is taken."""
        self._refill(now_ns)
        return now_ns + -(-(self._capacity - self._level) // self.per_minute)

    def _refill(self, now_ns: int) -> None:
        elapsed = max(now_ns - self._at_ns, 0)
        self._at_ns += elapsed
        self._level = min(self._level + elapsed * self.per_minute, self._capacity)


class Quota:
    """The three limits of one model class; a limit of `None` does not exist."""

    def __init__(
        self,
        limits: tuple[int | None, int | None, int | None],
        burst_seconds: float,
        now_ns: int,
    ) -> None:
        names = ("requests", "input-tokens", "output-tokens")
        self._buckets = {
            name: Bucket(limit, burst_seconds, now_ns)
            for name, limit in zip(names, limits, strict=True)
            if limit is not None
        }

    def admit(self, input_tokens: int, now_ns: int) -> int:
        """Take one request and its input, or return the nanoseconds to wait and take nothing.

        `input_tokens` counts without cache reads. Output is not reserved: a request is let in
        while the output bucket is above zero.
        """
        wanted = {"requests": 1, "input-tokens": input_tokens, "output-tokens": 1}
        wait = max(
            (bucket.wait_ns(wanted[name], now_ns) for name, bucket in self._buckets.items()),
            default=0,
        )
        if wait == 0:
            for name, bucket in self._buckets.items():
                bucket.take(wanted[name] if name != "output-tokens" else 0, now_ns)
        return wait

    def produced(self, output_tokens: int, now_ns: int) -> None:
        """Debit output as it leaves."""
        bucket = self._buckets.get("output-tokens")
        if bucket is not None:
            bucket.take(output_tokens, now_ns)

    def headers(self, now_ns: int) -> dict[str, str]:
        """The `anthropic-ratelimit-*` headers; tokens rounded to thousands as the API does."""
        headers: dict[str, str] = {}
        for name, bucket in self._buckets.items():
            remaining = bucket.remaining(now_ns)
            if name != "requests":
                remaining = (remaining + 500) // 1000 * 1000
            _describe(headers, name, bucket.per_minute, remaining, bucket.full_at_ns(now_ns))
        tokens = [bucket for name, bucket in self._buckets.items() if name != "requests"]
        if tokens:
            left = sum(bucket.remaining(now_ns) for bucket in tokens)
            limit = sum(bucket.per_minute for bucket in tokens)
            full_at_ns = max(bucket.full_at_ns(now_ns) for bucket in tokens)
            _describe(headers, "tokens", limit, (left + 500) // 1000 * 1000, full_at_ns)
        return headers


def _describe(
    headers: dict[str, str], name: str, limit: int, remaining: int, full_at_ns: int
) -> None:
    prefix = f"anthropic-ratelimit-{name}"
    moment = datetime.fromtimestamp(-(-full_at_ns // 1_000_000_000), tz=UTC)
    headers[f"{prefix}-limit"] = str(limit)
    headers[f"{prefix}-remaining"] = str(remaining)
    headers[f"{prefix}-reset"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")


MAX_BODY_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedReply:
    """What is to leave, and how.

    `message` is the answer when it is to be streamed, in the given `form`; `None` when
    `payload` is all there is.
    `quota` is charged `output_tokens` while they leave. `begun` is called when it begins.
    """

    status: int
    payload: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"
    manner: Manner = "answer"
    latency_seconds: float = 0
    message: dict[str, Any] | None = None
    form: StreamForm = ORDINARY
    quota: Quota | None = None
    output_tokens: int = 0
    begun: Callable[[], None] = lambda: None

    @property
    def is_answered(self) -> bool:
        """Whether a status line is sent at all."""
        return self.manner not in ("hang", "close", "reset_before")


class Desk:
    """The Messages API without its network."""

    def __init__(
        self,
        settings: SimulatorSettings,
        bill: Bill,
        stats: Stats,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._now_ns = now_ns
        self._cache = PromptCache()
        self._settings = settings
        self._bill = bill
        self._stats = stats
        self._picker = FaultPicker(settings.seed, settings.faults)
        self._quotas: dict[str, Quota] = {}
        self.dialect = DIALECTS[settings.dialect]
        self._limits = (
            settings.requests_per_minute,
            settings.input_tokens_per_minute,
            settings.output_tokens_per_minute,
        )

    def check_access(self, headers: Mapping[str, str]) -> RefusedRequest | None:
        """What is wrong with the key or the version, `None` for nothing."""
        key = self.dialect.key_of(headers)
        expected = self._settings.expected_key
        if not key or key == "wrong-key" or (expected is not None and key != expected):
            return RefusedRequest(
                401, "invalid x-api-key" if key else "x-api-key header is required"
            )
        version = headers.get("anthropic-version")
        if self.dialect.is_lenient:
            return None
        if version is None and self._settings.version_required:
            return RefusedRequest(400, "anthropic-version: header is required")
        if version is not None and version not in VERSIONS:
            return RefusedRequest(400, f'anthropic-version: "{version}" is not a valid version')
        return None

    def decide(self, headers: Mapping[str, str], raw: bytes, request_id: str) -> PlannedReply:
        """The fate of one `POST /v1/messages`; when it is billed, the line is written."""
        problem = self.check_access(headers)
        if problem is not None:
            return self.refuse(problem, request_id)
        if len(raw) > MAX_BODY_BYTES:
            return self.refuse(
                RefusedRequest(413, "Request exceeds the maximum size"), request_id
            )
        version = headers.get("anthropic-version")
        body = read_body(raw, self._settings.seed, version, self.dialect, for_count=False)
        if isinstance(body, RefusedRequest):
            return self.refuse(body, request_id)
        return self._decide(headers, raw, body, request_id)

    def count_tokens(
        self, headers: Mapping[str, str], raw: bytes, request_id: str
    ) -> PlannedReply:
        """The answer of `POST /v1/messages/count_tokens`; never billed."""
        problem = self.check_access(headers)
        version = headers.get("anthropic-version")
        body = problem or read_body(
            raw, self._settings.seed, version, self.dialect, for_count=True
        )
        if isinstance(body, RefusedRequest):
            return self.refuse(body, request_id)
        count = {"input_tokens": prompt_tokens(body)}
        return PlannedReply(status=200, payload=msgspec.json.encode(count))

    def _decide(
        self, headers: Mapping[str, str], raw: bytes, body: Body, request_id: str
    ) -> PlannedReply:
        now_ns = self._now_ns()
        name = self._picker.pick(body.digest, body.markers.faults)
        if name is not None:
            self._stats.faults[name] += 1
        fault = None if name is None else FAULTS[name]
        if fault is not None and not fault.billed:
            return self._fail(fault, body, request_id)
        use = self._cache.look(body, now_ns // 1000)
        plan = make_plan(body, use)
        quota = self._quota(body.model, now_ns)
        wait_ns = quota.admit(plan.meters.rate_limited_input, now_ns) if quota else 0
        if quota and wait_ns:
            return self._limited(quota, wait_ns, now_ns, request_id)
        self._stats.billed += 1
        self._bill.add(
            BilledRequest(
                attempt_uid=headers.get("x-client-request-id"),
                body_sha256=sha256(raw).hexdigest(),
                received_at_us=now_ns // 1000,
                **billed_fields(body, plan, request_id, name),
            )
        )
        reply = self._answer(fault, body, plan, quota, request_id)
        if not use.breakpoints:
            return reply

        def begun() -> None:
            self._cache.keep(use, now_ns // 1000, self._now_ns() // 1000)

        return replace(reply, begun=begun)

    def _answer(
        self, fault: Fault | None, body: Body, plan: Plan, quota: Quota | None, request_id: str
    ) -> PlannedReply:
        if fault is not None and fault.manner == "answer":
            return self._fail(fault, body, request_id)
        usage = body.markers.usage or self.dialect.usage
        message = message_object(plan, request_id.replace("req_", "msg_"), usage)
        form = body.markers.stream
        streams = body.streams and "json" not in form.switches
        return PlannedReply(
            status=200,
            payload=b"" if streams else msgspec.json.encode(message),
            manner="answer" if fault is None else fault.manner,
            latency_seconds=self._latency_seconds(body),
            message=message if streams else None,
            form=form,
            quota=quota,
            output_tokens=plan.meters.output,
        )

    def _fail(self, fault: Fault, body: Body, request_id: str) -> PlannedReply:
        as_event = fault.as_event and body.streams
        page = fault.page(request_id)
        return PlannedReply(
            status=fault.status,
            payload=b"event: error\ndata: %b\n\n" % page if as_event else page,
            headers={**fault.headers, **self._patience(fault)},
            content_type="text/event-stream" if as_event else fault.content_type,
            latency_seconds=self._latency_seconds(body),
        )

    def _patience(self, fault: Fault) -> dict[str, str]:
        seconds = self._settings.retry_after_seconds
        match fault.wait:
            case "seconds":
                return {"retry-after": str(seconds)}
            case "milliseconds":
                return {"retry-after-ms": str(seconds * 250)}
            case "date":
                moment = datetime.now(tz=UTC) + timedelta(seconds=seconds)
                return {"retry-after": format_datetime(moment, usegmt=True)}
            case None:
                return {}

    def _latency_seconds(self, body: Body) -> float:
        if body.markers.latency_ms is not None:
            return body.markers.latency_ms / 1000
        shortest, longest = self._settings.latency_ms
        return (shortest + (longest - shortest) * body.draw(5, 1 << 16) / (1 << 16)) / 1000

    def refuse(self, problem: RefusedRequest, request_id: str) -> PlannedReply:
        """An answer with the error envelope of the server that is played."""
        return PlannedReply(
            status=problem.status,
            payload=self.dialect.error(problem, request_id),
            headers=problem.headers,
        )

    def _limited(
        self, quota: Quota, wait_ns: int, now_ns: int, request_id: str
    ) -> PlannedReply:
        status, headers = self.dialect.limited_status, quota.headers(now_ns)
        if status == 429:
            headers = {"retry-after": str(-(-wait_ns // 1_000_000_000)), **headers}
        text = "This request would exceed your organization's rate limit."
        return self.refuse(RefusedRequest(status, text, headers=headers), request_id)

    def _quota(self, model: str, now_ns: int) -> Quota | None:
        if self._limits == (None, None, None):
            return None
        group = quota_group(model)
        if group not in self._quotas:
            self._quotas[group] = Quota(self._limits, self._settings.burst_seconds, now_ns)
        return self._quotas[group]
