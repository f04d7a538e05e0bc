"""What became of each row of an input, read from the ledger in small pieces, in row order."""

import heapq
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import msgspec
from sqlalchemy import ColumnElement, Connection, Engine, RowMapping, func, select
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
from batcher.ledger.verify.checks import what_changed
from batcher.messages.attempt import State
from batcher.messages.legs import LEG_STOP_REASONS
from batcher.pricing.money import usd_text
from batcher.report.export.past_damage import (
    CHUNK,
    UNREADABLE,
    Outcome,
    in_row_order,
    unreadable,
)
from batcher.report.run_state import FINAL
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
_COPIED: Final = (
    "custom_id", "requested_model", "model", "message_id", "stop_reason", "stop_sequence",
    "service_tier", "attempts", "legs",
)  # fmt: skip
_OF_THE_ROW: Final = ("row_number", "custom_id")  # where an answer is shared: not the answer's
_PAID_ELSEWHERE: Final = {"cost": usd_text(0), "currency": "USD", "cost_status": "unbilled"}
# The `reason` of an answer whose words are not in the ledger any more, or never were.
ANSWER_NOT_KEPT: Final = "ANSWER_NOT_KEPT"
# The least certain of an answer's charges names the whole.
_CERTAINTY: Final = ("unbilled", "priced", "assumed", "unpriced")

# Which outcome of a row counts: what may hide an answer goes before a failure.
_RANKS: Final = {"answered": 0, UNREADABLE: 1}


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
    streams = [
        in_row_order(engine, partial(read, source.source_id, position), source.last_row)
        for read in (_answers, _shared, _failures)
    ]
    last = -1
    for row_number, outcome in heapq.merge(*streams, key=_rank):
        if row_number != last:
            yield row_number, outcome
        last = row_number


def read_failed(engine: Engine, source: ExportSource, position: Position) -> Iterator[Outcome]:
    """The rows that are quarantined, failed or held, like `read_outcomes`."""
    read = partial(_failures, source.source_id, position)
    return in_row_order(engine, read, source.last_row)


def _rank(outcome: Outcome) -> tuple[int, int]:
    row_number, columns = outcome
    return row_number, _RANKS.get(columns["status"], len(_RANKS))


