"""The provider's two reports, of usage and of costs, made from the simulator's own bill.

Their shapes are those of the Admin API; the prices are a list of the simulator's own, so that
a ledger is held against a second opinion.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from typing import Any, Final

from batcher.simulator.bill import BilledRequest
from batcher.simulator.wire.envelope import RefusedRequest

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
