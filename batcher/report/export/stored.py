"""Answers as they are stored, for exports: in row order, so many bytes at a time."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    FromClause,
    Select,
    and_,
    bindparam,
    select,
)

from batcher.ledger.schema import answers, attempts, charges, shared_answers
from batcher.report.export.past_damage import CHUNK
from batcher.report.run_state import FINAL


class StoredAnswer(NamedTuple):
    """An answer as it is stored, with its attempt and its first charge; read very often."""

    custom_id: str | None
    requested_model: str
    model: str | None
    message_id: str | None
    stop_reason: str | None
    stop_sequence: str | None
    service_tier: str | None
    attempts: int
    legs: int
    input_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    web_search_requests: int | None
    row_number: int
    attempt_id: int
    request_id: int
    text: str
    content: str
    joined_text: str | None
    joined_content: str | None
    usage: str | None
    checksum: int | None
    latency_us: int
    first_token_us: int | None
    answered_at: int
    attempt_uid: str
    status: str | None = None
    currency: str | None = None
    total_amount: int | None = None
    second_line: int | None = None


def read_piece(
    connection: Connection, statement: Select[Any], bounds: Mapping[str, int]
) -> tuple[list[StoredAnswer], bool]:
    """Some rows between the `bounds`, fewer where they are long; and whether that is all."""
    rows: list[StoredAnswer] = []
    size = 0
    with connection.execute(statement, bounds, execution_options=_STREAMED) as result:
        while few := [StoredAnswer(*row) for row in result.fetchmany(_FEW)]:
            rows += few
            size += sum(len(row.content) + len(row.text) for row in few)
            if size > _PIECE_BYTES:
                return rows, False
    return rows, len(rows) < CHUNK


def _line_of_answer(charge: FromClause, line: int) -> ColumnElement[bool]:
    """Its charge in force; most answers have one, for the first line."""
    mine = (charge.c.attempt_id == answers.c.attempt_id, charge.c.line == line)
    return and_(*mine, charge.c.current == 1)


_COLUMNS: Final = StoredAnswer._fields[: StoredAnswer._fields.index("attempt_uid")]
_OF_THE_ROW: Final = ("row_number", "custom_id")  # where an answer is shared: not the answer's
_PIECE_BYTES: Final = 4 * 2**20
_FEW: Final = 20  # rows that are read before their bytes are counted
_STREAMED: Final = {"yield_per": _FEW}
_first = charges.alias("first")
_second = charges.alias("second")
ANSWERS: Final = (
    select(*(answers.c[name] for name in _COLUMNS), attempts.c.attempt_uid)
    .add_columns(_first.c.status, _first.c.currency, _first.c.total_amount)
    .add_columns(_second.c.line.label("second_line"))
    .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
    .outerjoin(_first, _line_of_answer(_first, 0))
    .outerjoin(_second, _line_of_answer(_second, 1))
    .where(FINAL, answers.c.source_id == bindparam("source"))
    .where(answers.c.row_number > bindparam("after"))
    .where(answers.c.row_number <= bindparam("until"))
    .where(answers.c.attempt_id <= bindparam("end"))
    .order_by(answers.c.row_number)
    .limit(CHUNK)
)
_placed = {**answers.c, **{name: shared_answers.c[name] for name in _OF_THE_ROW}}
SHARED: Final = (
    select(*(_placed[name] for name in _COLUMNS), attempts.c.attempt_uid)
    .select_from(shared_answers)
    .join(answers, answers.c.attempt_id == shared_answers.c.attempt_id)
    .join(attempts, attempts.c.attempt_id == shared_answers.c.attempt_id)
    .where(shared_answers.c.source_id == bindparam("source"))
    .where(shared_answers.c.row_number > bindparam("after"))
    .where(shared_answers.c.row_number <= bindparam("until"))
    .where(shared_answers.c.shared_id <= bindparam("end"))
    .order_by(shared_answers.c.row_number)
    .limit(CHUNK)
)
