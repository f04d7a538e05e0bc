"""What the ledger has of rows, for exports: in row order, in pieces, past what is damaged.

A piece has so many rows and bytes. Where one cannot be read it is halved until the row is found
that hides the damage, and what follows is read in growing pieces again.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    FromClause,
    Select,
    and_,
    bindparam,
    null,
    select,
)

from batcher.errors import DamagedDatabase
from batcher.ledger.connect import reading
from batcher.ledger.schema import answers, attempts, charges, shared_answers
from batcher.report.run_state import FINAL

CHUNK: Final = 300  # rows of a piece at most: these stay in the processor's cache
UNREADABLE: Final = "unreadable"
_MOST_NAMED: Final = 10

# What every exported row has, in this order. A row's own column of such a name gets `row_` in
# front; its own `custom_id` is the same and left out.
RESULT_COLUMNS: Final = (
    "custom_id", "source", "row_number", "status", "reason", "message", "requested_model",
    "model", "message_id", "stop_reason", "stop_sequence", "text", "content", "input_tokens",
    "cache_write_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens", "cache_read_tokens",
    "output_tokens", "thinking_tokens", "web_search_requests", "service_tier", "attempts",
    "legs", "latency_ms", "first_token_ms", "answered_at", "cost", "currency", "cost_status",
    "attempt_uid", "paid_by_attempt_uid",
)  # fmt: skip
STATUS, REASON, MESSAGE = 3, 4, 5  # of the columns
OF_THE_ROW: Final = STATUS  # the columns before say which row it is

Cells = tuple[Any, ...]  # of `RESULT_COLUMNS`
Outcome = tuple[int, Cells]


_NO_END: Final = 2**62
_PIECE_BYTES: Final = 4 * 2**20
_FEW: Final = 20  # rows that are read before their bytes are counted
_STREAMED: Final = {"yield_per": _FEW}


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows that follow each other, made as they are taken, and the number of the last.

    `whole` where none of those that were asked for is left.
    """

    found: Iterable[Outcome]
    last: int
    whole: bool


Read = Callable[[Connection, int, int], Piece]


def without_answer(status: str, reason: str | None, message: str | None) -> Cells:
    """The cells of a row that has none, but for which row it is."""
    return (*_NO_ROW, status, reason, message, *_NO_ANSWER)


_NO_ROW: Final = (None,) * OF_THE_ROW
_NO_ANSWER: Final = (None,) * (len(RESULT_COLUMNS) - MESSAGE - 1)
_UNREADABLE_ROW: Final = without_answer(
    UNREADABLE, "DAMAGED_DATABASE", "the database is damaged where this row is"
)


def in_row_order(
    engine: Engine, read: Read, last_row: Callable[[], int | None]
) -> Iterator[Outcome]:
    """What `read` finds of the rows after the one and up to the other that it is given.

    It reads some of them, in order. No transaction stays open between two rows. A
    row that cannot be read comes as one that is `unreadable`. `last_row` is asked when there is
    damage; `None`: nobody knows how many rows there are.

    Raises:
        DamagedDatabase: there is damage, and no last row.
    """
    after, until, end = -1, _NO_END, _NO_END
    while after < end:
        try:
            with reading(engine) as connection:
                piece = read(connection, after, until)
        except DamagedDatabase:
            if end == _NO_END:
                end = until = _known(last_row())
            elif until - after > 1:
                until = after + (until - after) // 2
            else:
                yield until, _UNREADABLE_ROW
                after, until = until, min(until + 1, end)
            continue
        yield from piece.found
        read_to, size = (until if piece.whole else piece.last), until - after
        after, until = read_to, min(read_to + 2 * size, end)


def _known(last: int | None) -> int:
    if last is None:
        raise DamagedDatabase(
            "the database is damaged, and how many rows the input has is not known: put the"
            " input back, or restore a backup of the database"
        )
    return last


def unreadable(row_number: int) -> Outcome:
    """A row that can be read, and is not what was recorded."""
    return row_number, _UNREADABLE_ROW


def named(rows: list[int]) -> str:
    """Row numbers as people read them: `3, 17-40 and 12 more`."""
    ranges: list[list[int]] = []
    for row in rows:
        if ranges and row == ranges[-1][1] + 1:
            ranges[-1][1] = row
        else:
            ranges.append([row, row])
    told = ", ".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges[:_MOST_NAMED])
    more = sum(b - a + 1 for a, b in ranges[_MOST_NAMED:])
    return f"{told} and {more:,} more" if more else told


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
    status: str | None
    currency: str | None
    total_amount: int | None
    second_line: int | None


def read_piece(
    connection: Connection, statement: Select[Any], bounds: Mapping[str, int]
) -> tuple[list[StoredAnswer], bool]:
    """Some rows between the `bounds`, fewer where they are long; and whether that is all."""
    rows: list[StoredAnswer] = []
    size = 0
    with connection.execute(statement, bounds, execution_options=_STREAMED) as result:
        while few := list(map(StoredAnswer._make, result.fetchmany(_FEW))):
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
_PLACED: Final = ("row_number", "custom_id")  # where an answer is shared: not the answer's
_OF_NO_CHARGE: Final = tuple(null().label(n) for n in StoredAnswer._fields[len(_COLUMNS) + 1 :])
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
_placed = {**answers.c, **{name: shared_answers.c[name] for name in _PLACED}}
SHARED: Final = (
    select(*(_placed[name] for name in _COLUMNS), attempts.c.attempt_uid, *_OF_NO_CHARGE)
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
