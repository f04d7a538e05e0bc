"""Both ends of a cost: the most that a request can cost, and what an answer cost in doubt.

Before it is sent a request has an upper end only. Once there is usage that leaves things open,
both ends come from what may have been used, at rates that may have held.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from batcher.messages.evidence import NO_LIMIT, RequestMeters, cache_lifetimes, text_characters
from batcher.pricing.book.book import IdPlace, PriceBook, load_shipped
from batcher.pricing.money import (
    LARGEST_AMOUNT,
    METERS,
    WEB_SEARCH,
    MeterAmounts,
    MeterQuantities,
    MeterRates,
)
from batcher.pricing.rate.lines import PossibleUse
from batcher.pricing.rate.rates import (
    BATCH,
    MICROSECONDS_PER_DAY,
    PriceList,
    RateSet,
    calendar_day,
    rate_set,
)

# Their tokens are no more than their bytes in the body.
_TEXT_BLOCKS: Final = frozenset(
    {"text", "thinking", "redacted_thinking", "tool_use", "server_tool_use", "search_result"}
    | {"tool_reference", "tool_result"}
)


class ContentParts:
    """Bytes of base64, images, and whether something's size is not in the body at all."""

    __slots__ = ("base64_bytes", "images", "whole_window")

    def __init__(self) -> None:
        self.base64_bytes = 0
        self.images = 0
        self.whole_window = False

    def add_content(self, content: object) -> None:
        """Count a string (nothing to add) or a list of blocks, nested ones too."""
        if isinstance(content, list):
            for block in content:
                self._add_block(block if isinstance(block, dict) else {})

    def _add_block(self, block: dict[str, Any]) -> None:
        match block.get("type"):
            case "text":
                pass
            case "image":
                self._add_image(block.get("source"))
            case "document":
                self._add_document(block.get("source"))
            case kind if kind in _TEXT_BLOCKS:
                self.add_content(block.get("content"))
            case _:  # results of server tools and files: their size is not in the body
                self.whole_window = True

    def _add_image(self, source: object) -> None:
        data = source.get("data") if isinstance(source, dict) else None
        if isinstance(data, str) and data.isascii():
            self.images += 1
            self.base64_bytes += len(data)
        else:
            self.whole_window = True

    def _add_document(self, source: object) -> None:
        kind = source.get("type") if isinstance(source, dict) else None
        if kind == "content" and isinstance(source, dict):
            self.add_content(source.get("content"))
        elif kind != "text":
            self.whole_window = True


# A byte of text is at least as much as a token of it, so bytes bound tokens from above.
TOOLS_TOKENS: Final = 2_000  # the hidden prompt that comes with tools, or an output format
IMAGE_TOKENS: Final = 4_784  # the most one image costs

_REMEMBERED: Final = 20_000

# Features that run other models, or as often as the server likes: nothing bounds them.
_UNBOUNDED_FIELDS: Final = frozenset(
    {"fallbacks", "mcp_servers", "compaction", "thread", "fallback_credit_token", "container"}
)
_CLIENT_TOOLS: Final = ("bash_", "text_editor_", "memory_", "computer_", "browser_toolset_")
_COUNTED_TOOLS: Final = ("web_search_", "web_fetch_")
_CODE_TOOL: Final = "code_execution_"
# What an answer is charged as where it does not say otherwise.
_USUAL: Final = {
    "inference_geo": ("global", "not_available"),
    "speed": ("standard",),
    "service_tier": ("standard", "standard_only", "auto"),
}


def request_bound(
    params: dict[str, Any],
    body_length: int,
    *,
    price_list: str | None,
    sent_at: int,
    book: PriceBook,
    in_batches: bool = False,
) -> int | None:
    """The most that the body `params` can cost, searches included; see `cost_bound`."""
    asked = asked_for(params, body_length, book)
    max_tokens = params.get("max_tokens")
    if type(max_tokens) is not int or asked.searches == NO_LIMIT:
        return None
    used = (asked.input_most, max_tokens, asked.searches)
    return _bound(str(params.get("model")), used, price_list, sent_at, book, in_batches)


def asked_for(params: dict[str, Any], body_length: int, book: PriceBook) -> RequestMeters:
    """What the body `params` makes possible to be billed."""
    tools = _tables(params.get("tools"))
    searches = search_bound(params) if tools else 0
    max_tokens = params.get("max_tokens")
    window = book.context_window(str(params.get("model")))
    samplings = _samplings(tools) or 0
    output = max_tokens if type(max_tokens) is int else window
    return RequestMeters(
        input_most=input_token_bound(params, body_length, book),
        output_most=output * samplings if output is not None and samplings else None,
        text_characters=text_characters(params),
        cache_lifetimes=cache_lifetimes(params),
        searches=NO_LIMIT if searches is None else searches,
        samplings=samplings,
        runs_code=any(str(tool.get("type", "")).startswith(_CODE_TOOL) for tool in tools),
        geography=_unusual(params, "inference_geo"),
        speed=_unusual(params, "speed"),
        tier=_unusual(params, "service_tier"),
    )


