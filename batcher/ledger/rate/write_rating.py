"""One more rating, written: its charges, its sums, and then the pointers to what is current."""

from collections.abc import Collection, Sequence
from typing import Any, Final

from sqlalchemy import Connection, and_, func, not_, or_, select, update

from batcher.ledger.rate.stored_answers import BillableAnswer
from batcher.ledger.schema import QUARTER_HOUR_US, charges, invocations, ratings, rollups
from batcher.ledger.write.encode import charge_values
from batcher.ledger.write.records import store_book
from batcher.ledger.write.statements import HotPath
from batcher.ledger.write.transaction import (
    Sums,
    add_charges,
    answer_tokens,
    rate_set_id,
    rollup_place,
    upsert,
)
from batcher.pricing.book.book import PriceBook
from batcher.pricing.rate.rates import RateSet
from batcher.pricing.rate.rating import Charge
from batcher.pricing.rate.trust import RULES_EDITION

_AT_ONCE: Final = 5_000


class NewRating:
    """A reprice while it is written, in the caller's transaction."""

    def __init__(
        self,
        connection: Connection,
        book: PriceBook,
        *,
        as_of: str | None,
        run_id: int | None,
        now_us: int,
    ) -> None:
        self._connection = connection
        self._charge = HotPath(connection.dialect).charge
        self._rows: list[tuple[Any, ...]] = []
        self._sums: Sums = {}
        self._rate_set_ids: dict[RateSet, int] = {}
        self.price_book_id = store_book(connection, book)
        values = {
            "price_book_id": self.price_book_id,
            "created_at": now_us,
            "reason": "reprice",
            "position": connection.scalar(select(func.max(invocations.c.invocation_id))),
            "run_id": run_id,
            "as_of": as_of,
            "rules": RULES_EDITION,
        }
        insert = ratings.insert().values(values).returning(ratings.c.rating_id)
        self.rating_id = int(connection.execute(insert).scalar_one())

    def add(self, stored: BillableAnswer, wanted: tuple[Charge, ...]) -> None:
        """Charges of one answer, and what they add to the sums."""
        for charge in wanted:
            rates = self._rate_set_id(charge)
            self._rows.append(charge_values(stored.attempt_id, self.rating_id, charge, rates))
        place = rollup_place(
            stored.invocation_id,
            stored.sent_at,
            stored.lane,
            stored.requested_model,
            stored.model,
            stored.stop_reason,
        )
        tokens = answer_tokens(stored.columns())
        final = bool(stored.final)
        add_charges(self._sums, place, self.rating_id, wanted, final=final, tokens=tokens)
        if len(self._rows) >= _AT_ONCE:
            self._flush()

    def finish(self, *, mine: Collection[int], closed: Sequence[tuple[int, int]]) -> None:
        """Move the pointers: what was added is current, what it replaces is not.

        It was added for all answers of the invocations `mine`, but for those sent in the
        `closed` windows.
        """
        self._flush()
        rows = ((*key, *values) for key, values in self._sums.items())
        upsert(self._connection.dialect).run(self._connection, rows)
        self._supersede_charges()
        self._supersede_rollups(mine, closed)

    def _rate_set_id(self, charge: Charge) -> int | None:
        rates = charge.rates
        if rates is None:
            return None
        if rates not in self._rate_set_ids:
            found = rate_set_id(self._connection, self.price_book_id, rates)
            self._rate_set_ids[rates] = found
        return self._rate_set_ids[rates]

    def _flush(self) -> None:
        self._charge.run(self._connection, self._rows)
        self._rows = []

    def _supersede_charges(self) -> None:
        mine = charges.alias("mine")
        repriced = select(mine.c.attempt_id).where(
            mine.c.attempt_id == charges.c.attempt_id, mine.c.rating_id == self.rating_id
        )
        self._connection.execute(
            update(charges)
            .where(charges.c.current == 1, charges.c.rating_id != self.rating_id)
            .where(repriced.exists())
            .values(current=0)
        )

    def _supersede_rollups(
        self, mine: Collection[int], closed: Sequence[tuple[int, int]]
    ) -> None:
        table = rollups.c
        in_closed = [
            and_(
                table.quarter >= since // QUARTER_HOUR_US,
                table.quarter < until // QUARTER_HOUR_US,
            )
            for since, until in closed
        ]
        statement = update(rollups).where(
            table.superseded_by.is_(None), table.rating_id != self.rating_id
        )
        if in_closed:
            statement = statement.where(not_(or_(*in_closed)))
        for invocation_id in sorted(mine):  # a list of all would outgrow a statement
            self._connection.execute(
                statement.where(table.invocation_id == invocation_id),
                {"superseded_by": self.rating_id},
            )
