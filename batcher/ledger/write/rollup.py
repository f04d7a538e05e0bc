"""Sums of answers and charges, kept beside them so that reports need not read them all.

A batch of settlements is added up in Python and becomes a few upserts of its own transaction.
Nothing is remembered from batch to batch, so a batch that is rolled back leaves no trace.
"""

from collections.abc import Iterable
from typing import Any, Final

from sqlalchemy import Dialect

from batcher.ledger.schema import (
    KEY_CHARACTERS,
    NEVER_RATED,
    PICO_PER_WHOLE,
    QUARTER_HOUR_US,
    ROLLUP_SUMS,
    rollups,
)
from batcher.ledger.write.records import Scope, Settlement
from batcher.ledger.write.statements import Each, insert_into
from batcher.messages.attempt import Answered
from batcher.messages.usage import Usage
from batcher.pricing.rate.rating import Charge, ChargeStatus

KEY: Final = tuple(column.name for column in rollups.primary_key.columns)
ROLLUP: Final = (*KEY, *ROLLUP_SUMS)

_NO_USAGE: Final = Usage()
_UNPRICED: Final = ChargeStatus.UNPRICED
_ASSUMED: Final = ChargeStatus.ASSUMED
_NOTHING: Final = [0] * len(ROLLUP_SUMS)
_AT: Final = {name: place for place, name in enumerate(ROLLUP_SUMS)}
_CHARGES, _ANSWERS, _FINAL = _AT["charges"], _AT["answers"], _AT["final_answers"]
_FIRST_TOKENS: Final = _AT["input_tokens"]
_UNPRICED_ANSWERS, _UNPRICED_TOKENS = _AT["unpriced_answers"], _AT["unpriced_tokens"]
_WHOLE, _REST = _AT["amount_whole"], _AT["amount_rest"]
_HIGH_WHOLE, _HIGH_REST = _AT["assumed_high_whole"], _AT["assumed_high_rest"]

Key = tuple[Any, ...]
Sums = dict[Key, list[int]]


def rollup_rows(settlements: Iterable[Settlement], scope: Scope) -> list[tuple[Any, ...]]:
    """What the complete answers among `settlements` add, in the order of `ROLLUP`."""
    sums: Sums = {}
    for settlement in settlements:
        if isinstance(settlement.outcome, Answered):
            _add_answer(sums, settlement, settlement.outcome, scope)
    return [(*key, *values) for key, values in sums.items()]


def upsert(dialect: Dialect) -> Each:
    """Adds rows in the order of `ROLLUP` to what is there."""
    insert = insert_into(rollups, dialect)
    added = {name: rollups.c[name] + insert.excluded[name] for name in ROLLUP_SUMS}
    return Each(
        insert.on_conflict_do_update(index_elements=list(KEY), set_=added), ROLLUP, dialect
    )


def _add_answer(sums: Sums, settlement: Settlement, outcome: Answered, scope: Scope) -> None:
    answer, charges = outcome.answer, settlement.charges
    place = rollup_place(
        settlement.attempt.invocation_id or scope.invocation_id,
        outcome.exchange.sent_at,
        scope.lane,
        settlement.attempt.request.model,
        answer.model,
        answer.stop_reason,
    )
    tokens = answer_tokens(answer.usage or _NO_USAGE)
    add_charges(sums, place, scope.rating_id, charges, final=settlement.final, tokens=tokens)


def rollup_place(
    invocation_id: int, sent_at: int, lane: str | None, requested_model: str,
    model: str | None, stop_reason: str | None,
) -> Key:  # fmt: skip
    """`KEY` up to the stop reason; texts longer than a key may be count by their beginning."""
    requested = requested_model[:KEY_CHARACTERS]
    return (
        invocation_id,
        sent_at // QUARTER_HOUR_US,
        lane,
        requested,
        requested if model is None else model[:KEY_CHARACTERS],
        (stop_reason or "")[:KEY_CHARACTERS],
    )


def add_charges(
    sums: Sums,
    place: Key,
    rating_id: int,
    charges: tuple[Charge, ...],
    *,
    final: bool,
    tokens: tuple[int, ...],
) -> None:
    """Add one answer under one rating, at its `rollup_place`.

    `tokens` are in the order of `ROLLUP_SUMS`. What belongs to the answer goes with the charge
    of line 0; an answer without charges counts as unpriced.
    """
    unpriced_seen = False
    for charge in charges:
        currency = charge.rates.currency if charge.rates else ""
        values = _values(sums, (*place, rating_id, charge.status._value_, currency))
        values[_CHARGES] += 1
        if charge.line == 0:
            _add_tokens(values, tokens, final=final)
        if charge.total is not None:
            values[_WHOLE] += charge.total // PICO_PER_WHOLE
            values[_REST] += charge.total % PICO_PER_WHOLE
        if charge.status is _ASSUMED and charge.high is not None:
            values[_HIGH_WHOLE] += charge.high // PICO_PER_WHOLE
            values[_HIGH_REST] += charge.high % PICO_PER_WHOLE
        if charge.status is _UNPRICED:
            values[_UNPRICED_ANSWERS] += not unpriced_seen
            values[_UNPRICED_TOKENS] += sum(used or 0 for used in charge.quantities[:5])
            unpriced_seen = True
    if not charges:
        values = _values(sums, (*place, NEVER_RATED, "", ""))
        _add_tokens(values, tokens, final=final)
        values[_UNPRICED_ANSWERS] += 1
        values[_UNPRICED_TOKENS] += sum(tokens[:5])


def answer_tokens(usage: Usage) -> tuple[int, ...]:
    """Token counts in the order of `ROLLUP_SUMS`; a write of unknown lifetime is 5 minutes."""
    five = usage.cache_write_5m_tokens
    if five is None:
        written = usage.cache_write_tokens
        five = 0 if written is None else written - (usage.cache_write_1h_tokens or 0)
    return (
        usage.input_tokens or 0,
        five,
        usage.cache_write_1h_tokens or 0,
        usage.cache_read_tokens or 0,
        usage.output_tokens or 0,
        usage.thinking_tokens or 0,
        usage.web_search_requests or 0,
    )


def _values(sums: Sums, key: Key) -> list[int]:
    values = sums.get(key)
    if values is None:
        values = sums[key] = _NOTHING.copy()
    return values


def _add_tokens(values: list[int], tokens: tuple[int, ...], *, final: bool) -> None:
    values[_ANSWERS] += 1
    values[_FINAL] += final
    for place, number in enumerate(tokens, _FIRST_TOKENS):
        values[place] += number
