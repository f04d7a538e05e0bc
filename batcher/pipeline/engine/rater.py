"""What answers cost and attempts may cost, under one price book and one endpoint's list."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

import msgspec
from msgspec.structs import replace

from batcher.messages.answer import Answer, billed_at_least
from batcher.messages.evidence import RequestMeters, gather, is_plain, ordinary
from batcher.messages.request import Answered, Attempt, Outcome, Partial, Request
from batcher.messages.usage import Usage
from batcher.pricing.book.book import PriceBook
from batcher.pricing.rate.bounds import asked_for, cost_bound, request_bound
from batcher.pricing.rate.rates import BATCH, moment_of_day
from batcher.pricing.rate.rating import (
    Charge,
    needs_evidence,
    rate,
)

# Text alone is bounded by its length; a body with any of these words is looked into. A word
# inside a prompt costs a look and changes nothing.
_UNUSUAL: Final = re.compile(
    rb'"(?:tools|source|output_config|fallbacks|mcp_servers|compaction|thread|container|data'
    rb"|context_management|fallback_credit_token|cache_control|inference_geo|speed|service_tier"
    rb'|signature)"'
)


# What a token costs as (input, 5-minute write, 1-hour write, read), in pico-USD.
CacheRates = tuple[int, int, int, int]


def _written(*, five: int, hour: int) -> Usage:
    return Usage(
        input_tokens=0,
        output_tokens=0,
        cache_write_tokens=five + hour,
        cache_write_5m_tokens=five,
        cache_write_1h_tokens=hour,
        cache_read_tokens=0,
    )


def _answer_of(usage: Usage) -> Answer:
    """An answer that is nothing but its usage, to be priced."""
    return Answer(
        message_id=None,
        model=None,
        stop_reason="end_turn",
        stop_sequence=None,
        content=b'["."]',
        text="",
        text_repaired=False,
        usage=usage,
        usage_raw=None,
    )


@dataclass(frozen=True, slots=True)
class Rater:
    """`price_list` `None`: the endpoint has no prices, everything is unpriced.

    `further` are those of the endpoints that a row may go to, with the model that is asked for
    there, `None`: the row's own. `in_batches`: what is sent travels in Message Batches.
    """

    book: PriceBook
    price_list: str | None
    further: tuple[tuple["Rater", str | None], ...] = ()
    in_batches: bool = False

    def charges(self, answer: Answer, requested_model: str, sent_at: int) -> tuple[Charge, ...]:
        """The charges of an answer; never empty."""
        return rate(
            answer,
            requested_model=requested_model,
            price_list=self.price_list,
            sent_at=sent_at,
            book=self.book,
        )

    def weighed(self, attempt: Attempt, outcome: Outcome) -> Outcome:
        """The same outcome; its answer with its evidence, where a charge depends on that."""
        if not isinstance(outcome, (Answered, Partial)):
            return outcome
        answer, size = outcome.answer, len(attempt.body)
        max_tokens = attempt.request.max_tokens
        told = not self.in_batches or bool(answer.usage and answer.usage.service_tier)
        if told and attempt.asked is None and is_plain(answer, size, max_tokens):
            return outcome
        asked = attempt.asked or ordinary(size, max_tokens)
        if not told:  # half price, if this server's batches have that
            asked = replace(asked, tier=BATCH)
        evidence = gather(answer, asked)
        if not needs_evidence(answer, evidence):
            return outcome
        return replace(outcome, answer=replace(answer, evidence=evidence))

    def charges_of(self, outcome: Outcome, requested_model: str) -> tuple[Charge, ...]:
        """The charges of an answer, or of what is known of a broken stream; else none."""
        if isinstance(outcome, Answered):
            answer = outcome.answer
        elif isinstance(outcome, Partial):
            answer = replace(billed_at_least(outcome.answer), evidence=None)
        else:
            return ()
        return self.charges(answer, requested_model, outcome.exchange.sent_at)

    def cache_rates(self, model: str, sent_at: int) -> CacheRates | None:
        """What a token costs in USD with and without the prompt cache; `None`: nobody knows."""
        usages = (
            Usage(input_tokens=1, output_tokens=0),
            _written(five=1, hour=0),
            _written(five=0, hour=1),
            Usage(input_tokens=0, output_tokens=0, cache_read_tokens=1),
        )
        plain, five, hour, read = (self._cost(usage, model, sent_at) for usage in usages)
        if plain is None or five is None or hour is None or read is None:
            return None
        return plain, five, hour, read

    def _cost(self, usage: Usage, model: str, sent_at: int) -> int | None:
        (charge, *more) = self.charges(_answer_of(usage), model, sent_at)
        if more or charge.total is None or (charge.rates and charge.rates.currency != "USD"):
            return None
        return charge.total

    def asked(self, body: bytes) -> RequestMeters | None:
        """What `body` makes possible to be billed; `None` for one that is nothing but text."""
        if not _UNUSUAL.search(body):
            return None
        return asked_for(msgspec.json.decode(body), len(body), self.book)

    def bound(
        self, body: bytes, model: str, max_tokens: int | None, sent_at: int
    ) -> int | None:
        """The most that sending `body` can cost in pico-USD; `None` when there is no bound.

        Prices in another currency give none: their amounts are never mixed with USD.
        """
        prices = self.book.lists.get(self.price_list) if self.price_list else None
        if prices is None or prices.currency != "USD":
            return None
        if _UNUSUAL.search(body):
            return request_bound(
                msgspec.json.decode(body) | {"model": model},
                len(body),
                price_list=self.price_list,
                sent_at=sent_at,
                book=self.book,
                in_batches=self.in_batches,
            )
        return cost_bound(
            model=model,
            max_tokens=max_tokens,
            input_bound_tokens=len(body),
            price_list=self.price_list,
            sent_at=sent_at,
            book=self.book,
            in_batches=self.in_batches,
        )

    def most(self, attempt: Attempt, outcome: Outcome) -> int | None:
        """The most that a failed attempt can have cost; `None` when there is no bound.

        A broken stream may have begun with a dearer model than the one that was asked for.
        """
        bound, asked = attempt.cost_high, attempt.request
        served = outcome.answer.model if isinstance(outcome, Partial) else None
        if bound is None or not served or served == asked.model:
            return bound
        sent_at = outcome.exchange.sent_at
        there = self.bound(attempt.body, served, asked.max_tokens, sent_at)
        return None if there is None else max(bound, there)

    def ceiling(self, request: Request, sent_at: int) -> int | None:
        """The most that an attempt can cost at whichever endpoint it is made; see `bound`."""
        places = ((self, request.model), *((r, m or request.model) for r, m in self.further))
        bounds = [
            rater.bound(request.body, model, request.max_tokens, sent_at)
            for rater, model in places
        ]
        known = [bound for bound in bounds if bound is not None]
        return max(known) if len(known) == len(bounds) else None

    def retirements(self, models: Collection[str], now_us: int) -> list[str]:
        """What to say of models that retired, or will soon, wherever they are asked for."""
        asked: list[tuple[Rater, Collection[str]]] = [(self, models)]
        asked += [(each, {other} if other else models) for each, other in self.further]
        words = {
            each.book.retirement_words(each.price_list, model, now_us)
            for each, names in asked
            if each.price_list is not None
            for model in names
        }
        return sorted(words - {""})

    def had_bound(self, body: bytes, model: str, max_tokens: int | None) -> bool:
        """Whether there was a bound on the day on which the prices were published."""
        published = self.book.published
        if published is None:
            return False
        return (
            self.bound(body, model, max_tokens, moment_of_day(published.isoformat()))
            is not None
        )
