"""The same rows priced in other ways: live, in batches, each once, cached, on other models."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Final

import msgspec

from batcher.estimate.census import Inputs
from batcher.estimate.expected_cost import ModelForecast, Tariff
from batcher.ledger.money.budget import LaneTokens
from batcher.ledger.money.estimates import EndpointTimes
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.request import Request
from batcher.messages.usage import Usage
from batcher.pacing.limits import QuotaLimits
from batcher.pipeline.engine.rater import Rater
from batcher.pipeline.repeats import SeenRequests

LIVE: Final = "live"
BATCH: Final = "batch"
BATCH_SECONDS: Final = 86_400  # by which the last batch has ended
CACHED_FROM_TOKENS: Final = 4_096  # every model caches a prefix as long as that
_MOST_PREFIXES: Final = 100_000
_NO_TEXT: Final = msgspec.Raw(b"null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """One way to have all rows answered; amounts are pico-USD, `None`: not known.

    `model` is another one than the rows ask for. `ceiling` is of one attempt a row. `seconds`
    is how long it takes about, `most_seconds` at most.
    """

    lane: str
    requests: int
    once: bool = False
    cached: bool = False
    model: str = ""
    expected: int | None = None
    ceiling: int | None = None
    seconds: int | None = None
    most_seconds: int | None = None


@dataclass(slots=True)
class Load:
    """Rows of one model; `None` of a lane's ceiling: some have none there."""

    rows: int = 0
    body_bytes: int = 0
    live_most: int | None = 0
    batch_most: int | None = 0

    def add(self, size: int, live: int | None, batch: int | None) -> None:
        """One row more, with its ceiling in each lane."""
        self.rows += 1
        self.body_bytes += size
        self.live_most = _plus(self.live_most, live)
        self.batch_most = _plus(self.batch_most, batch)


def _plus(total: int | None, more: int | None) -> int | None:
    return None if total is None or more is None else total + more


@dataclass(slots=True)
class _Prefix:
    model: str
    size: int
    rows: int = 0


class _Head(msgspec.Struct):
    tools: msgspec.Raw = _NO_TEXT
    system: msgspec.Raw = _NO_TEXT


_HEAD: Final = msgspec.json.Decoder(_Head)


@dataclass(slots=True)
class WayCounts:
    """What the rows to do hold, beside a census: equal ones, and what they begin with."""

    inputs: Inputs
    every: dict[str, Load] = field(default_factory=dict)
    once: dict[str, Load] = field(default_factory=dict)
    caches_itself: bool = False
    _prefixes: dict[bytes, _Prefix] = field(default_factory=dict)
    _seen: SeenRequests = field(default_factory=SeenRequests)

    def add(self, request: Request) -> None:
        """A row that is to do."""
        rater, now, size = self.inputs.rater, self.inputs.now_us, len(request.body)
        live = replace(rater, in_batches=False).ceiling(request, now)
        batch = replace(rater, in_batches=True).ceiling(request, now)
        of_model = self.every.setdefault(request.model, Load())
        of_model.add(size, live, batch)
        if self._seen.add(request.params_hash):
            self.once.setdefault(request.model, Load()).add(size, live, batch)
        self._note_prefix(request)

    def prefixes(self, model: str) -> list[tuple[int, int]]:
        """(bytes, rows) of what rows of the model begin with, where several do; else none."""
        if self.caches_itself or len(self._prefixes) >= _MOST_PREFIXES:
            return []
        found = (each for each in self._prefixes.values() if each.model == model)
        return [(each.size, each.rows) for each in found if each.rows > 1]

    def _note_prefix(self, request: Request) -> None:
        self.caches_itself |= b'"cache_control"' in request.body
        if self.caches_itself or len(self._prefixes) >= _MOST_PREFIXES:
            return
        try:
            head = _HEAD.decode(request.body)
        except CODEC_ERRORS:
            return
        tools, system = bytes(head.tools), bytes(head.system)
        key = blake2b(b"\0".join((request.model.encode(), tools, system)), digest_size=16)
        prefix = self._prefixes.setdefault(
            key.digest(), _Prefix(request.model, len(tools) + len(system))
        )
        prefix.rows += 1


