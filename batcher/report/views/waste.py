"""What was paid, or may have been, for answers that nobody can use."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    RowMapping,
    Select,
    Text,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import answers, attempts, charges
from batcher.messages.request import IN_DOUBT, State
from batcher.pricing.rate.rating import ChargeStatus
from batcher.report.figures import USD, Key, sort_key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.query import Dimension, Kind
from batcher.report.scope import (
    ATTEMPT_SENT_AT,
    NOT_ANSWERED,
    answer_keys,
    answers_with_charges,
    attempt_keys,
    conditions,
)
from batcher.report.table import (
    Cell,
    Field,
    Named,
    Table,
    Unit,
    currency_field,
    key_fields,
    named_key,
    total_key,
)
from batcher.report.totals import exact_sum, read_answered, whole_sum
from batcher.report.views.frame import asked, sentences_of
from batcher.report.views.meters import ABOVE
from batcher.report.words import count_of


class Waste(StrEnum):
    """Why it is of no use."""

    TRUNCATED = "truncated"  # final, cut off by max_tokens or the context window
    REFUSED = "refused"  # final, the model refused
    INVALID = "invalid"  # does not follow the schema that was asked for, kept or not
    DISCARDED = "discarded"  # complete, and not the row's answer: asked again, or given up
    LATE = "late"  # complete after another attempt had answered
    IN_DOUBT = "in doubt"  # may have been billed; no answer came
    MAYBE_BILLED = "maybe billed"  # refused, by a server that may bill it even so


_CUT_OFF: Final = ("max_tokens", "model_context_window_exceeded")
_REFUSED: Final = "refusal"
_LEGS: Final = ("pause_turn", "tool_use")  # a step of a longer answer, not thrown away
# Grouped by, so without parameters: a database would not know them for the same ones.
_LATE_SQL: Final = literal_column(f"'{State.LATE.value}'", Text)
_UNPRICED_SQL: Final = literal_column(f"'{ChargeStatus.UNPRICED.value}'", Text)
_REFUSED_SQL: Final = attempts.c.state == State.REJECTED.value
_ONE, _NONE = literal_column("1", BigInteger), literal_column("0", BigInteger)
_FIELDS: Final = (
    Field("waste", "Waste", Unit.TEXT),
    Field("attempts", "Attempts", Unit.COUNT),
    Field("output_tokens", "Output", Unit.COUNT),
    currency_field(),
    Field("cost", "Cost", Unit.MONEY),
    Field("cost_at_most", "At most", Unit.MONEY, in_narrow=False),
    Field("share", "Of all cost", Unit.SHARE),
)
_SAID: Final = (
    "Truncated and refused answers are final answers of their rows; invalid ones do not follow"
    " the schema that was asked for; discarded and late ones were paid beside the final answer."
    " What is in doubt may have cost from Cost to At most, and so may what was refused by a"
    " server that may bill it even so; both are in no other report's cost. A share is Cost of"
    " all that was paid, with what is in doubt at its Cost."
)


@dataclass(slots=True)
class Wasted:
    """One kind in one group and currency.

    `unbounded` attempts may have cost any amount; `unpriced` answers have no known cost.
    """

    attempts: int = 0
    output_tokens: int = 0
    cost: int = 0
    cost_at_most: int = 0
    unbounded: int = 0
    unpriced: int = 0

    def add(self, other: "Wasted") -> None:
        """Take up more of the kind."""
        for name in Wasted.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))

    def taken_out(self) -> "Wasted":
        """What takes as much out again."""
        return Wasted(*(-getattr(self, name) for name in Wasted.__slots__))


@dataclass(frozen=True, slots=True)
class WasteFound:
    """What was wasted by key, kind and currency; and the cost of everything, by currency.

    What is in doubt is on both sides of a share, with what it cost at least.
    """

    wasted: dict[tuple[Key, Waste, str], Wasted]
    paid: dict[str, int]

    def by_kind(self) -> dict[tuple[Waste, str], Wasted]:
        """All groups together, in the order of `Waste`."""
        together: dict[tuple[Waste, str], Wasted] = {}
        order = list(Waste)
        for _, kind, currency in sorted(
            self.wasted, key=lambda key: (order.index(key[1]), key[2])
        ):
            together.setdefault((kind, currency), Wasted())
        for (_, kind, currency), wasted in self.wasted.items():
            together[kind, currency].add(wasted)
        return together


def read_waste(ledgers: Ledgers) -> WasteFound:
    """Everything wasted, and the cost of everything to hold it against."""
    found = WasteFound({}, {})
    for ledger in ledgers.each:
        _add_answers(ledger, found)
        open_ends = [*_in_doubt(ledger), *_maybe_billed(ledger)]
        for _, _, currency, wasted in open_ends:
            found.paid[currency] = found.paid.get(currency, 0) + wasted.cost
        for key, kind, currency, wasted in (*_special(ledger), *open_ends):
            if kind is not None:
                found.wasted.setdefault((key, kind, currency), Wasted()).add(wasted)
    for place in [place for place, wasted in found.wasted.items() if not wasted.attempts]:
        del found.wasted[place]
    return found


def waste_table(ledgers: Ledgers) -> Table:
    """A row per group, kind of waste and currency."""
    found = read_waste(ledgers)
    order = list(Waste)
    keys = sorted(found.wasted, key=lambda k: (sort_key(k[0]), order.index(k[1]), k[2]))
    rows = [
        (
            *named_key(key, ledgers.labels[key]),
            kind.value,
            *_cells(found.wasted[key, kind, currency], currency, found.paid),
        )
        for key, kind, currency in keys
    ]
    clean = () if rows else ("Nothing was wasted: no answer was cut off, refused, discarded"
                             " or late, none is in doubt or perhaps billed.",)  # fmt: skip
    return Table(
        name="waste",
        fields=(*key_fields(ledgers.query.by), *_FIELDS),
        rows=tuple(rows),
        totals=_totals(found, ledgers.query.by),
        sentences=sentences_of(
            ledgers, clean or (_SAID, *_unpriced(found)), empty=not rows and not found.paid
        ),
        query=asked(ledgers.query),
    )


def _unpriced(found: WasteFound) -> tuple[str, ...]:
    bare = sum(wasted.unpriced for wasted in found.wasted.values())
    if not bare:
        return ()
    return (f"Of unknown cost, and not in these: {count_of(bare, 'answer')} without a price.",)


_Found = tuple[Key, Waste | None, str, Wasted]


def _add_answers(ledger: OpenLedger, found: WasteFound) -> None:
    """All complete answers by how they ended, from the sums kept of them, as if all were final.

    `_special` puts right those that are not.
    """
    by = (*ledger.scope.query.by, Dimension(Kind.STOP_REASON))
    scope = replace(ledger.scope, query=replace(ledger.scope.query, by=by))
    for group in list(read_answered(ledger.connection, scope)):
        currency, counts = group.currency or USD, group.counts
        found.paid[currency] = found.paid.get(currency, 0) + group.amount
        kind = _end(group.stop_reason)
        if kind is not None:
            place = ledger.key_of(group), kind, currency
            found.wasted.setdefault(place, Wasted()).add(
                Wasted(
                    attempts=counts.attempts,
                    output_tokens=counts.output_tokens,
                    cost=group.amount,
                    cost_at_most=group.amount + counts.assumed_high - counts.assumed_low,
                    unpriced=counts.unpriced_requests,
                )
            )


def _special(ledger: OpenLedger) -> Iterator[_Found]:
    """Answers that are not final, or not valid: taken out there, and put where they belong."""
    for row in ledger.rows(_special_by_end(ledger)):
        amount = whole_sum(row, "amount")
        wasted = Wasted(
            attempts=row["attempts"],
            output_tokens=int(row["output_tokens"] or 0),
            cost=amount,
            cost_at_most=amount + whole_sum(row, "above"),
            unpriced=row["unpriced"],
        )
        key, currency = ledger.key(row), row["currency"] or USD
        yield key, _end(row["end_reason"]), currency, wasted.taken_out()
        yield key, _kind(row), currency, wasted


def _end(reason: str | None) -> Waste | None:
    """What a final answer that ended so is."""
    if reason in _CUT_OFF:
        return Waste.TRUNCATED
    return Waste.REFUSED if reason == _REFUSED else None


def _kind(row: RowMapping) -> Waste | None:
    if row["was_late"]:
        return Waste.LATE
    end = _end(row["end_reason"])
    if row["is_invalid"] and end is None:
        return Waste.INVALID
    if row["is_final"]:
        return end
    return None if row["end_reason"] in _LEGS else Waste.DISCARDED


def _special_by_end(ledger: OpenLedger) -> Select[Any]:
    """Their money, by whether they are final, valid or late, and how they ended."""
    first = or_(charges.c.line == 0, charges.c.line.is_(None))
    late = select(attempts.c.attempt_id).where(NOT_ANSWERED, attempts.c.state == _LATE_SQL)
    # Each by its index, that of few answers: an OR would read all.
    not_final = select(answers.c.attempt_id).where(answers.c.final == _NONE)
    invalid = select(answers.c.attempt_id).where(answers.c.valid == _NONE)
    unpriced = or_(charges.c.status == _UNPRICED_SQL, charges.c.status.is_(None))
    keys: dict[str, ColumnElement[Any]] = {
        **answer_keys(ledger.scope.query),
        "currency": charges.c.currency,
        "is_final": answers.c.final,
        "is_invalid": case((answers.c.valid == _NONE, _ONE), else_=_NONE),
        "end_reason": answers.c.stop_reason,
        "was_late": case((answers.c.attempt_id.in_(late), _ONE), else_=_NONE),
    }
    columns = [column.label(name) for name, column in keys.items()]
    return (
        answers_with_charges(ledger.scope)
        .where(answers.c.attempt_id.in_(not_final.union_all(invalid)))
        .add_columns(
            *columns,
            func.count(case((first, 1))).label("attempts"),
            func.sum(case((first, answers.c.output_tokens))).label("output_tokens"),
            func.count(case((unpriced, answers.c.attempt_id)).distinct()).label("unpriced"),
            *exact_sum(ledger.connection, charges.c.total_amount, "amount"),
            *exact_sum(ledger.connection, ABOVE, "above"),
        )
        .group_by(*(column.element for column in columns))
    )


def _in_doubt(ledger: OpenLedger) -> Iterator[_Found]:
    states = [*(each.value for each in IN_DOUBT), State.OPEN.value]
    return _unanswered(ledger, Waste.IN_DOUBT, attempts.c.state.in_(states))


def _maybe_billed(ledger: OpenLedger) -> Iterator[_Found]:
    billed = func.coalesce(attempts.c.cost_high, _ONE) != _NONE
    return _unanswered(ledger, Waste.MAYBE_BILLED, _REFUSED_SQL & billed)


def _unanswered(
    ledger: OpenLedger, kind: Waste, condition: ColumnElement[bool]
) -> Iterator[_Found]:
    keys = attempt_keys(ledger.scope.query)
    connection = ledger.connection
    statement = (
        select(
            *(column.label(name) for name, column in keys.items()),
            func.count().label("attempts"),
            func.count(case((attempts.c.cost_high.is_(None), 1))).label("unbounded"),
            *exact_sum(connection, attempts.c.cost_low, "low"),
            *exact_sum(connection, func.coalesce(attempts.c.cost_high, 0), "high"),
        )
        .where(
            NOT_ANSWERED,
            condition,
            *conditions(ledger.scope, ATTEMPT_SENT_AT, attempts.c.invocation_id),
        )
        .group_by(*keys.values())
    )
    for row in ledger.rows(statement):
        low, high = whole_sum(row, "low"), whole_sum(row, "high")
        wasted = Wasted(row["attempts"], 0, low, high, row["unbounded"])
        yield ledger.key(row), kind, USD, wasted


def _cells(wasted: Wasted, currency: str, paid: dict[str, int]) -> tuple[Cell, ...]:
    all_of_it = paid.get(currency, 0)
    if wasted.unpriced and wasted.unpriced == wasted.attempts:
        return (wasted.attempts, wasted.output_tokens, currency, None, None, None)
    return (
        wasted.attempts,
        wasted.output_tokens,
        currency,
        wasted.cost,
        None if wasted.unbounded else wasted.cost_at_most,
        Fraction(wasted.cost, all_of_it) if all_of_it else None,
    )


def _totals(found: WasteFound, by: tuple[Dimension, ...]) -> tuple[tuple[Cell, ...], ...]:
    together: dict[str, Wasted] = {}
    for (_, currency), wasted in found.by_kind().items():
        together.setdefault(currency, Wasted()).add(wasted)
    return tuple(
        (*total_key(by), Named(None, ""), *_cells(together[currency], currency, found.paid))
        for currency in sorted(together)
    )