def _answers(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> list[Outcome]:
    statement = (
        select(answers, attempts.c.attempt_uid)
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .where(FINAL, answers.c.source_id == source_id)
        .where(answers.c.row_number > after, answers.c.row_number <= until)
        .where(answers.c.attempt_id <= position.attempt_id)
        .order_by(answers.c.row_number)
        .limit(CHUNK)
    )
    rows = connection.execute(statement).mappings().all()
    legs = _earlier_legs(connection, [row["request_id"] for row in rows if row["legs"] > 1])
    ids = [row["attempt_id"] for row in rows]
    ids += [leg["attempt_id"] for each in legs.values() for leg in each]
    paid = _charges(connection, ids)
    return [
        (
            row["row_number"],
            _answer_columns(row, legs.get(row["request_id"], []))
            | {"attempt_uid": row["attempt_uid"]}
            | _cost([paid.get(part["attempt_id"], []) for part in parts]),
        )
        if what_changed(row) is None
        else unreadable(row["row_number"])
        for row in rows
        for parts in [[row, *legs.get(row["request_id"], [])]]
    ]


def _shared(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> list[Outcome]:
    """Answers of other rows, which paid for them."""
    table = shared_answers.c
    placed = [column for column in answers.c if column.name not in _OF_THE_ROW]
    statement = (
        select(*placed, *(table[name] for name in _OF_THE_ROW))
        .add_columns(attempts.c.attempt_uid.label("paid_by_attempt_uid"))
        .join(answers, answers.c.attempt_id == table.attempt_id)
        .join(attempts, attempts.c.attempt_id == table.attempt_id)
        .where(table.source_id == source_id)
        .where(table.row_number > after, table.row_number <= until)
        .where(table.shared_id <= position.shared_id)
        .order_by(table.row_number)
        .limit(CHUNK)
    )
    rows = connection.execute(statement).mappings().all()
    legs = _earlier_legs(connection, [row["request_id"] for row in rows if row["legs"] > 1])
    return [
        (
            row["row_number"],
            _answer_columns(row, legs.get(row["request_id"], []))
            | {"paid_by_attempt_uid": row["paid_by_attempt_uid"], **_PAID_ELSEWHERE},
        )
        if what_changed(row) is None
        else unreadable(row["row_number"])
        for row in rows
    ]


def _earlier_legs(
    connection: Connection, request_ids: Sequence[int]
) -> dict[int, list[RowMapping]]:
    """Answered legs before the last, by request; late answers are no part of it."""
    found: dict[int, list[RowMapping]] = {}
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
    for row in connection.execute(statement).mappings():
        found.setdefault(row["request_id"], []).append(row)
    return found


def _charges(connection: Connection, attempt_ids: Sequence[int]) -> dict[int, list[_Charge]]:
    table = charges.c
    columns = (table.attempt_id, table.status, table.currency, table.total_amount)
    statement = (
        charges_in_force().add_columns(*columns).where(table.attempt_id.in_(attempt_ids))
    )
    found: dict[int, list[_Charge]] = {}
    for attempt_id, status, currency, amount in connection.execute(statement):
        found.setdefault(attempt_id, []).append(_Charge(status, currency, amount))
    return found


def _answer_columns(row: RowMapping, legs: Iterable[RowMapping]) -> dict[str, Any]:
    parts = [row, *legs]
    return {
        "status": "answered",
        **{name: row[name] for name in _COPIED},
        **_words(row),
        **{name: _sum_known(part[name] for part in parts) for name in _TOKENS},
        "latency_ms": row["latency_us"] // 1000,
        "first_token_ms": _milliseconds(row["first_token_us"]),
        "answered_at": moment_of(row["answered_at"]).isoformat().replace("+00:00", "Z"),
    }


def _words(row: RowMapping) -> dict[str, Any]:
    content = row["content"] if row["joined_content"] is None else row["joined_content"]
    if content == NOT_KEPT:
        return {"reason": ANSWER_NOT_KEPT, "message": "not stored, or purged"}
    return {
        "text": row["text"] if row["joined_text"] is None else row["joined_text"],
        "content": msgspec.Raw(content.encode()),
    }


def _cost(of_parts: list[list[_Charge]]) -> dict[str, str | None]:
    """The exact sum as text; no amount where a part has no price or currencies differ."""
    found = [charge for part in of_parts for charge in part]
    if not all(of_parts):
        return {"cost": None, "currency": None, "cost_status": _CERTAINTY[-1]}
    status = max((charge.status for charge in found), key=_CERTAINTY.index)
    currencies = {charge.currency for charge in found if charge.amount} - {None}
    if status == _CERTAINTY[-1] or len(currencies) > 1:
        return {"cost": None, "currency": None, "cost_status": status}
    total = sum(charge.amount or 0 for charge in found)
    currency = next(iter(currencies), "USD")
    return {"cost": usd_text(total), "currency": currency, "cost_status": status}


def _failures(
    source_id: int, position: Position, connection: Connection, after: int, until: int
) -> list[Outcome]:
    table = failures.c
    statement = (
        select(table.row_number, table.custom_id, table.kind, table.reason, table.message)
        .where(table.source_id == source_id)
        .where(table.row_number > after, table.row_number <= until)
        .where(table.failure_id <= position.failure_id)
        .order_by(table.row_number)
        .limit(CHUNK)
    )
    return [
        (
            row.row_number,
            {
                "status": row.kind,
                "reason": row.reason,
                "message": row.message,
                "custom_id": row.custom_id,
            },
        )
        for row in connection.execute(statement)
    ]


def _sum_known(counts: Iterable[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _milliseconds(microseconds: int | None) -> int | None:
    return None if microseconds is None else microseconds // 1000