@dataclass(frozen=True, slots=True, kw_only=True)
class WayTerms:
    """What ways are compared by.

    `models` tell what the rows hold in tokens. `times` are those of the endpoint, `quota` what
    is set, `others` the models that may be asked instead.
    """

    models: Mapping[str, ModelForecast]
    tariff: Tariff
    times: EndpointTimes
    quota: QuotaLimits
    concurrency: int
    has_batches: bool
    others: Sequence[str] = ()


def ways(counts: WayCounts, terms: WayTerms) -> list[Way]:
    """All ways that the rows can go, the cheapest first."""
    found = [way for way in _ways(counts, terms) if way.expected or way.ceiling]
    return sorted(found, key=_money)


def _money(way: Way) -> tuple[bool, int, int]:
    known = way.expected if way.expected is not None else way.ceiling
    return known is None, known or 0, way.ceiling or 0


def _ways(counts: WayCounts, terms: WayTerms) -> Iterator[Way]:
    lanes = (LIVE, BATCH) if terms.has_batches else (LIVE,)
    for lane in lanes:
        yield _way(lane, counts.every, terms)
        if counts.once.keys() and _rows(counts.once) < _rows(counts.every):
            yield replace(_way(lane, counts.once, terms), once=True)
        yield from _cached(lane, counts, terms)
    if len(counts.every) == 1:
        for model in terms.others:
            if model not in counts.every:
                yield _on_another(lanes[-1], model, counts.every, terms)


def _rows(loads: Mapping[str, Load]) -> int:
    return sum(load.rows for load in loads.values())


def _way(lane: str, loads: Mapping[str, Load], terms: WayTerms) -> Way:
    rows = _rows(loads)
    mosts = (load.batch_most if lane == BATCH else load.live_most for load in loads.values())
    costs = (_cost(lane, model, model, load, terms) for model, load in loads.items())
    seconds, most = _seconds(lane, loads, terms)
    return Way(
        lane=lane,
        requests=rows,
        expected=_sum(costs),
        ceiling=_sum(mosts),
        seconds=seconds,
        most_seconds=most,
    )


def _on_another(lane: str, model: str, loads: Mapping[str, Load], terms: WayTerms) -> Way:
    ((own, load),) = loads.items()
    way = _way(lane, loads, terms)
    expected = _cost(lane, own, model, load, terms)
    return replace(way, model=model, expected=expected, ceiling=None)


def _sum(amounts: Iterable[int | None]) -> int | None:
    known = list(amounts)
    return None if None in known else sum(amount or 0 for amount in known)


