"""Drops what was said and keeps what it cost: old answers lose their words, in small steps.

What stays is what a row is known by, its stop reason, tokens, usage and charges: resuming,
reports, `verify` and repricing find what they found before.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    Engine,
    Select,
    Table,
    and_,
    func,
    or_,
    select,
    text,
    true,
    update,
)
from sqlalchemy.exc import OperationalError

from batcher.errors import Busy
from batcher.ledger.connect import outside_transactions, reading, writing
from batcher.ledger.owner.lock import hold_database
from batcher.ledger.schema import NOT_KEPT, answers, attempts, failures, invocations
from batcher.ledger.schema_internal import tool_results, unusable_bodies
from batcher.ledger.server import quoted, schema_of
from batcher.ledger.write.encode import WITHOUT_WORDS
from batcher.messages.request import attempt_ids_of

PURGED: Final = "purged"  # instead of a failure's message
_CHUNK: Final = 500  # rows of one transaction: a run that goes on waits for no more than that
_VACUUMED: Final = (answers, attempts, failures, tool_results, unusable_bodies)


@dataclass(frozen=True, slots=True)
class _Kind:
    """Rows of one table that hold words: which ones, and how they lose them."""

    counter: str
    key: ColumnElement[int]
    table: Table
    holds_words: ColumnElement[bool]
    forget: Callable[[Connection, Sequence[int]], object]


def ended_invocations(engine: Engine, url: str) -> list[int]:
    """Invocations that are over: those that said so, and if no run is on, all."""
    query = select(invocations.c.invocation_id)
    with suppress(Busy), hold_database(url, None, command="batcher db purge"):
        return _numbers(engine, query)
    return _numbers(engine, query.where(invocations.c.ended_at.is_not(None)))


def _numbers(engine: Engine, query: Select[int]) -> list[int]:
    with reading(engine) as connection:
        return [int(number) for number in connection.execute(query).scalars()]


def count_words(engine: Engine, before_us: int, ended: Sequence[int]) -> Counter[str]:
    """What `drop_words` would drop; changes nothing."""
    total: Counter[str] = Counter()
    with reading(engine) as connection:
        for invocation_id in ended:
            total["kept"] += _kept(connection, invocation_id, before_us)
            for kind in _KINDS:
                rows = _rows(kind, invocation_id, before_us).subquery()
                count = connection.scalar(select(func.count()).select_from(rows)) or 0
                total[kind.counter] += count
    return total


def drop_words(engine: Engine, before_us: int, ended: Sequence[int]) -> Counter[str]:
    """Drop the words of these invocations' rows that are older; rows by kind, and `kept`.

    Each step is a short transaction, so runs may go on meanwhile.
    """
    total: Counter[str] = Counter()
    for invocation_id in ended:
        with reading(engine) as connection:
            total["kept"] += _kept(connection, invocation_id, before_us)
        for kind in _KINDS:
            for count in _steps(engine, kind, _rows(kind, invocation_id, before_us)):
                total[kind.counter] += count
    return total


def _steps(engine: Engine, kind: _Kind, rows: Select[int]) -> Iterator[int]:
    """The sizes of the transactions that it takes, in the order of the keys."""
    after = -1
    while True:
        with writing(engine) as connection:
            query = rows.where(_beyond(kind, after)).order_by(kind.key).limit(_CHUNK)
            keys = [int(key) for key in connection.execute(query).scalars()]
            if keys:
                kind.forget(connection, keys)
        if not keys:
            return
        yield len(keys)
        after = keys[-1]


def _beyond(kind: _Kind, after: int) -> ColumnElement[bool]:
    # Said of both tables of a join: either may be the one that is walked through.
    beyond = kind.key > after
    return beyond if kind.table is failures else and_(beyond, attempts.c.attempt_id > after)


def _rows(kind: _Kind, invocation_id: int, before_us: int) -> Select[int]:
    """The keys of the rows of that kind that are to lose their words."""
    if kind.table is failures:
        mine = and_(failures.c.invocation_id == invocation_id, failures.c.failed_at < before_us)
        return select(kind.key).where(mine, kind.holds_words)
    query = select(kind.key)
    if kind.table is not attempts:
        query = query.join(attempts, attempts.c.attempt_id == kind.key)
    return query.where(_of(invocation_id, before_us), kind.holds_words, ~_waits())


def _of(invocation_id: int, before_us: int) -> ColumnElement[bool]:
    ids = attempt_ids_of(invocation_id)
    return and_(
        attempts.c.attempt_id >= ids.start,
        attempts.c.attempt_id < ids.stop,
        attempts.c.settled_at < before_us,
    )


def _waits() -> ColumnElement[bool]:
    """The attempt belongs to a request that is not finished."""
    last = attempts.alias("last")
    pending = select(last.c.request_id).where(last.c.pending == text("1"))
    return attempts.c.request_id.in_(pending)


def _kept(connection: Connection, invocation_id: int, before_us: int) -> int:
    count = connection.scalar(
        select(func.count())
        .select_from(answers)
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .where(_of(invocation_id, before_us), _ANSWER_HOLDS_WORDS, _waits())
    )
    return count or 0


def _setting(
    table: Table, key: ColumnElement[int], values: dict[str, Any]
) -> Callable[..., Any]:
    def forget(connection: Connection, keys: Sequence[int]) -> None:
        connection.execute(update(table).where(key.in_(keys)).values(values))

    return forget


def _delete_tools(connection: Connection, keys: Sequence[int]) -> None:
    connection.execute(tool_results.delete().where(tool_results.c.attempt_id.in_(keys)))


_ANSWER_HOLDS_WORDS: Final = or_(
    answers.c.text != "",
    answers.c.content.not_in((NOT_KEPT, "[]")),
    answers.c.stop_details.is_not(None),
    answers.c.stop_sequence.is_not(None),
    answers.c.invalid_reason.is_not(None),
)
# The bytes go and their row stays: `verify` asks for it.
_KINDS: Final = (
    _Kind("tools", tool_results.c.attempt_id, tool_results, true(), _delete_tools),
    _Kind(
        "unusable",
        unusable_bodies.c.attempt_id,
        unusable_bodies,
        func.length(unusable_bodies.c.body) > 0,
        _setting(unusable_bodies, unusable_bodies.c.attempt_id, {"body": b""}),
    ),
    _Kind(
        "answers",
        answers.c.attempt_id,
        answers,
        _ANSWER_HOLDS_WORDS,
        _setting(answers, answers.c.attempt_id, WITHOUT_WORDS),
    ),
    _Kind(
        "messages",
        attempts.c.attempt_id,
        attempts,
        and_(text("attempts.state <> 'answered'"), attempts.c.error_message.is_not(None)),
        _setting(attempts, attempts.c.attempt_id, {"error_message": None}),
    ),
    _Kind(
        "messages",
        failures.c.failure_id,
        failures,
        failures.c.message != PURGED,
        _setting(failures, failures.c.failure_id, {"message": PURGED}),
    ),
)


def overwrite(engine: Engine) -> None:
    """What was dropped is not left lying in places that nobody reads any more."""
    with outside_transactions(engine) as connection:
        if engine.dialect.name == "sqlite":
            with suppress(OperationalError):  # a run or a reader has it: its turn comes
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
            return
        schema = schema_of(engine.url)  # no BEGIN, and so no search_path
        for table in _VACUUMED:
            name = table.name if schema is None else f"{quoted(schema)}.{table.name}"
            connection.exec_driver_sql(f"VACUUM {name}")
