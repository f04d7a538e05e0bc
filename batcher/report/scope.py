"""Which part of a ledger a report is about: a window, a run, real charges, a rating."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import BigInteger, ColumnElement, Select, and_, exists, func, or_, select
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import QUARTER_HOUR_US, answers, attempts, charges, invocations
from batcher.messages.request import State
from batcher.report.query import Kind, ReportQuery

# `latency_us` was made by this subtraction, so this is `attempts.sent_at` without the join.
ANSWER_SENT_AT: Final = answers.c.answered_at - answers.c.latency_us
ATTEMPT_SENT_AT: Final = func.coalesce(attempts.c.sent_at, attempts.c.opened_at)

# Written as the index says it, or a database would read every attempt.
NOT_ANSWERED: Final[ColumnElement[bool]] = literal_column("attempts.state <> 'answered'")


@dataclass(frozen=True, slots=True)
class RatingBound:
    """The ledger as it was, up to and with these.

    Adjustments count that were recorded when there was no newer rating than `adjusted_after`.
    """

    last_rating: int
    last_invocation: int
    adjusted_after: int


@dataclass(frozen=True, slots=True)
class ReportScope:
    """Which part of the ledger is summed.

    `with_simulated` is whether simulated endpoints count, `only_simulated` that there are no
    others. Without a `bound` it is the ledger of now.
    """

    query: ReportQuery
    with_simulated: bool
    only_simulated: bool
    bound: RatingBound | None = None


def conditions(
    scope: ReportScope, sent_at: ColumnElement[Any], invocation_id: ColumnElement[Any]
) -> list[ColumnElement[bool]]:
    """Which records of a scope count: its window, its run, real charges or simulated ones."""
    query, found = scope.query, of_invocations(scope, invocation_id)
    if query.since is not None:
        found.append(sent_at >= query.since)
    if query.until is not None:
        found.append(sent_at < query.until)
    return found


def of_invocations(
    scope: ReportScope, invocation_id: ColumnElement[Any]
) -> list[ColumnElement[bool]]:
    """Which invocations count, as conditions on the column that names them."""
    query, found = scope.query, []
    if scope.bound is not None:
        found.append(invocation_id <= scope.bound.last_invocation)
    chosen = select(invocations.c.invocation_id)
    if query.run is not None:
        chosen = chosen.where(invocations.c.run_id == query.run)
    if query.first_invocation is not None:
        found.append(invocation_id >= query.first_invocation)
    if not scope.with_simulated:
        chosen = chosen.where(invocations.c.simulated == 0)
    if query.run is not None or not scope.with_simulated:
        found.append(invocation_id.in_(chosen))
    return found


def answers_with_charges(scope: ReportScope) -> Select[Any]:
    """Every complete answer that counts, beside each of its charges in force.

    All sums of money are made from this, or kept so that they are equal (rollups). Every
    rated answer has a line 0: what belongs to the answer is counted there. One that was never
    rated comes once, with nothing beside it.
    """
    same = charges.c.attempt_id == answers.c.attempt_id
    return complete_answers(scope).outerjoin(charges, and_(same, _in_force(scope.bound)))


def complete_answers(scope: ReportScope) -> Select[Any]:
    """Every complete answer that counts, joined to its attempt where a dimension needs that."""
    return _answers_from(scope.query).where(
        _is_complete(), *conditions(scope, ANSWER_SENT_AT, answers.c.invocation_id)
    )


def charges_in_force(bound: RatingBound | None = None) -> Select[Any]:
    """The charges that count: the current ones, or those that did at `bound`."""
    return select().select_from(charges).where(_in_force(bound))


def _in_force(bound: RatingBound | None) -> ColumnElement[bool]:
    if bound is None:
        return charges.c.current == 1
    newer = charges.alias("newer")
    replaced = exists().where(
        newer.c.attempt_id == charges.c.attempt_id,
        newer.c.rating_id > charges.c.rating_id,
        newer.c.rating_id <= bound.last_rating,
    )
    return and_(charges.c.rating_id <= bound.last_rating, ~replaced)


def _is_complete() -> ColumnElement[bool]:
    """Not what came of a broken stream: its attempt is in doubt, and counted there."""
    partial = select(attempts.c.attempt_id).where(
        NOT_ANSWERED, attempts.c.state == State.PARTIAL.value
    )
    return or_(answers.c.final == 1, answers.c.attempt_id.not_in(partial))


def _answers_from(query: ReportQuery) -> Select[Any]:
    """A statement over the answers, joined to their attempts where a dimension needs them."""
    if not (_asks_for(query, Kind.LANE) or _asks_for(query, Kind.WORKSPACE)):
        return select().select_from(answers)
    same = attempts.c.attempt_id == answers.c.attempt_id
    return select().select_from(answers).join(attempts, same)


def answer_keys(query: ReportQuery) -> dict[str, ColumnElement[Any]]:
    """The columns of answers that tell a group of `query`, by their names in `Group`."""
    keys: dict[str, ColumnElement[Any]] = {"invocation_id": answers.c.invocation_id}
    for kind, column in _ANSWER_COLUMNS.items():
        if _asks_for(query, kind):
            keys[kind.value] = column
    if _asks_for(query, Kind.SOURCE):
        keys["source_id"] = answers.c.source_id
    return keys | _shared_keys(query, ANSWER_SENT_AT)


_ANSWER_COLUMNS: Final[dict[Kind, ColumnElement[Any]]] = {
    Kind.MODEL: func.coalesce(answers.c.model, answers.c.requested_model),
    Kind.REQUESTED_MODEL: answers.c.requested_model,
    Kind.STOP_REASON: func.nullif(answers.c.stop_reason, ""),
}


def attempt_keys(query: ReportQuery) -> dict[str, ColumnElement[Any]]:
    """Like `answer_keys`; without an answer the model is the requested one."""
    keys: dict[str, ColumnElement[Any]] = {"invocation_id": attempts.c.invocation_id}
    for kind in (Kind.MODEL, Kind.REQUESTED_MODEL):
        if _asks_for(query, kind):
            keys[kind.value] = attempts.c.requested_model
    if _asks_for(query, Kind.SOURCE):
        keys["source_id"] = attempts.c.source_id
    return keys | _shared_keys(query, ATTEMPT_SENT_AT)


def _shared_keys(
    query: ReportQuery, sent_at: ColumnElement[Any]
) -> dict[str, ColumnElement[Any]]:
    keys: dict[str, ColumnElement[Any]] = {}
    if any(dimension.kind.is_time for dimension in query.by):
        keys["quarter"] = sent_at // literal_column(str(QUARTER_HOUR_US), BigInteger)
    if _asks_for(query, Kind.LANE):
        keys["lane"] = attempts.c.lane
    if _asks_for(query, Kind.WORKSPACE):
        keys["workspace"] = attempts.c.workspace_id
    return keys


def _asks_for(query: ReportQuery, kind: Kind) -> bool:
    return any(dimension.kind is kind for dimension in query.by)
