"""The numbers of the page that are no sums kept: read in few records, however many answers.

The database counts by the first four digits, so that neither memory nor time grows with what
would have to be carried over.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    CompoundSelect,
    Select,
    Subquery,
    Text,
    case,
    cast,
    func,
    null,
    select,
    union_all,
)
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import METERS, answers, attempts, charges
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.scope import (
    ATTEMPT_SENT_AT,
    answer_keys,
    charges_in_force,
    complete_answers,
    conditions,
)
from batcher.report.totals import exact_sum, whole_sum
from batcher.report.views.spread import DIGITS, Buckets

_ONE, _NONE = literal_column("1", BigInteger), literal_column("0", BigInteger)
_FITS: Final = 2**62  # a sum below it has room in 64 bits, and is a third faster in one piece
_USD_SQL: Final[ColumnElement[str]] = literal_column(f"'{USD}'", Text)
_PRIME: Final = 1_000_003
_FACTOR: Final = 618_034  # about the golden ratio of it: inputs that repeat a pattern fit none
_LONGEST: Final = 19  # digits of 64 bits


def cut_off(number: ColumnElement[Any]) -> ColumnElement[int]:
    """`number`, from 0 on, with all digits after the first four made zero.

    In whole numbers only, and written out, so that both databases make the same of it and know
    it again where it is grouped by.
    """
    short = (number < _whole(10**DIGITS), number)
    longer = [
        (
            number < _whole(10 ** (length + 1)),
            number // _whole(10 ** (length + 1 - DIGITS))
            * _whole(10 ** (length + 1 - DIGITS)),
        )
        for length in range(DIGITS, _LONGEST - 1)
    ]  # fmt: skip
    rest = _whole(10 ** (_LONGEST - DIGITS))
    return case(short, *longer, else_=number // rest * rest)


def _whole(value: int) -> ColumnElement[int]:
    return literal_column(str(value), BigInteger)


@dataclass(frozen=True, slots=True)
class MeterSums:
    """Of one currency, in the order of `METERS`; amounts in pico-units."""

    quantities: tuple[int, ...]
    amounts: tuple[int, ...]


def read_meter_sums(ledgers: Ledgers, currency: str, total: int) -> MeterSums:
    """All that was charged in `currency`, by meter; it is about `total` together."""
    quantities, amounts = [0] * len(METERS), [0] * len(METERS)
    for ledger in ledgers.each:
        for row in ledger.rows(_meter_sums(ledger, currency, total < _FITS)):
            for number, meter in enumerate(METERS):
                quantities[number] += int(row[f"{meter}_quantity"] or 0)
                amounts[number] += whole_sum(row, f"{meter}_amount")
    return MeterSums(tuple(quantities), tuple(amounts))


def read_row_buckets(ledgers: Ledgers, currency: str, one_in: int = 1) -> Buckets:
    """What each answered row cost: legs, retries and late answers together, as in `units`.

    Rows of which a part has no price, or another currency, are left out. `one_in` above 1 takes
    only so many of the rows, evenly.
    """
    found = Buckets()
    for ledger in ledgers.each:
        for row in ledger.rows(_row_buckets(ledger, currency, one_in)):
            found.add(
                int(row["edge"]), row["numbers"], whole_sum(row, "amounts"), int(row["largest"])
            )
    return found


@dataclass(frozen=True, slots=True)
class Latencies:
    """Microseconds: by key to the whole answer, of all together to the first token."""

    whole: dict[Key, Buckets]
    first_token: Buckets


def read_latencies(ledgers: Ledgers, one_in: int = 1) -> Latencies:
    """The times of every complete answer, or of those of one row in so many."""
    found = Latencies({}, Buckets())
    for ledger in ledgers.each:
        for row in ledger.rows(_times(ledger, one_in)):
            is_whole = row["is_whole"]
            whole = found.whole.setdefault(ledger.key(row), Buckets()) if is_whole else None
            _add(found.first_token if whole is None else whole, row)
    return found


def _add(buckets: Buckets, row: Any) -> None:  # noqa: ANN401 - a record
    buckets.add(int(row["edge"]), row["numbers"], whole_sum(row, "times"), int(row["largest"]))


def _meter_sums(ledger: OpenLedger, currency: str, fits: bool) -> Select[Any]:  # noqa: FBT001
    def amount(meter: str) -> list[ColumnElement[Any]]:
        value, name = charges.c[f"{meter}_amount"], f"{meter}_amount"
        # SQLite refuses a sum of more than 64 bits, so that a wrong guess is no wrong amount.
        return (
            [func.sum(value).label(name)] if fits else exact_sum(ledger.connection, value, name)
        )

    def quantity(meter: str) -> ColumnElement[Any]:
        return func.sum(charges.c[f"{meter}_quantity"]).label(f"{meter}_quantity")

    sums = [column for meter in METERS for column in (quantity(meter), *amount(meter))]
    everything = not _what_counts(ledger)
    found = _over_all_charges(ledger, *sums) if everything else _over_charges(ledger, *sums)
    return found.where(charges.c.currency == currency)


def _over_all_charges(ledger: OpenLedger, *columns: ColumnElement[Any]) -> Select[Any]:
    """Those in force. Only complete answers have charges."""
    return charges_in_force(ledger.scope.bound).add_columns(*columns)


def _over_charges(ledger: OpenLedger, *columns: ColumnElement[Any]) -> Select[Any]:
    """Those in force that count, joined to their attempts, which are shorter than answers."""
    same = attempts.c.attempt_id == charges.c.attempt_id
    return (
        charges_in_force(ledger.scope.bound)
        .join(attempts, same)
        .add_columns(*columns)
        .where(*_what_counts(ledger))
    )


def _what_counts(ledger: OpenLedger) -> list[ColumnElement[bool]]:
    return conditions(ledger.scope, ATTEMPT_SENT_AT, attempts.c.invocation_id)


def _evenly(identifier: ColumnElement[Any], one_in: int) -> list[ColumnElement[bool]]:
    """Takes one record in so many; always the same ones."""
    if one_in == 1:
        return []
    place = identifier % _PRIME * _FACTOR % _PRIME
    return [place < _PRIME // one_in]


def _row_buckets(ledger: OpenLedger, currency: str, one_in: int) -> Select[Any]:
    rows = _rows(ledger, one_in)
    edge = cut_off(rows.c.amount)
    return (
        select(
            edge.label("edge"),
            func.count().label("numbers"),
            func.max(rows.c.amount).label("largest"),
            *exact_sum(ledger.connection, rows.c.amount, "amounts"),
        )
        .where(
            rows.c.is_answered == 1,
            rows.c.priced == rows.c.lines,
            func.coalesce(rows.c.first_currency, _USD_SQL) == currency,
            func.coalesce(rows.c.last_currency, _USD_SQL) == currency,
        )
        .group_by(edge)
    )


def _rows(ledger: OpenLedger, one_in: int) -> Subquery:
    """A record for each request: its charges together, and whether one is of a final answer."""
    others = select(answers.c.attempt_id).where(answers.c.final == _NONE)  # by its index
    is_final = case((charges.c.attempt_id.in_(others), _NONE), else_=_ONE)
    return (
        _over_charges(
            ledger,
            func.max(is_final).label("is_answered"),
            func.count().label("lines"),
            func.count(charges.c.total_amount).label("priced"),
            func.min(charges.c.currency).label("first_currency"),
            func.max(charges.c.currency).label("last_currency"),
            cast(func.sum(charges.c.total_amount), BigInteger).label("amount"),
        )
        .where(*_evenly(attempts.c.request_id, one_in))
        .group_by(attempts.c.request_id)
        .subquery()
    )


def _times(ledger: OpenLedger, one_in: int) -> CompoundSelect[Any]:
    """Both times of each answer, counted: to the last byte by keys, to the first without."""
    keys = answer_keys(ledger.scope.query)
    columns = [column.label(name) for name, column in keys.items()]
    found = complete_answers(ledger.scope).add_columns(
        *columns, answers.c.latency_us.label("whole"), answers.c.first_token_us.label("first")
    )
    if one_in > 1:  # attempts are short: to choose among answers all of them would be read
        chosen = select(attempts.c.attempt_id).where(*_evenly(attempts.c.attempt_id, one_in))
        found = found.where(answers.c.attempt_id.in_(chosen))
    each = found.cte("each")
    whole = _counted(ledger, each.c.whole, _ONE, [each.c[name] for name in keys])
    nothing = [cast(null(), each.c[name].type).label(name) for name in keys]
    return union_all(whole, _counted(ledger, each.c.first, _NONE, nothing))


def _counted(
    ledger: OpenLedger,
    time: ColumnElement[Any],
    is_whole: ColumnElement[int],
    keys: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    edge = cut_off(time)
    return (
        select(
            *keys,
            is_whole.label("is_whole"),
            edge.label("edge"),
            func.count().label("numbers"),
            func.max(time).label("largest"),
            *exact_sum(ledger.connection, time, "times"),
        )
        .where(time.is_not(None))
        .group_by(*(key for key in keys if is_whole is _ONE), edge)
    )
