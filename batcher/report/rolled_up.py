"""Sums of answers and their money, from the rows that are kept for it: few, and equal."""

from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, or_, select

from batcher.ledger.schema import NEVER_RATED, QUARTER_HOUR_US, rollups
from batcher.report.query import Kind, ReportQuery
from batcher.report.scope import ReportScope, of_invocations

_COUNTS: Final = {
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
_COLUMNS: Final[dict[Kind, ColumnElement[Any]]] = {
    Kind.MODEL: rollups.c.model,
    Kind.REQUESTED_MODEL: rollups.c.requested_model,
    Kind.STOP_REASON: func.nullif(rollups.c.stop_reason, ""),
    Kind.LANE: rollups.c.lane,
}


def is_rolled_up(query: ReportQuery) -> bool:
    """Whether the sums that are asked for are kept.

    They are not by source or workspace, nor by minutes of an hour.
    """
    moments = (moment for moment in (query.since, query.until) if moment is not None)
    return not any(moment % QUARTER_HOUR_US for moment in moments) and not any(
        dimension.kind in {Kind.SOURCE, Kind.WORKSPACE} for dimension in query.by
    )


def rolled_up(scope: ReportScope) -> Select[Any]:
    """Complete answers with their charges: the columns of a group, amounts in halves."""
    table, keys = rollups.c, _keys(scope.query)
    keys |= {
        "currency": func.nullif(table.currency, ""),
        "rating_id": func.nullif(table.rating_id, NEVER_RATED),
    }
    sums: dict[str, ColumnElement[Any]]
    sums = {name: func.sum(table[column]) for name, column in _COUNTS.items()}
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


def _keys(query: ReportQuery) -> dict[str, ColumnElement[Any]]:
    keys: dict[str, ColumnElement[Any]] = {"invocation_id": rollups.c.invocation_id}
    for dimension in query.by:
        if dimension.kind.is_time:
            keys["quarter"] = rollups.c.quarter
        elif dimension.kind in _COLUMNS:
            keys[dimension.kind.value] = _COLUMNS[dimension.kind]
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