def _tokens(model: str, terms: WayTerms) -> tuple[int, int | None]:
    """Of a row in the middle: (input, output)."""
    forecast = terms.models[model]
    tokens_in = -(-forecast.input_tokens // max(forecast.requests, 1))
    if forecast.output_tokens is None:
        return tokens_in, None
    return tokens_in, -(-forecast.output_tokens // max(forecast.requests, 1))


def _cost(lane: str, model: str, asked: str, load: Load, terms: WayTerms) -> int | None:
    """What rows of `model` would cost if `asked` answered them."""
    tokens_in, tokens_out = _tokens(model, terms)
    if tokens_out is None:
        return None
    tier = BATCH if lane == BATCH else None
    usage = Usage(input_tokens=tokens_in, output_tokens=tokens_out, service_tier=tier)
    cost = terms.tariff.usage_cost(asked, usage)
    return None if cost is None else cost * load.rows


def _cached(lane: str, counts: WayCounts, terms: WayTerms) -> Iterator[Way]:
    """With a breakpoint behind what rows share, where that saves; one batch after another."""
    saved = sum(_saved(lane, model, counts, terms) for model in counts.every)
    way = _way(lane, counts.every, terms)
    seconds = way.seconds * 2 if lane == BATCH and way.seconds is not None else way.seconds
    if saved > 0 and way.expected is not None:
        yield replace(way, cached=True, expected=way.expected - saved, seconds=seconds)


def _saved(lane: str, model: str, counts: WayCounts, terms: WayTerms) -> int:
    load = counts.every[model]
    tokens_in, _ = _tokens(model, terms)
    saved = 0
    for size, rows in counts.prefixes(model):
        shared = tokens_in * size * load.rows // max(load.body_bytes, 1)
        if shared >= CACHED_FROM_TOKENS:
            saved += max(_saved_of(lane, model, shared, rows, terms.tariff), 0)
    return saved


def _saved_of(lane: str, model: str, tokens: int, rows: int, tariff: Tariff) -> int:
    """One write for five minutes, in batches an hour, then reads, not as many full prompts."""
    is_batch = lane == BATCH
    nothing = Usage(input_tokens=0, output_tokens=0, service_tier=BATCH if is_batch else None)
    usages = (
        msgspec.structs.replace(nothing, input_tokens=tokens),
        msgspec.structs.replace(
            nothing,
            cache_write_tokens=tokens,
            cache_write_5m_tokens=0 if is_batch else tokens,
            cache_write_1h_tokens=tokens if is_batch else 0,
        ),
        msgspec.structs.replace(nothing, cache_read_tokens=tokens),
    )
    full, write, read = (tariff.usage_cost(model, usage) for usage in usages)
    if full is None or write is None or read is None:
        return 0
    return (full - read) * (rows - 1) - (write - full)


def _seconds(
    lane: str, loads: Mapping[str, Load], terms: WayTerms
) -> tuple[int | None, int | None]:
    """(about, at most)."""
    if lane == BATCH:
        queue = sorted(terms.times.batch_seconds)
        return (queue[len(queue) // 2] if queue else None), BATCH_SECONDS
    rows, quota = _rows(loads), terms.quota
    spent = [_tokens(model, terms) for model in loads]
    counts = [load.rows for load in loads.values()]
    tokens_in = sum(each[0] * count for each, count in zip(spent, counts, strict=True))
    tokens_out = sum((each[1] or 0) * n for each, n in zip(spent, counts, strict=True))
    minutes = [
        amount / (limit * quota.share)
        for amount, limit in (
            (rows, quota.requests),
            (tokens_in, quota.input_tokens),
            (tokens_out, quota.output_tokens),
        )
        if limit
    ]
    if (latency := terms.times.latency_us) is not None:
        minutes.append(rows * latency / 60e6 / terms.concurrency)
    return (round(max(minutes) * 60) if minutes else None), None


@dataclass(frozen=True, slots=True, kw_only=True)
class LaneMoney:
    """What batches saved, and what moving rows out of them cost; pico-USD, without searches."""

    saved: int
    moved_rows: int
    move_cost: int


def lane_money(found: Iterable[LaneTokens], tariff: Tariff) -> LaneMoney:
    """By today's prices; what has none in USD is left out."""
    saved = moved_rows = move_cost = 0
    for each in found:
        written = each.tokens["cache_write_5m_tokens"] + each.tokens["cache_write_1h_tokens"]
        usage = msgspec.convert({**each.tokens, "cache_write_tokens": written}, Usage)
        batched = msgspec.structs.replace(usage, service_tier=BATCH)
        live = tariff.usage_cost(each.model, usage)
        batch = tariff.usage_cost(each.model, batched)
        less = 0 if live is None or batch is None else live - batch
        saved += less if each.in_batches else 0
        moved_rows += each.rows if each.moved else 0
        move_cost += less if each.moved else 0
    return LaneMoney(saved=saved, moved_rows=moved_rows, move_cost=move_cost)


def other_models(rater: Rater, now_us: int) -> list[str]:
    """The models of the endpoint's price list that are sold today and not about to retire."""
    book, name = rater.book, rater.price_list
    prices = book.lists.get(name) if name else None
    if name is None or prices is None:
        return []
    return [
        model for model in prices.models() if not book.retirement_words(name, model, now_us)
    ]
