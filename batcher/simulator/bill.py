"""The simulator's own account: what it would charge for, and the provider's reports of it.

The shapes of the two reports, of usage and of costs, are those of the Admin API; the prices are
a list of the simulator's own, so that a ledger is held against a second opinion.
"""

import errno
import os
import re
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import msgspec

from batcher.simulator.answers.plan import Plan
from batcher.simulator.wire.forms import RefusedRequest
from batcher.simulator.wire.requests import Body


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
_FIRST: Final = b'{"attempt_uid":'


class Bill:
    """An append-only list of lines: in a file, so that it survives any crash, or in memory.

    Raises `OSError` for a file that cannot be written, or that holds something else.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._lines: list[bytes] = []
        self._file = None if path is None else _opened(path)

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


def _opened(path: Path) -> int:
    file = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    if stat.S_ISREG(os.fstat(file).st_mode) and os.pread(file, len(_FIRST), 0) not in (
        b"",
        _FIRST,
    ):
        os.close(file)
        raise FileExistsError(errno.EEXIST, "there already, and no bill", str(path))
    return file


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


PATH: Final = "/v1/organizations/"
_MOST_DAYS: Final = 31
_USUAL_DAYS: Final = 7
# USD per million tokens: input, 5-minute write, 1-hour write, read, output.
_PRICES: Final[Mapping[str, tuple[str, ...]]] = {
    "claude-fable-5-2": ("8", "10", "16", "0.2", "40"),
    "claude-fable-5-1": ("10", "12.5", "20", "0.25", "50"),
    "claude-fable-5": ("10", "12.5", "20", "1", "50"),
    "claude-opus-5-5": ("4", "5", "8", "0.2", "20"),
    "claude-sonnet-5-5": ("2", "2.5", "4", "0.1", "10"),
    "claude-sonnet-5": ("2", "2.5", "4", "0.2", "10"),
    "claude-haiku-5-5": ("0.1", "0.125", "0.2", "0.01", "0.5"),
    "claude-haiku-4-5": ("1", "1.25", "2", "0.1", "5"),
    "claude-opus": ("5", "6.25", "10", "0.5", "25"),
    "claude-sonnet": ("3", "3.75", "6", "0.3", "15"),
}
_OTHERS: Final = _PRICES["claude-sonnet"]  # models that are made up cost something, too
_LONG: Final = ("claude-haiku-5-5", 100_000, 5)  # beyond so many tokens all cost so much more
_PICO_PER_CENT: Final = 10**10  # a search costs a cent
_PICO_PER_MICRO: Final = 10**6
_SEARCHES: Final = ("web_search", None, None, None, None)
_TOKENS: Final = (
    "uncached_input_tokens", "cache_creation.ephemeral_5m_input_tokens",
    "cache_creation.ephemeral_1h_input_tokens", "cache_read_input_tokens", "output_tokens",
)  # fmt: skip
_DIMENSIONS: Final = ("model", "service_tier", "inference_geo", "workspace_id")
Fields = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Asked:
    first: date
    until: date
    limit: int
    groups: frozenset[str]


def report(
    name: str, query: Sequence[tuple[str, str]], lines: Iterable[BilledRequest], now_us: int
) -> Fields | RefusedRequest:
    """A page of the report of that name, or why there is none."""
    makers: dict[str, Callable[[list[BilledRequest], frozenset[str]], list[Fields]]] = {
        "usage_report/messages": _usage,
        "cost_report": _costs,
    }
    if name not in makers:
        return RefusedRequest(404, f"{PATH}{name} does not exist")
    try:
        asked = _asked(query, now_us)
    except ValueError as exc:
        return RefusedRequest(400, f"{exc}")
    by_day: dict[date, list[BilledRequest]] = {}
    for line in lines:
        by_day.setdefault(_moment(line.received_at_us).date(), []).append(line)
    end = min(asked.until, asked.first + timedelta(days=asked.limit))
    days = [asked.first + timedelta(days=n) for n in range(max((end - asked.first).days, 0))]
    more = end < asked.until
    return {
        "data": [_bucket(day, makers[name](by_day.get(day, []), asked.groups)) for day in days],
        "has_more": more,
        "next_page": f"page_{end.isoformat()}" if more else None,
    }


def _asked(query: Sequence[tuple[str, str]], now_us: int) -> _Asked:
    """What the parameters say; raises `ValueError` as the provider would refuse."""
    known = dict(query)
    if "starting_at" not in known:
        raise ValueError("starting_at: Field required")
    if known.get("bucket_width", "1d") != "1d":
        raise ValueError("bucket_width: this simulator has days only")
    limit = int(known.get("limit", _USUAL_DAYS))
    if not 1 <= limit <= _MOST_DAYS:
        raise ValueError(f"limit: range: 1..{_MOST_DAYS}")
    first = _day(known["starting_at"])
    page = known.get("page")
    until = _day(known["ending_at"]) if "ending_at" in known else _moment(now_us).date()
    groups = frozenset(value for each, value in query if each == "group_by[]")
    return _Asked(first if page is None else _day(page[5:]), until, limit, groups)


def _day(text: str) -> date:
    return datetime.fromisoformat(text).date()


def _moment(us: int) -> datetime:
    return datetime.fromtimestamp(us // 1_000_000, tz=UTC)


def _bucket(day: date, results: list[Fields]) -> Fields:
    return {
        "starting_at": f"{day}T00:00:00Z",
        "ending_at": f"{day + timedelta(days=1)}T00:00:00Z",
        "results": results,
    }


def _counts(line: BilledRequest) -> tuple[int, ...]:
    return (
        line.input_tokens, line.cache_creation_5m, line.cache_creation_1h, line.cache_read,
        line.output_tokens,
    )  # fmt: skip


def _named(line: BilledRequest) -> tuple[str, str, str]:
    return line.model, line.service_tier, line.inference_geo


def _usage(lines: list[BilledRequest], groups: frozenset[str]) -> list[Fields]:
    """One result for each of what is told apart; what is not billed was used all the same."""
    sums: dict[tuple[str | None, ...], list[int]] = {}
    for line in lines:
        told = zip(_DIMENSIONS, (*_named(line), None), strict=True)
        key = tuple(value if name in groups else None for name, value in told)
        counts = (*_counts(line), line.web_search_requests)
        before = sums.get(key, [0] * len(counts))
        sums[key] = [one + other for one, other in zip(before, counts, strict=True)]
    return [_usage_result(key, counts) for key, counts in sums.items()]


def _usage_result(key: tuple[str | None, ...], counts: Sequence[int]) -> Fields:
    plain, write_5m, write_1h, read, output, searches = counts
    return {
        "uncached_input_tokens": plain,
        "cache_creation": {
            "ephemeral_5m_input_tokens": write_5m, "ephemeral_1h_input_tokens": write_1h,
        },
        "cache_read_input_tokens": read,
        "output_tokens": output,
        "server_tool_use": {"web_search_requests": searches},
        **dict(zip(_DIMENSIONS, key, strict=True)),
        "api_key_id": None,
        "context_window": None,
    }  # fmt: skip


def _costs(lines: list[BilledRequest], groups: frozenset[str]) -> list[Fields]:
    """One result for each model, tier, place and kind of token, or one for all."""
    sums: dict[tuple[str | None, ...], int] = {}
    for line in filter(lambda line: line.billed, lines):
        kinds = [("tokens", kind, *_named(line)) for kind in _TOKENS]
        for key, pico in zip([*kinds, _SEARCHES], _pico_usd(line), strict=True):
            sums[key] = sums.get(key, 0) + pico
    if "description" not in groups:
        sums = {(None,) * len(_SEARCHES): sum(sums.values())}
    return [_cost_result(key, pico) for key, pico in sums.items() if pico]


def _cost_result(key: tuple[str | None, ...], pico: int) -> Fields:
    cost_type, token_type, model, tier, geography = key
    return {
        "amount": f"{pico // _PICO_PER_CENT}.{pico % _PICO_PER_CENT:010}",
        "currency": "USD",
        "cost_type": cost_type,
        "token_type": token_type,
        "model": model,
        "service_tier": tier,
        "inference_geo": geography,
        "context_window": "0-200k" if cost_type == "tokens" else None,
        "description": " ".join(filter(None, key)) or None,
        "workspace_id": None,
    }


def _pico_usd(line: BilledRequest) -> list[int]:
    """What each kind of token of one line costs, and its searches, which no tier changes."""
    name = re.sub(r"-\d{8}$", "", line.model.rpartition("/")[2])
    fits = [each for each in _PRICES if name == each]
    fits += [each for each in ("claude-opus", "claude-sonnet") if name.startswith(each)]
    prices = _PRICES[fits[0]] if fits else _OTHERS
    factor = Fraction(1, 2) if line.service_tier == "batch" else Fraction(1)
    factor *= Fraction(11, 10) if line.inference_geo == "us" else 1
    factor *= 2 if line.speed == "fast" else 1
    counts = _counts(line)
    model, most, times = _LONG
    factor *= times if name == model and sum(counts[:4]) > most else 1
    tokens = [
        int(count * Fraction(price) * factor * _PICO_PER_MICRO)
        for count, price in zip(counts, prices, strict=True)
    ]
    return [*tokens, line.web_search_requests * _PICO_PER_CENT]
