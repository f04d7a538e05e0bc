"""What was used and paid per meter, summed by the database under the rates that made it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, RowMapping, Select, case, func, or_, select
from sqlalchemy.sql.elements import literal_column
from sqlalchemy.types import BigInteger

from batcher.ledger.schema import METERS, answers, charges, rate_sets
from batcher.pricing.book.book import PriceBook
from batcher.pricing.money import MeterQuantities
from batcher.pricing.rate.rates import RateSet
from batcher.report.figures import Key
from batcher.report.ledgers import OpenLedger
from batcher.report.scope import ANSWER_SENT_AT, answer_keys, answers_with_charges
from batcher.report.totals import exact_sum, whole_sum

_HOUR_US: Final = 3_600_000_000
_PROMPT: Final = ("input", "cache_write_5m", "cache_write_1h", "cache_read")
# The hour of sending since 1970 UTC, and who served under which terms.
HOUR: Final = {"hour": ANSWER_SENT_AT // literal_column(str(_HOUR_US), BigInteger)}
# 1 for an answer that a gateway says it got with our own key: its provider bills it, not it.
_SAYS_OWN_KEY: Final = or_(
    *(answers.c.usage.like(f'%"is_byok":{space}true%') for space in ("", " "))
)
OWN_KEY: Final = {"own_key": case((_SAYS_OWN_KEY, 1), else_=0)}
TERMS: Final = {
    "service_tier": answers.c.service_tier,
    "inference_geo": answers.c.inference_geo,
    "speed": answers.c.speed,
}
# One usage line of one answer.
USAGE_LINE: Final = {
    "attempt_id": answers.c.attempt_id,
    "line": charges.c.line,
    "sent_at": ANSWER_SENT_AT,
    "custom_id": answers.c.custom_id,
    "message_id": answers.c.message_id,
    "end_reason": answers.c.stop_reason,
    "reported_cost": answers.c.provider_reported_cost,
}
# By how much an assumed charge may be more than its amount; nothing for others.
ABOVE: Final = charges.c.high_amount - charges.c.total_amount
_RATED: Final = {
    "rate_set_id": charges.c.rate_set_id,
    "rating_id": charges.c.rating_id,
    "currency": charges.c.currency,
    "status": charges.c.status,
    "served_model": charges.c.model,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterGroup:
    """Sums of one group, rated alike, in the order of `METERS`.

    `amounts` are pico-units, zero where nothing was charged. `rates` is `None` for what is
    unbilled, unpriced or never rated. `above` is by how much what is assumed may have
    cost more. `row` holds the further columns that were asked for.
    """

    key: Key
    status: str | None
    model: str | None
    currency: str | None
    rating_id: int | None
    rate_set_id: int | None
    rates: RateSet | None
    charges: int
    quantities: tuple[int, ...]
    amounts: tuple[int, ...]
    above: int
    row: RowMapping

    @property
    def amount(self) -> int:
        """All meters together."""
        return sum(self.amounts)


def read_meters(
    ledger: OpenLedger,
    further: Mapping[str, ColumnElement[Any]] | None = None,
    *,
    order: Sequence[str] = (),
) -> Iterator[MeterGroup]:
    """The current charges of complete answers, by dimensions, rating and `further` columns.

    They come in the `order` of some of those, else in any.
    """
    rates = read_rate_sets(ledger)
    further = further or {}
    statement = _statement(ledger, further).order_by(*(further[name] for name in order))
    for row in ledger.rows(statement):
        yield MeterGroup(
            key=ledger.key(row),
            status=row["status"],
            model=row["served_model"],
            currency=row["currency"],
            rating_id=row["rating_id"],
            rate_set_id=row["rate_set_id"],
            rates=rates.get(row["rate_set_id"]),
            charges=row["charges"],
            quantities=tuple(int(row[f"{meter}_quantity"] or 0) for meter in METERS),
            amounts=tuple(whole_sum(row, f"{meter}_amount") for meter in METERS),
            above=whole_sum(row, "above"),
            row=row,
        )


def prompt_above(book: PriceBook) -> ColumnElement[int]:
    """A further column: the largest prompt size of any price that a charge exceeds; 0: none."""
    sizes = {p.prompt_tokens_above for each in book.lists.values() for p in each.periods}
    prompt: ColumnElement[Any] = literal_column("0", BigInteger)
    for meter in _PROMPT:
        prompt = prompt + func.coalesce(charges.c[f"{meter}_quantity"], _number(0))
    above = [(prompt > _number(size), _number(size)) for size in sorted(sizes, reverse=True)]
    return case(*above, else_=_number(0))


def _number(value: int) -> ColumnElement[int]:
    """Written out: what is grouped by must read the same wherever it stands."""
    return literal_column(str(value), BigInteger)


def read_rate_sets(ledger: OpenLedger) -> dict[int, RateSet]:
    """All rates that charges were made with; there are few."""
    return {
        row["rate_set_id"]: RateSet(
            price_list=row["price_list"],
            model=row["model"],
            terms=row["terms"],
            valid_from=row["valid_from"],
            currency=row["currency"],
            rates=_rates(row),
        )
        for row in ledger.rows(select(rate_sets))
    }


def _rates(row: RowMapping) -> MeterQuantities:
    one, two, three, four, five, six = (row[f"{meter}_rate"] for meter in METERS)
    return one, two, three, four, five, six


def _statement(ledger: OpenLedger, further: Mapping[str, ColumnElement[Any]]) -> Select[Any]:
    keys = {**answer_keys(ledger.scope.query), **_RATED, **further}
    quantities = [func.sum(charges.c[f"{each}_quantity"]).label(f"{each}_quantity")
                  for each in METERS]  # fmt: skip
    amounts = [
        column
        for each in METERS
        for column in exact_sum(
            ledger.connection, charges.c[f"{each}_amount"], f"{each}_amount"
        )
    ]
    return (
        answers_with_charges(ledger.scope)
        .where(charges.c.attempt_id.is_not(None))
        .add_columns(
            *(column.label(name) for name, column in keys.items()),
            func.count().label("charges"),
            *quantities,
            *amounts,
            *exact_sum(ledger.connection, ABOVE, "above"),
        )
        .group_by(*keys.values())
    )