def cost_bound(  # noqa: PLR0913 - all that a price depends on
    *,
    model: str,
    max_tokens: int | None,
    input_bound_tokens: int | None,
    price_list: str | None,
    sent_at: int,
    book: PriceBook,
    in_batches: bool = False,
) -> int | None:
    """The most that tokens can cost, in pico-units of the list's currency; `None`: no bound.

    The input at the dearest input or cache-write rate, plus `max_tokens` at the output rate; at
    the dearest geography, speed and prompt size of the model on the UTC day of `sent_at` and
    the next; `in_batches` at their rates, where the list has any. `None` when one of these is
    unknown or the sum exceeds 64 bits. Fees for searches are not in it, see `request_bound`.
    """
    used = (input_bound_tokens, max_tokens, 0)
    return _bound(model, used, price_list, sent_at, book, in_batches)


def input_token_bound(
    params: dict[str, Any], body_length: int, book: PriceBook | None = None
) -> int | None:
    """The most input tokens that a Messages body can be billed for; `None`: no bound.

    Ordinary bodies: `body_length` (bytes as sent) without base64 images, 4,784 tokens per
    image, and 2,000 for tools. Documents other than text, URLs, file ids and server tools: the
    model's context window (from `book`, by default the shipped one) for each sampling, of
    which there are `max_uses` + 1. `None` when the window or `max_uses` is unknown, or the body
    uses something that runs as often as the server likes.
    """
    if not _UNBOUNDED_FIELDS.isdisjoint(params) or _compacts(params):
        return None
    samplings = _samplings(params.get("tools"))
    if samplings is None:
        return None
    parts = ContentParts()
    for message in params.get("messages") or ():
        parts.add_content(message.get("content") if isinstance(message, dict) else None)
    if parts.whole_window or samplings > 1:
        window = (book or load_shipped()).context_window(str(params.get("model")))
        return None if window is None else window * samplings
    hidden = _hidden_tokens(params)
    return body_length - parts.base64_bytes + parts.images * IMAGE_TOKENS + hidden


def search_bound(params: dict[str, Any]) -> int | None:
    """The most web searches that a Messages body can be billed for; `None`: no bound."""
    total = 0
    for tool in _tables(params.get("tools")):
        if str(tool.get("type", "")).startswith("web_search_"):
            uses = tool.get("max_uses")
            if type(uses) is not int or uses < 0:
                return None
            total += uses
    return total


def _compacts(params: dict[str, Any]) -> bool:
    """Whether the server may summarise on its own, which is billed and has no limit."""
    management = params.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    return any(str(edit.get("type", "")).startswith("compact") for edit in _tables(edits))


def _unusual(params: dict[str, Any], name: str) -> str | None:
    """What was asked for under `name`, where that may be charged otherwise."""
    value = params.get(name)
    return str(value)[:40] if value and value not in _USUAL[name] else None


def _tables(values: object) -> list[dict[str, Any]]:
    return [v for v in values if isinstance(v, dict)] if isinstance(values, list) else []


def _samplings(tools: object) -> int | None:
    """How often the model may be run for one request: once, and after each server tool use."""
    samplings = 1
    for tool in _tables(tools):
        kind = str(tool.get("type") or "custom")
        if kind == "custom" or kind.startswith(_CLIENT_TOOLS):
            continue
        uses = tool.get("max_uses") if kind.startswith(_COUNTED_TOOLS) else None
        if type(uses) is not int or uses < 0:
            return None
        samplings += uses
    return samplings


def _hidden_tokens(params: dict[str, Any]) -> int:
    if "tools" not in params and "output_config" not in params:
        return 0
    return TOOLS_TOKENS * max(
        1, sum(1 for tool in _tables(params.get("tools")) if "type" in tool)
    )


