"""What became of each row of an input, read from the ledger in small pieces, in row order."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import chain
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, func, select
from sqlalchemy.sql.elements import literal_column

from batcher.clock import moment_of
from batcher.errors import UsageError
from batcher.ledger.connect import reading
from batcher.ledger.schema import (
    NOT_KEPT,
    answers,
    attempts,
    charges,
    failures,
    runs,
    shared_answers,
    sources,
)
from batcher.ledger.write.records import what_changed
from batcher.messages.legs import LEG_STOP_REASONS
from batcher.messages.request import State
from batcher.pricing.money import usd_text
from batcher.report.export.stored import (
    ANSWERS,
    CHUNK,
    RESULT_COLUMNS,
    SHARED,
    STATUS,
    UNREADABLE,
    Cells,
    Outcome,
    Piece,
    StoredAnswer,
    in_row_order,
    read_piece,
    unreadable,
    without_answer,
)
from batcher.report.scope import charges_in_force
from batcher.rows.read.reader import original_lines
from batcher.rows.read.source import Place, is_there, place_of, source_of

_EARLIER_LEG: Final[ColumnElement[bool]] = literal_column(
    "answers.final = 0"
)  # as the index says it
_TOKENS: Final = (
    "input_tokens", "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
    "cache_read_tokens", "output_tokens", "thinking_tokens", "web_search_requests",
)  # fmt: skip
ANSWERED: Final = "answered"
_USD: Final = "USD"
_Cost = tuple[str | None, str | None, str]  # amount, currency and status
_PAID_ELSEWHERE: Final[_Cost] = (usd_text(0), _USD, "unbilled")
# The `reason` of an answer whose words are not in the ledger any more, or never were.
ANSWER_NOT_KEPT: Final = "ANSWER_NOT_KEPT"
# The least certain of an answer's charges names the whole.
_CERTAINTY: Final = ("unbilled", "priced", "assumed", "unpriced")
_UNPRICED: Final[_Cost] = (None, None, _CERTAINTY[-1])

# Which outcome of a row counts: what may hide an answer goes before a failure.
_RANKS: Final = {ANSWERED: 0, UNREADABLE: 1}
_END: Final[Outcome] = (2**63, ())
_FIRST_TOKENS: Final = RESULT_COLUMNS.index(_TOKENS[0])
_UIDS: Final = RESULT_COLUMNS.index("attempt_uid")


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportSource:
    """One version of an input that still counts, as the run read it."""

    source_id: int
    name: str
    place: Place
    fingerprint: str
    rows: int | None

    def last_row(self) -> int | None:
        """Its number; where the run has not seen the end of the input, that is read."""
        if self.rows is not None or not is_there(self.place):
            return self.rows
        lines = original_lines(source_of(self.name, self.place))
        return max((number for number, _ in lines), default=0)


@dataclass(frozen=True, slots=True)
class Position:
    """Where the ledger ended when the export began: what comes later is not looked at."""

    attempt_id: int
    failure_id: int
    shared_id: int


@dataclass(frozen=True, slots=True)
class _Charge:
    status: str
    currency: str | None
    amount: int | None


def read_sources(engine: Engine, run_id: int) -> tuple[ExportSource, ...]:
    """The inputs of the run, in the order they were first seen.

    Raises `UsageError` when there is no such run.
    """
    table = sources.c
    statement = (
        select(table.source_id, table.name, table.location, table.fingerprint, table.rows)
        .where(table.run_id == run_id, table.superseded_by.is_(None))
        .order_by(table.source_id)
    )
    names = (
        select(table.name, func.min(table.source_id))
        .where(table.run_id == run_id)
        .group_by(table.name)
    )
    with reading(engine) as connection:
        if connection.execute(select(runs).where(runs.c.run_id == run_id)).first() is None:
            raise UsageError(f"there is no run {run_id} here: `batcher status` lists all runs")
        first_seen = dict(connection.execute(names).all())
        found = [
            ExportSource(
                source_id=row.source_id,
                name=row.name,
                place=place_of(row.location),
                fingerprint=row.fingerprint,
                rows=row.rows,
            )
            for row in connection.execute(statement)
        ]
    return tuple(sorted(found, key=lambda each: (first_seen[each.name], each.source_id)))


def read_position(engine: Engine) -> Position:
    """The end of the ledger, now."""
    with reading(engine) as connection:
        return Position(
            connection.execute(select(func.max(attempts.c.attempt_id))).scalar() or 0,
            connection.execute(select(func.max(failures.c.failure_id))).scalar() or 0,
            connection.execute(select(func.max(shared_answers.c.shared_id))).scalar() or 0,
        )


def read_outcomes(
    engine: Engine, source: ExportSource, position: Position
) -> Iterator[Outcome]:
    """Row number and result columns of every row with an answer or a reason not to have one.

    In row order, each row once: an answer wins. No transaction stays open between two rows.
    Rows where the database is damaged are `unreadable`.
    """
    answered, shared, failed = (
        in_row_order(engine, partial(read, source.source_id, position), source.last_row)
        for read in (_answers, _shared, _failures)
    )
    return _merged(answered, _merged(shared, failed))


def _merged(many: Iterator[Outcome], few: Iterator[Outcome]) -> Iterator[Outcome]:
    """Both in row order, each row once: of two outcomes the one that counts."""
    last, other = -1, next(few, _END)
    for each in chain(many, (_END,)):
        number = each[0]
        while other[0] < number:
            if other[0] != last:
                yield other
                last = other[0]
            other = next(few, _END)
        if number not in {last, _END[0]}:
            yield each if other[0] != number else min(each, other, key=_rank)
            last = number


def read_failed(engine: Engine, source: ExportSource, position: Position) -> Iterator[Outcome]:
    """The rows that are quarantined, failed or held, like `read_outcomes`."""
    read = partial(_failures, source.source_id, position)
    return in_row_order(engine, read, source.last_row)


def _rank(outcome: Outcome) -> int:
    return _RANKS.get(outcome[1][STATUS], len(_RANKS))


def _answers(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> Piece:
    bounds = {"source": source_id, "after": after, "until": until, "end": position.attempt_id}
    rows, whole = read_piece(connection, ANSWERS, bounds)
    legs = _earlier_legs(connection, [row.request_id for row in rows if row.legs > 1])
    ids = [row.attempt_id for row in rows if row.legs > 1 or row.second_line is not None]
    paid = _charges(
        connection, [*ids, *(leg.attempt_id for each in legs.values() for leg in each)]
    )
    found = (_answered(row, legs.get(row.request_id, ()), paid) for row in rows)
    return Piece(found, rows[-1].row_number if rows else after, whole)


def _answered(
    row: StoredAnswer, legs: Sequence[Any], paid: Mapping[int, list[_Charge]]
) -> Outcome:
    if what_changed(row) is not None:
        return unreadable(row.row_number)
    if not legs and row.second_line is None:
        cost = _cost_of(row.status, row.currency, row.total_amount)
    else:
        cost = _cost([paid.get(part.attempt_id, []) for part in (row, *legs)])
    return row.row_number, _answer_cells(row, legs, cost)


def _shared(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> Piece:
    """Answers of other rows, which paid for them."""
    bounds = {"source": source_id, "after": after, "until": until, "end": position.shared_id}
    rows, whole = read_piece(connection, SHARED, bounds)
    legs = _earlier_legs(connection, [row.request_id for row in rows if row.legs > 1])
    found = (_paid_elsewhere(row, legs.get(row.request_id, ())) for row in rows)
    return Piece(found, rows[-1].row_number if rows else after, whole)


def _paid_elsewhere(row: StoredAnswer, legs: Sequence[Any]) -> Outcome:
    if what_changed(row) is not None:
        return unreadable(row.row_number)
    cells = _answer_cells(row, legs, _PAID_ELSEWHERE)
    return row.row_number, (*cells[:_UIDS], None, row.attempt_uid)


def _earlier_legs(connection: Connection, request_ids: Sequence[int]) -> dict[int, list[Any]]:
    """Answered legs before the last, by request; late answers are no part of it."""
    found: dict[int, list[Any]] = {}
    if not request_ids:
        return found
    columns = [answers.c[name] for name in ("attempt_id", "request_id", *_TOKENS)]
    statement = (
        select(*columns)
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .where(_EARLIER_LEG, answers.c.request_id.in_(request_ids))
        .where(attempts.c.state == State.ANSWERED.value)
        .where(answers.c.stop_reason.in_(LEG_STOP_REASONS))  # others were replaced
    )
    for row in connection.execute(statement):
        found.setdefault(row.request_id, []).append(row)
    return found


def _charges(connection: Connection, attempt_ids: Sequence[int]) -> dict[int, list[_Charge]]:
    table = charges.c
    found: dict[int, list[_Charge]] = {}
    if not attempt_ids:
        return found
    columns = (table.attempt_id, table.status, table.currency, table.total_amount)
    statement = (
        charges_in_force().add_columns(*columns).where(table.attempt_id.in_(attempt_ids))
    )
    for attempt_id, status, currency, amount in connection.execute(statement):
        found.setdefault(attempt_id, []).append(_Charge(status, currency, amount))
    return found


def _answer_cells(row: StoredAnswer, legs: Sequence[Any], cost: _Cost) -> Cells:
    """All that every exported row has, in its order: this is done very often."""
    content = row.content if row.joined_content is None else row.joined_content
    text = row.text if row.joined_text is None else row.joined_text
    kept = content != NOT_KEPT
    first_token = row.first_token_us
    cells = (
        row.custom_id,
        None,
        row.row_number,
        ANSWERED,
        None if kept else ANSWER_NOT_KEPT,
        None if kept else "not stored, or purged",
        row.requested_model,
        row.model,
        row.message_id,
        row.stop_reason,
        row.stop_sequence,
        text if kept else None,
        msgspec.Raw(content.encode()) if kept else None,
        row.input_tokens,
        row.cache_write_tokens,
        row.cache_write_5m_tokens,
        row.cache_write_1h_tokens,
        row.cache_read_tokens,
        row.output_tokens,
        row.thinking_tokens,
        row.web_search_requests,
        row.service_tier,
        row.attempts,
        row.legs,
        row.latency_us // 1000,
        None if first_token is None else first_token // 1000,
        _moment(row.answered_at),
        *cost,
        row.attempt_uid,
        None,
    )
    return _with_earlier(cells, row, legs) if legs else cells


def _with_earlier(cells: Cells, row: StoredAnswer, legs: Sequence[Any]) -> Cells:
    """The same with the tokens of all legs."""
    tokens = (_sum_known(getattr(part, name) for part in (row, *legs)) for name in _TOKENS)
    return (*cells[:_FIRST_TOKENS], *tokens, *cells[_FIRST_TOKENS + len(_TOKENS) :])


def _moment(moment_us: int) -> str:
    """The time as ISO 8601, with microseconds where there are some."""
    second, rest = divmod(moment_us, 1_000_000)
    return f"{_second(second)}.{rest:06}Z" if rest else f"{_second(second)}Z"


@lru_cache(maxsize=1024)
def _second(second: int) -> str:
    return moment_of(second * 1_000_000).isoformat().removesuffix("+00:00")


def _cost_of(status: str | None, currency: str | None, amount: int | None) -> _Cost:
    """The same as `_cost` for an answer with one charge, as most have; `None`: with none."""
    if status is None or status == _CERTAINTY[-1]:
        return _UNPRICED
    return usd_text(amount or 0), currency or _USD if amount else _USD, status


def _cost(of_parts: list[list[_Charge]]) -> _Cost:
    """The exact sum as text; no amount where a part has no price or currencies differ."""
    found = [charge for part in of_parts for charge in part]
    if not all(of_parts):
        return _UNPRICED
    status = max((charge.status for charge in found), key=_CERTAINTY.index)
    currencies = {charge.currency for charge in found if charge.amount} - {None}
    if status == _CERTAINTY[-1] or len(currencies) > 1:
        return None, None, status
    total = sum(charge.amount or 0 for charge in found)
    return usd_text(total), next(iter(currencies), _USD), status


def _failures(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> Piece:
    table = failures.c
    statement = (
        select(table.row_number, table.custom_id, table.kind, table.reason, table.message)
        .where(table.source_id == source_id)
        .where(table.row_number > after, table.row_number <= until)
        .where(table.failure_id <= position.failure_id)
        .order_by(table.row_number)
        .limit(CHUNK)
    )
    found: list[Outcome] = [
        (
            row.row_number,
            (row.custom_id, *without_answer(row.kind, row.reason, row.message)[1:]),
        )
        for row in connection.execute(statement)
    ]
    return Piece(found, found[-1][0] if found else after, len(found) < CHUNK)


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None
