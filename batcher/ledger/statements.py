"""The statements of the hot path: compiled once, run by `executemany`.

SQLAlchemy builds the SQL, the driver runs it: at a hundred rows a commit, going through
`Connection.execute` would cost more than the inserts themselves.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sqlalchemy import Connection, Dialect, bindparam
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.sql.dml import Insert, Update

from batcher.ledger.schema import answers, attempts, charges, failures, unusable_bodies

Values = Sequence[Any]


class Statement:
    """One INSERT or UPDATE with its columns in a fixed order."""

    def __init__(self, clause: Insert | Update, names: Sequence[str], dialect: Dialect) -> None:
        compiled = clause.compile(dialect=dialect, column_keys=list(names))
        self._sql = str(compiled)
        order = [names.index(name) for name in compiled.positiontup or names]
        self._shape: Callable[[Values], Any] = (
            (lambda values: tuple(values[i] for i in order))
            if compiled.positional
            else (lambda values: dict(zip(names, values, strict=True)))
        )
        if compiled.positional and order == list(range(len(names))):
            self._shape = tuple

    def run(self, connection: Connection, rows: Iterable[Values]) -> None:
        """Run once per row; does nothing without rows."""
        parameters = [self._shape(row) for row in rows]
        if parameters:
            connection.exec_driver_sql(self._sql, parameters)


INTENT = (
    "attempt_id", "attempt_uid", "invocation_id", "request_id", "source_id", "row_number",
    "byte_offset", "custom_id", "params_hash", "number", "leg", "purpose", "lane",
    "requested_model", "state", "pending", "opened_at", "cost_low", "cost_high",
)  # fmt: skip
SETTLED = (
    "state", "pending", "sent_at", "settled_at", "http_status", "error_type", "error_code",
    "error_message", "provider_request_id", "cost_low", "cost_high", "b_attempt_id",
)  # fmt: skip
ANSWER = tuple(column.name for column in answers.columns)
CHARGE = tuple(column.name for column in charges.columns)
FAILURE = tuple(column.name for column in failures.columns if column.name != "failure_id")


class HotPath:
    """All statements of the writer's batches, for one database."""

    def __init__(self, dialect: Dialect) -> None:
        by_id = attempts.c.attempt_id == bindparam("b_attempt_id")
        self.intent = Statement(attempts.insert(), INTENT, dialect)
        self.settled = Statement(
            attempts.update()
            .where(by_id)
            .values({name: bindparam(name) for name in SETTLED[:-1]}),
            SETTLED,
            dialect,
        )
        self.superseded = Statement(
            attempts.update().where(by_id).values(pending=bindparam("pending")),
            ("pending", "b_attempt_id"),
            dialect,
        )
        self.answer = Statement(answers.insert(), ANSWER, dialect)
        self.charge = Statement(charges.insert(), CHARGE, dialect)
        self.failure = Statement(_failure(dialect), FAILURE, dialect)
        self.unusable = Statement(unusable_bodies.insert(), ("attempt_id", "body"), dialect)


def _failure(dialect: Dialect) -> Insert:
    """A row has one failure: the last one wins, also when a crash made us see it twice."""
    build = postgresql.insert if dialect.name == "postgresql" else sqlite.insert
    insert = build(failures)
    changed = {name: insert.excluded[name] for name in FAILURE}
    return insert.on_conflict_do_update(
        index_elements=["source_id", "row_number"], set_=changed
    )
