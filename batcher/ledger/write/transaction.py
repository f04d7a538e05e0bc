"""One transaction's worth of records, statement by statement.

Sums of answers and charges are kept beside them, so that reports need not read them all: the
settlements of a transaction are added up in Python and become a few upserts of it. Nothing is
remembered from one to the next, so one that is rolled back leaves no trace.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final

from sqlalchemy import Connection, Dialect, select

from batcher.clock import Clock
from batcher.ledger.schema import (
    KEY_CHARACTERS,
    METERS,
    NEVER_RATED,
    PICO_PER_WHOLE,
    QUARTER_HOUR_US,
    ROLLUP_SUMS,
    rate_sets,
    rollups,
)
from batcher.ledger.write import encode
from batcher.ledger.write.corrections import without_second_answers
from batcher.ledger.write.encode import drop_earlier, kept
from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    Record,
    Scope,
    Settlement,
)
from batcher.ledger.write.statements import Each, HotPath, insert_into
from batcher.messages.answer import Store
from batcher.messages.request import Answered, Partial, Unusable
from batcher.messages.usage import Usage
from batcher.pricing.rate.rates import RateSet
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
        settlement.attempt.lane or scope.lane,
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


class Recorder:
    """Writes records of one invocation. Never commits: the caller's transaction does.

    `store` is how much of the answers is kept.
    """

    def __init__(
        self, dialect: Dialect, scope: Scope, clock: Clock, store: Store = Store.FULL
    ) -> None:
        self._sql = HotPath(dialect)
        self._rollup = upsert(dialect)
        self._has_rivals = dialect.name == "postgresql"
        self._scope = scope
        self._clock = clock
        self._store = store
        self._rate_set_ids: dict[RateSet, int] = {}

    def write(self, connection: Connection, records: Sequence[Record]) -> None:
        """Insert and update everything that `records` say, grouped by statement."""
        intents = [record for record in records if isinstance(record, Intent)]
        settlements = [record for record in records if isinstance(record, Settlement)]
        quarantined = [record for record in records if isinstance(record, Quarantine)]
        if intents:
            self._write_intents(connection, intents)
        if settlements:
            if self._has_rivals:
                mine = self._scope.invocation_id
                settlements = list(without_second_answers(connection, settlements, mine))
            self._write_settlements(connection, settlements)
        if intents:  # last: an attempt may be settled and replaced in one transaction
            self.supersede(connection, intents)
        if quarantined:
            now = self._clock.now_us()
            self._sql.failure.run(
                connection,
                (encode.quarantine_values(record, self._scope, now) for record in quarantined),
            )

    def _write_intents(self, connection: Connection, intents: Sequence[Intent]) -> None:
        self._sql.intent.run(
            connection, [encode.intent_values(intent, self._scope) for intent in intents]
        )

    def supersede(self, connection: Connection, intents: Sequence[Intent]) -> None:
        """Mark the attempts that `intents` replace: their requests do not wait for them."""
        self._sql.superseded.run(
            connection,
            (
                (0, intent.attempt.replaces)
                for intent in intents
                if intent.attempt.replaces is not None
            ),
        )

    def _write_settlements(
        self, connection: Connection, settlements: Sequence[Settlement]
    ) -> None:
        sql, scope = self._sql, self._scope
        if self._store is not Store.FULL:
            settlements = [kept(settlement, self._store) for settlement in settlements]
        sql.settled.run(connection, map(encode.settled_values, settlements))
        sql.answer.run(
            connection,
            [
                encode.answer_values(settlement, settlement.outcome, scope)
                for settlement in settlements
                if isinstance(settlement.outcome, (Answered, Partial))
            ],
        )
        sql.charge.run(connection, self._charges(connection, settlements))
        self._rollup.run(connection, rollup_rows(settlements, scope))
        sql.failure.run(
            connection,
            (
                encode.failure_values(settlement, scope)
                for settlement in settlements
                if settlement.failure
            ),
        )
        sql.unusable.run(
            connection,
            (
                (settlement.attempt.attempt_id, settlement.outcome.body)
                for settlement in settlements
                if isinstance(settlement.outcome, Unusable)
            ),
        )
        if self._store is not Store.FULL:
            drop_earlier(connection, _finished_after_others(settlements), self._store)

    def _charges(
        self, connection: Connection, settlements: Sequence[Settlement]
    ) -> list[tuple[Any, ...]]:
        return [
            encode.charge_values(
                settlement.attempt.attempt_id,
                self._scope.rating_id,
                charge,
                self._rate_set_id(connection, charge),
            )
            for settlement in settlements
            for charge in settlement.charges
        ]

    def _rate_set_id(self, connection: Connection, charge: Charge) -> int | None:
        rates = charge.rates
        if rates is None:
            return None
        if rates not in self._rate_set_ids:
            self._rate_set_ids[rates] = rate_set_id(
                connection, self._scope.price_book_id, rates
            )
        return self._rate_set_ids[rates]

    def forget(self) -> None:
        """A transaction was rolled back: what it inserted is not there any more."""
        self._rate_set_ids.clear()


def _finished_after_others(settlements: Sequence[Settlement]) -> list[int]:
    """The requests that these settlements finish, where there were attempts before."""
    return [
        settlement.attempt.request_id
        for settlement in settlements
        if settlement.attempt.number > 1 and not settlement.pending
    ]


def rate_set_id(connection: Connection, price_book_id: int, rates: RateSet) -> int:
    """The id of `rates` in the book, inserted when new; safe beside other writers."""
    key = {
        "price_book_id": price_book_id,
        "price_list": rates.price_list,
        "model": rates.model,
        "terms": rates.terms,
        "valid_from": rates.valid_from,
    }
    values = {
        **key,
        "currency": rates.currency,
        **{f"{meter}_rate": rate for meter, rate in zip(METERS, rates.rates, strict=True)},
    }
    new = insert_into(rate_sets, connection.dialect).values(values)
    connection.execute(new.on_conflict_do_nothing())
    query = select(rate_sets.c.rate_set_id).filter_by(**key)
    return int(connection.execute(query).scalar_one())
