"""What the ledger knows of where its runs stand; each function is one statement."""

from dataclasses import dataclass, fields
from typing import Final

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import (
    answers,
    attempts,
    failures,
    invocations,
    rollups,
    runs,
    shared_answers,
    sources,
)
from batcher.messages.request import State
from batcher.report.figures import LineSums, ReportLine
from batcher.report.query import ReportQuery
from batcher.report.scope import ReportScope
from batcher.report.totals import read_groups

# Written as the index says it, or a database would read every answer.
FINAL: Final[ColumnElement[bool]] = literal_column("answers.final = 1")

_LATEST: Final = 100  # processes that may do one run together


@dataclass(frozen=True, slots=True)
class RecordedRun:
    """A run as it was begun."""

    run_id: int
    key: str
    job: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """One invocation, as far as a status tells.

    `clean` is 1 when a later one took it over; `options` are JSON.
    """

    invocation_id: int
    started_at: int
    ended_at: int | None
    exit_code: int | None
    clean: int
    host: str
    pid: int
    os_user: str
    endpoint: str
    command: str
    options: str


def read_runs(connection: Connection, run_id: int | None) -> list[RecordedRun]:
    """All runs, or the one asked for, oldest first."""
    statement = select(runs.c.run_id, runs.c.key, runs.c.job).order_by(runs.c.run_id)
    if run_id is not None:
        statement = statement.where(runs.c.run_id == run_id)
    return [RecordedRun(*row) for row in connection.execute(statement)]


def read_files(connection: Connection, run_id: int) -> dict[str, int | None]:
    """Rows of each input by name, in the order the inputs were first seen.

    `None` for one whose newest version was not read to its end.
    """
    statement = (
        select(sources.c.name, sources.c.rows)
        .where(sources.c.run_id == run_id)
        .order_by(sources.c.source_id)
    )
    return dict(connection.execute(statement).all())  # the newest wins, in place


def count_answered(connection: Connection, run_id: int) -> int:
    """Rows that have their answer, in the current versions of the inputs."""
    current = _current_sources(run_id)
    own = (
        select(func.count()).select_from(answers).where(FINAL, answers.c.source_id.in_(current))
    )
    shared = select(func.count()).where(shared_answers.c.source_id.in_(current))
    return sum(connection.execute(statement).scalar_one() for statement in (own, shared))


def count_late(connection: Connection, run_id: int, deadline_at: int) -> int:
    """Of the rows that have their answer, those that got it after that moment."""
    statement = select(func.count()).where(
        FINAL,
        answers.c.source_id.in_(_current_sources(run_id)),
        answers.c.answered_at > deadline_at,
    )
    return connection.execute(statement).scalar_one()


def read_failures(connection: Connection, run_id: int) -> dict[str, tuple[int, int]]:
    """Rows without an answer by kind: how many, and how many of those are transient."""
    statement = (
        select(failures.c.kind, func.count(), func.sum(failures.c.transient))
        .where(_without_answer(run_id))
        .group_by(failures.c.kind)
    )
    return {kind: (count, int(some)) for kind, count, some in connection.execute(statement)}


def _without_answer(run_id: int) -> ColumnElement[bool]:
    """Failures of rows that were not answered since."""
    has_answer = exists().where(
        FINAL,
        answers.c.source_id == failures.c.source_id,
        answers.c.row_number == failures.c.row_number,
    )
    return and_(failures.c.source_id.in_(_current_sources(run_id)), ~has_answer)


def read_money(connection: Connection, run_id: int) -> ReportLine:
    """What the run sent, used and paid, and what nobody can say, as a report has it."""
    scope = ReportScope(ReportQuery(run=run_id), with_simulated=True, only_simulated=False)
    sums = LineSums()
    for group in read_groups(connection, scope):
        sums.add(group.counts, group.currency, group.amount)
    return sums.line(())


def read_latest(connection: Connection, run_id: int) -> list[Process]:
    """The latest invocations of the run, the last first: by their end, else by their start."""
    table = invocations.c
    moment = func.coalesce(table.ended_at, table.started_at)
    statement = (
        select(
            table.invocation_id,
            table.started_at,
            table.ended_at,
            table.exit_code,
            table.clean,
            table.host,
            table.pid,
            table.os_user,
            table.endpoint,
            table.command,
            table.options,
        )
        .where(table.run_id == run_id, table.fallback_of.is_(None))
        .order_by(moment.desc(), table.invocation_id.desc())
        .limit(_LATEST)
    )
    return [Process(**row) for row in connection.execute(statement).mappings()]


def read_process(connection: Connection, invocation_id: int) -> Process:
    """One invocation."""
    columns = [invocations.c[each.name] for each in fields(Process)]
    statement = select(*columns).where(invocations.c.invocation_id == invocation_id)
    return Process(**connection.execute(statement).mappings().one())


def answered_by(connection: Connection, invocation_id: int) -> int:
    """How many answers an invocation has, of those that are final."""
    table = rollups.c
    statement = select(func.sum(table.final_answers)).where(
        table.invocation_id == invocation_id, table.superseded_by.is_(None)
    )
    return int(connection.execute(statement).scalar() or 0)


def open_attempts_of(connection: Connection, invocation_id: int) -> int:
    """How many attempts of an invocation have no outcome yet."""
    statement = select(func.count()).where(
        attempts.c.state == State.OPEN, attempts.c.invocation_id == invocation_id
    )
    return connection.execute(statement).scalar_one()


def _current_sources(run_id: int) -> ColumnElement[int]:
    return (
        select(sources.c.source_id)
        .where(sources.c.run_id == run_id, sources.c.superseded_by.is_(None))
        .scalar_subquery()
    )
