"""One transaction's worth of records, statement by statement."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, select

from batcher.clock import Clock
from batcher.ledger.schema import METERS, rate_sets
from batcher.ledger.write import encode
from batcher.ledger.write.competing import without_second_answers
from batcher.ledger.write.records import (
    Intent,
    Quarantine,
    Record,
    Scope,
    Settlement,
)
from batcher.ledger.write.rollup import rollup_rows, upsert
from batcher.ledger.write.statements import HotPath, insert_into
from batcher.ledger.write.store import drop_earlier, kept
from batcher.messages.answer import Store
from batcher.messages.attempt import Answered, Partial, Unusable
from batcher.pricing.rate.rating import Charge, RateSet


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
