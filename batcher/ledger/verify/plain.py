"""The short way through the recomputation, for the answers that nearly all are.

One usage line, one price, nothing assumed: its amounts are a few products. What is different in
any respect, or does not agree, is left to the long way, which alone finds problems.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, NamedTuple

import msgspec

from batcher.ledger.rate.stored_answers import (
    FIRST_TOKENS,
    Pricing,
    StoredAnswer,
    StoredCharge,
)
from batcher.messages.codec import CODEC_ERRORS
from batcher.messages.usage import MAX_TOKENS_PLAUSIBLE
from batcher.pricing.rate.rating import ChargeStatus, RateSet
from batcher.pricing.rate.resolve import MICROSECONDS_PER_DAY, resolve

_REMEMBERED: Final = 20_000
_NO_TIERS: Final = 5 * MAX_TOKENS_PLAUSIBLE
_PRICED: Final = ChargeStatus.PRICED.value
_REFUSAL: Final = "refusal"

_Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_TOKENS_PLAUSIBLE)]


class _Split(msgspec.Struct, gc=False):
    ephemeral_5m_input_tokens: _Count | None = None
    ephemeral_1h_input_tokens: _Count | None = None


class _Details(msgspec.Struct, gc=False):
    thinking_tokens: _Count | None = None


class _Plain(msgspec.Struct, gc=False):
    input_tokens: _Count
    output_tokens: _Count
    cache_creation_input_tokens: _Count | None = None
    cache_read_input_tokens: _Count | None = None
    cache_creation: _Split | None = None
    output_tokens_details: _Details | None = None
    service_tier: str | None = None
    inference_geo: str | None = None
    speed: str | None = None
    server_tool_use: Any = None
    iterations: Any = None


_DECODER: Final = msgspec.json.Decoder(_Plain)
_NO_SPLIT: Final = _Split()
_NO_DETAILS: Final = _Details()


class _Price(NamedTuple):
    """Rates of the five kinds of token, for prompts up to a size."""

    rates: tuple[Any, ...]
    most_prompt_tokens: int


class PlainCheck:
    """Recognises plain answers whose stored charge is right."""

    def __init__(
        self,
        pricings: Mapping[int, Pricing],
        rate_sets: Mapping[int, tuple[int, RateSet]],
    ) -> None:
        self._pricings = pricings
        self._rate_sets = rate_sets
        self._prices: dict[tuple[Any, ...], _Price | None] = {}

    def agrees(self, stored: StoredAnswer, charge: StoredCharge) -> bool:
        """Whether the answer is plain and its one charge recomputes to the same integers."""
        if stored.usage is None or charge.status != _PRICED or charge.reason is not None:
            return False
        try:
            usage = _DECODER.decode(stored.usage)
        except CODEC_ERRORS:
            return False
        return _is_plain(stored, charge, usage) and self._is_right(stored, charge, usage)

    def _is_right(self, stored: StoredAnswer, charge: StoredCharge, usage: _Plain) -> bool:
        price = self._price_of(stored, charge)
        if price is None:
            return False
        split = usage.cache_creation or _NO_SPLIT
        used = (
            usage.input_tokens,
            split.ephemeral_5m_input_tokens,
            split.ephemeral_1h_input_tokens,
            usage.cache_read_input_tokens,
            usage.output_tokens,
        )
        amounts = [
            quantity * rate if quantity else 0
            for quantity, rate in zip(used, price.rates, strict=True)
        ]
        prompt = used[0] + (used[1] or 0) + (used[2] or 0) + (used[3] or 0)
        return (
            prompt <= price.most_prompt_tokens
            and charge.quantities_and_amounts == (*used, None, *amounts, 0)
            and charge.total == sum(amounts)
            and charge.line == 0
            and charge.current == 1
        )

    def _price_of(self, stored: StoredAnswer, charge: StoredCharge) -> "_Price | None":
        """What the charge was rightly made with, `None`: look closer."""
        key = (
            charge.rating_id,
            charge.rate_set_id,
            charge.currency,
            charge.model,
            stored.invocation_id,
            stored.sent_at // MICROSECONDS_PER_DAY,
            stored[-3:],
        )
        if key not in self._prices:
            if len(self._prices) >= _REMEMBERED:
                self._prices.clear()
            self._prices[key] = self._look_up(stored, charge)
        return self._prices[key]

    def _look_up(self, stored: StoredAnswer, charge: StoredCharge) -> "_Price | None":
        pricing = self._pricings.get(charge.rating_id)
        if pricing is None or charge.rate_set_id is None:
            return None
        price_list = pricing.price_lists.get(stored.invocation_id)
        if price_list is None:
            return None
        moment = stored.sent_at if pricing.as_of_us is None else pricing.as_of_us
        variant = stored.service_tier, stored.speed, stored.inference_geo
        day = moment // MICROSECONDS_PER_DAY
        found = resolve(pricing.book, price_list, charge.model or "", variant, day)
        used = self._rate_sets.get(charge.rate_set_id)
        base = found.base
        if base is None or found.regional or None in base.rates:
            return None
        if used != (pricing.price_book_id, base) or charge.currency != base.currency:
            return None
        most = found.tiers[-1][0] if found.tiers else _NO_TIERS
        return _Price(base.rates[:5], most)


def _is_plain(stored: StoredAnswer, charge: StoredCharge, usage: _Plain) -> bool:
    """Whether nothing is special, and the token columns are what the usage says."""
    split, written = usage.cache_creation or _NO_SPLIT, usage.cache_creation_input_tokens
    five, hour = split.ephemeral_5m_input_tokens, split.ephemeral_1h_input_tokens
    columns = (
        usage.input_tokens,
        written,
        five,
        hour,
        usage.cache_read_input_tokens,
        usage.output_tokens,
        (usage.output_tokens_details or _NO_DETAILS).thinking_tokens,
        None,
        usage.service_tier,
        usage.inference_geo,
        usage.speed,
    )
    return (
        stored[FIRST_TOKENS:] == columns
        and (written or 0) == (five or 0) + (hour or 0)
        and not usage.iterations
        and usage.server_tool_use is None
        and (written is not None or usage.cache_creation is None)
        and stored.stop_reason != _REFUSAL
        and charge.model == stored.model
        and bool(stored.model)
    )