def _bound(
    model: str,
    used: tuple[int | None, int | None, int],
    price_list: str | None,
    sent_at: int,
    book: PriceBook,
    in_batches: bool,  # noqa: FBT001 - as both above have it
) -> int | None:
    tokens, max_tokens, searches = used
    if price_list is None or tokens is None or max_tokens is None:
        return None
    key = (price_list, model, sent_at // MICROSECONDS_PER_DAY, in_batches)
    rates = book.dearest_rates[key] if key in book.dearest_rates else _remember(book, key)
    if rates is None:
        return None
    input_rate, output_rate, search_rate = rates
    bound = tokens * input_rate + max_tokens * output_rate + searches * search_rate
    return bound if bound <= LARGEST_AMOUNT else None


def _remember(book: PriceBook, key: tuple[str, str, int, bool]) -> tuple[int, int, int] | None:
    if len(book.dearest_rates) >= _REMEMBERED:
        book.dearest_rates.clear()
    price_list, model, day, in_batches = key
    prices = book.lists.get(price_list)
    found = None
    priced, where = book.priced_model(price_list, model) if prices else (None, IdPlace.ANYWHERE)
    if prices and priced:
        in_cloud = where is not IdPlace.ANYWHERE
        found = _dearest(prices, priced, day, in_cloud=in_cloud, in_batches=in_batches)
    book.dearest_rates[key] = found
    return found


def _dearest(
    prices: PriceList, model: str, day: int, *, in_cloud: bool, in_batches: bool
) -> tuple[int, int, int] | None:
    """The highest (input, output, search) rate of any terms on that day or the day after.

    In batches only theirs count, where there are any.
    """
    moments = (
        calendar_day(day),
        calendar_day(day + 1),
    )  # the attempt may be sent after midnight
    periods = [
        (period, terms)
        for period in prices.periods
        if period.model == model and any(period.holds_on(moment) for moment in moments)
        for terms in period.all_terms()
    ]
    batched = [each for each in periods if each[1] == BATCH] if in_batches else []
    sets = [
        rate_set(period, terms, geography, prices.currency).rates
        for period, terms in batched or periods
        for geography in ("", *dict(period.geographies))
        if in_cloud or geography != IdPlace.REGION
    ]
    if not sets or any(rates[0] is None or rates[4] is None for rates in sets):
        return None
    return (
        max(rate or 0 for rates in sets for rate in rates[:4]),
        max(rates[4] or 0 for rates in sets),
        max(rates[WEB_SEARCH] or 0 for rates in sets),
    )


# What the endpoints of one region cost more than the global ones, in tenths.
_REGION_TENTHS: Final = 11
_GOVERNMENT_TENTHS: Final = 12


@dataclass(frozen=True, slots=True)
class Ends:
    """The lower end with its quantities, amounts and rates, and the upper one; pico-units."""

    quantities: MeterQuantities
    amounts: MeterAmounts
    low: int
    rates: RateSet
    high: int


def interval(spread: PossibleUse, sets: Iterable[RateSet]) -> Ends | str:
    """Both ends over every set of rates that may have held; a meter's name: it has no rate."""
    lowest: tuple[int, list[int], list[int], RateSet] | None = None
    high = 0
    for rates in sets:
        counted = _cheapest_use(spread, rates.rates)
        missing = without_rate([*map(max, counted, spread.high)], rates.rates)
        if missing is not None:
            return missing
        amounts = [n * (rate or 0) for n, rate in zip(counted, rates.rates, strict=True)]
        high = max(high, _dearest_use(spread, rates.rates))
        if lowest is None or sum(amounts) < lowest[0]:
            lowest = (sum(amounts), counted, amounts, rates)
    assert lowest is not None  # noqa: S101 - there is a set for the prompt's size
    low, counted, amounts, rates = lowest
    return Ends(_six(counted), _six(amounts), low, rates, high + spread.fees)


def regional_high(high: int, model: str) -> int:
    """The upper end where the id names a region, whose premium is not in the book."""
    tenths = _GOVERNMENT_TENTHS if "-gov" in model else _REGION_TENTHS
    return -(-high * tenths // 10)


def _cheapest_use(spread: PossibleUse, rates: MeterRates) -> list[int]:
    if spread.free:
        return [0] * len(METERS)
    counted = spread.low.copy()
    for meter, tokens, others in spread.moves:
        moved = min(tokens, counted[meter])
        priced = [(rates[m] or 0, m) for m in (meter, *others) if rates[m] is not None]
        to = min(priced)[1] if priced else meter
        counted[meter] -= moved
        counted[to] += moved
    return counted


def _dearest_use(spread: PossibleUse, rates: MeterRates) -> int:
    high = sum(n * (rate or 0) for n, rate in zip(spread.high, rates, strict=True))
    for meter, tokens, others in spread.moves:
        own = rates[meter] or 0
        high += tokens * max(0, *((rates[other] or 0) - own for other in others))
    if spread.pool:
        high += spread.pool * max(rates[meter] or 0 for meter in spread.pool_meters)
    return high


def without_rate(counted: Sequence[int | None], rates: MeterRates) -> str | None:
    """The first meter of which something was used that has no rate."""
    for meter, count in enumerate(counted):
        if count and rates[meter] is None:
            return METERS[meter]
    return None


def _six(values: list[int]) -> MeterAmounts:
    one, two, three, four, five, six = values
    return one, two, three, four, five, six
