"""The sums of a report, made by the database: few rows come back, whatever the ledger holds.

Groups are integer ids, short names and quarter hours; names and time zones are applied to the
few groups afterwards. Sums are exact beyond 64 bits: SQLite adds halves, PostgreSQL `numeric`.
Sums of answers and their money come from the rows that are kept for it where there are.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    RowMapping,
    Select,
    and_,
    case,
    func,
    or_,
    select,
)
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import (
    METERS,
    NEVER_RATED,
    PICO_PER_WHOLE,
    QUARTER_HOUR_US,
    answers,
    attempts,
    charges,
    rollups,
)
from batcher.messages.request import IN_DOUBT, State
from batcher.report.figures import COUNT_NAMES, ChargeReason, Counts
from batcher.report.query import Kind, ReportQuery
from batcher.report.scope import (
    ATTEMPT_SENT_AT,
    NOT_ANSWERED,
    ReportScope,
    answer_keys,
    answers_with_charges,
    attempt_keys,
    conditions,
    of_invocations,
)

_ROLLED_UP_COUNTS: Final = {
    "attempts": "answers",
    "requests": "final_answers",
    "unpriced_requests": "unpriced_answers",
    **{
        name: name
        for name in (
            "input_tokens", "cache_write_5m_tokens", "cache_write_1h_tokens",
            "cache_read_tokens", "output_tokens", "thinking_tokens", "web_search_requests",
            "unpriced_tokens",
        )
    },
}  # fmt: skip
_ROLLED_UP_KEYS: Final[dict[Kind, ColumnElement[Any]]] = {
    Kind.MODEL: rollups.c.model,
    Kind.REQUESTED_MODEL: rollups.c.requested_model,
    Kind.STOP_REASON: func.nullif(rollups.c.stop_reason, ""),
    Kind.LANE: rollups.c.lane,
}


_WHOLE_SQL: Final = literal_column(str(PICO_PER_WHOLE), BigInteger)
_NOTHING_SQL: Final = literal_column("0", BigInteger)
_UNPRICED: Final = "unpriced"
_ASSUMED: Final = "assumed"
_WITHOUT_CLEAR_PRICE: Final = (_UNPRICED, _ASSUMED)

_HALVED: Final = (
    "in_doubt_low", "in_doubt_high", "assumed_low", "assumed_high", "maybe_billed_high",
)  # fmt: skip
GROUP_KEYS: Final = (
    "invocation_id", "quarter", "source_id", "model", "requested_model", "stop_reason", "lane",
    "workspace", "currency", "rating_id",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """One group of the database: where it belongs, and its sums.

    `quarter` is the quarter hour of sending since 1970 UTC, 0 when time is no dimension.
    """

    invocation_id: int
    quarter: int = 0
    source_id: int | None = None
    model: str | None = None
    requested_model: str | None = None
    stop_reason: str | None = None
    lane: str | None = None
    workspace: str | None = None
    counts: Counts
    currency: str | None = None
    amount: int = 0
    rating_id: int | None = None


def read_groups(connection: Connection, scope: ReportScope) -> Iterator[Group]:
    """All groups: first of answers with their money, then of everything without an answer."""
    yield from read_answered(connection, scope)
    yield from map(_group, connection.execute(_not_answered(connection, scope)).mappings())


def read_answered(connection: Connection, scope: ReportScope) -> Iterator[Group]:
    """The groups of complete answers with their money, from the sums kept where there are."""
    answered = _rolled_up(scope) if _is_rolled_up(scope.query) else _answered(connection, scope)
    yield from map(_group, connection.execute(answered).mappings())


def read_reasons(
    connection: Connection, scope: ReportScope
) -> tuple[tuple[ChargeReason, ...], tuple[ChargeReason, ...]]:
    """Why charges of `scope` are unpriced, and what others assume; most frequent first."""
    reason = func.coalesce(charges.c.reason, charges.c.status)
    statement = (
        answers_with_charges(scope)
        .add_columns(charges.c.status, reason, charges.c.model, func.count())
        .where(charges.c.status.in_(_WITHOUT_CLEAR_PRICE))
        .group_by(charges.c.status, reason, charges.c.model)
    )
    found = [
        (status, ChargeReason(text=text, model=model, charges=count))
        for status, text, model, count in connection.execute(statement)
    ]
    found.sort(key=lambda pair: (-pair[1].charges, pair[1].text, pair[1].model or ""))
    unpriced, assumed = (
        tuple(reason for status, reason in found if status == wanted)
        for wanted in _WITHOUT_CLEAR_PRICE
    )
    return unpriced, assumed


_UNSPLIT: Final = answers.c.cache_write_tokens - func.coalesce(
    answers.c.cache_write_1h_tokens, 0
)
_TOKENS: Final[dict[str, ColumnElement[Any]]] = {
    "input_tokens": answers.c.input_tokens,
    "cache_write_5m_tokens": func.coalesce(answers.c.cache_write_5m_tokens, _UNSPLIT),
    "cache_write_1h_tokens": answers.c.cache_write_1h_tokens,
    "cache_read_tokens": answers.c.cache_read_tokens,
    "output_tokens": answers.c.output_tokens,
    "thinking_tokens": answers.c.thinking_tokens,
    "web_search_requests": answers.c.web_search_requests,
}

_TOKENS_BILLED: Final = (
    answers.c.input_tokens,
    _TOKENS["cache_write_5m_tokens"],
    answers.c.cache_write_1h_tokens,
    answers.c.cache_read_tokens,
    answers.c.output_tokens,
)


def _answered(connection: Connection, scope: ReportScope) -> Select[Any]:
    """Complete answers and their charges, in one pass; a partial one is in doubt.

    One that was never rated counts as unpriced, so that nothing is lost.
    """
    first = or_(charges.c.line == 0, charges.c.line.is_(None))
    keys = {
        **answer_keys(scope.query),
        "currency": charges.c.currency,
        "rating_id": charges.c.rating_id,
    }
    sums = [
        _count_where(first).label("attempts"),
        _count_where(and_(first, answers.c.final == 1)).label("requests"),
        *(func.sum(case((first, tokens))).label(name) for name, tokens in _TOKENS.items()),
        *exact_sum(connection, charges.c.total_amount, "amount"),
        *_unclear(),
        *_assumed_ends(connection),
    ]
    return _grouped(answers_with_charges(scope), keys, sums)


def _unclear() -> list[ColumnElement[Any]]:
    """What has no price, and what rests on an assumption."""
    never_rated = charges.c.status.is_(None)
    unpriced = or_(charges.c.status == _UNPRICED, never_rated)
    quantities = [charges.c[f"{meter}_quantity"] for meter in METERS if meter != "web_search"]
    tokens = case((never_rated, _sum_of(*_TOKENS_BILLED)), else_=_sum_of(*quantities))
    return [
        func.count(case((unpriced, answers.c.attempt_id)).distinct()).label(
            "unpriced_requests"
        ),
        func.sum(case((unpriced, tokens), else_=0)).label("unpriced_tokens"),
        _count_where(charges.c.status == _ASSUMED).label("assumed_charges"),
    ]


def _assumed_ends(connection: Connection) -> list[ColumnElement[Any]]:
    """Both ends of what is assumed, in USD."""
    table = charges.c
    in_usd = and_(table.status == _ASSUMED, table.currency == "USD")
    high = func.coalesce(table.high_amount, table.total_amount)
    return [
        *exact_sum(connection, case((in_usd, table.total_amount)), "assumed_low"),
        *exact_sum(connection, case((in_usd, high)), "assumed_high"),
    ]


def _not_answered(connection: Connection, scope: ReportScope) -> Select[Any]:
    """Attempts in doubt, refused or never sent; late ones are answers and only named here."""
    state = attempts.c.state
    in_doubt = state.in_([*(each.value for each in IN_DOUBT), State.OPEN.value])
    low = case((in_doubt, attempts.c.cost_low), else_=0)
    high = case((in_doubt, func.coalesce(attempts.c.cost_high, 0)), else_=0)
    billed = and_(
        state == State.REJECTED.value, func.coalesce(attempts.c.cost_high, 1) != _NOTHING_SQL
    )
    unbounded = and_(in_doubt, attempts.c.cost_high.is_(None))
    sums = [
        _count_where(state != State.LATE.value).label("attempts"),
        _count_where(in_doubt).label("in_doubt_attempts"),
        _count_where(state == State.OPEN.value).label("open_attempts"),
        _count_where(state == State.REJECTED.value).label("refused_attempts"),
        _count_where(state == State.NOT_SENT.value).label("not_sent_attempts"),
        _count_where(state == State.LATE.value).label("late_attempts"),
        _count_where(unbounded).label("in_doubt_unbounded"),
        _count_where(billed).label("maybe_billed_attempts"),
        _count_where(and_(billed, attempts.c.cost_high.is_(None))).label(
            "maybe_billed_unbounded"
        ),
        *exact_sum(connection, case((billed, attempts.c.cost_high)), "maybe_billed_high"),
        *exact_sum(connection, low, "in_doubt_low"),
        *exact_sum(connection, high, "in_doubt_high"),
    ]
    where = conditions(scope, ATTEMPT_SENT_AT, attempts.c.invocation_id)
    return _grouped(
        select().select_from(attempts).where(NOT_ANSWERED, *where),
        attempt_keys(scope.query),
        sums,
    )


def exact_sum(
    connection: Connection, value: ColumnElement[Any], name: str
) -> list[ColumnElement[Any]]:
    """Columns that `whole_sum` puts together to the exact sum of 64-bit integers."""
    if connection.dialect.name == "sqlite":
        return [
            func.sum(value // _WHOLE_SQL).label(f"{name}_whole"),
            func.sum(value % _WHOLE_SQL).label(f"{name}_rest"),
        ]
    return [func.sum(value).label(name)]


def whole_sum(row: RowMapping, name: str) -> int:
    """The exact sum that `exact_sum` asked for under `name`; 0 when nothing was summed."""
    if name in row:
        return int(row[name] or 0)
    return int(row[f"{name}_whole"] or 0) * PICO_PER_WHOLE + int(row[f"{name}_rest"] or 0)


def _grouped(
    statement: Select[Any],
    keys: dict[str, ColumnElement[Any]],
    sums: Sequence[ColumnElement[Any]],
) -> Select[Any]:
    columns = [column.label(name) for name, column in keys.items()]
    return statement.add_columns(*columns, *sums).group_by(*keys.values())


def _sum_of(*values: ColumnElement[Any]) -> ColumnElement[Any]:
    total: ColumnElement[Any] = literal_column("0")
    for value in values:
        total = total + func.coalesce(value, 0)
    return total


def _count_where(condition: ColumnElement[bool]) -> ColumnElement[int]:
    return func.count(case((condition, 1)))


def _group(row: RowMapping) -> Group:
    keys = {name: row[name] for name in GROUP_KEYS if name in row}
    counts = {name: int(row[name] or 0) for name in COUNT_NAMES if name in row}
    counts |= {name: whole_sum(row, name) for name in _HALVED if f"{name}_whole" in row}
    amount = whole_sum(row, "amount") if "rating_id" in row else 0
    return Group(**keys, counts=Counts(**counts), amount=amount)


def _is_rolled_up(query: ReportQuery) -> bool:
    """Whether the sums that are asked for are kept.

    They are not by source or workspace, nor by minutes of an hour.
    """
    moments = (moment for moment in (query.since, query.until) if moment is not None)
    return not any(moment % QUARTER_HOUR_US for moment in moments) and not any(
        dimension.kind in {Kind.SOURCE, Kind.WORKSPACE} for dimension in query.by
    )


def _rolled_up(scope: ReportScope) -> Select[Any]:
    """Complete answers with their charges: the columns of a group, amounts in halves."""
    table, keys = rollups.c, _rolled_up_keys(scope.query)
    keys |= {
        "currency": func.nullif(table.currency, ""),
        "rating_id": func.nullif(table.rating_id, NEVER_RATED),
    }
    sums: dict[str, ColumnElement[Any]]
    sums = {name: func.sum(table[column]) for name, column in _ROLLED_UP_COUNTS.items()}
    sums["assumed_charges"] = func.sum(table.charges).filter(table.status == "assumed")
    sums |= {name: func.sum(table[name]) for name in ("amount_whole", "amount_rest")}
    in_usd = table.status == "assumed", table.currency == "USD"
    for half in ("whole", "rest"):
        lower, upper = table[f"amount_{half}"], table[f"assumed_high_{half}"]
        sums[f"assumed_low_{half}"] = func.sum(lower).filter(*in_usd)
        sums[f"assumed_high_{half}"] = func.sum(upper).filter(*in_usd)
    return (
        select(*(column.label(name) for name, column in (keys | sums).items()))
        .where(
            _in_force(scope), *_in_window(scope), *of_invocations(scope, table.invocation_id)
        )
        .group_by(*keys.values())
    )


def _rolled_up_keys(query: ReportQuery) -> dict[str, ColumnElement[Any]]:
    keys: dict[str, ColumnElement[Any]] = {"invocation_id": rollups.c.invocation_id}
    for dimension in query.by:
        if dimension.kind.is_time:
            keys["quarter"] = rollups.c.quarter
        elif dimension.kind in _ROLLED_UP_KEYS:
            keys[dimension.kind.value] = _ROLLED_UP_KEYS[dimension.kind]
    return keys


def _in_force(scope: ReportScope) -> ColumnElement[bool]:
    """Like `scope.in_force`, for rows whose charges were all repriced together."""
    table, bound = rollups.c, scope.bound
    if bound is None:
        return table.superseded_by.is_(None)
    return (table.rating_id <= bound.last_rating) & or_(
        table.superseded_by.is_(None), table.superseded_by > bound.last_rating
    )


def _in_window(scope: ReportScope) -> list[ColumnElement[bool]]:
    query, quarter = scope.query, rollups.c.quarter
    found = []
    if query.since is not None:
        found.append(quarter >= query.since // QUARTER_HOUR_US)
    if query.until is not None:
        found.append(quarter < query.until // QUARTER_HOUR_US)
    return found
