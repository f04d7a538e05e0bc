"""Totals that are kept, against the rows that they are of: rollups, and money under caps.

Answers and charges are added up anew by the database. Money that is lent and money that is
settled never exceed a cap together.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    and_,
    case,
    delete,
    func,
    literal_column,
    or_,
    select,
)

from batcher.ledger.money.spending import (
    current,
    first_rated,
    in_force_at,
    open_bounds,
    spending,
)
from batcher.ledger.schema import (
    KEY_CHARACTERS,
    NEVER_RATED,
    PICO_PER_WHOLE,
    QUARTER_HOUR_US,
    ROLLUP_SUMS,
    answers,
    attempts,
    budgets,
    charges,
    invocations,
    ratings,
    rollups,
)
from batcher.ledger.schema_internal import budget_slices
from batcher.ledger.verify.findings import Findings
from batcher.ledger.write.transaction import KEY, Key

Row = tuple[int | None, ...]

_NOTHING: Final[Row] = (0,) * len(ROLLUP_SUMS) + (None,)
_RATING_ID: Final = KEY.index("rating_id")
_QUARTER_SQL: Final = literal_column(str(QUARTER_HOUR_US), BigInteger)
_WHOLE_SQL: Final = literal_column(str(PICO_PER_WHOLE), BigInteger)
_SENT_AT: Final = answers.c.answered_at - answers.c.latency_us
_FIRST: Final = or_(charges.c.line == 0, charges.c.line.is_(None))
_HIGH: Final = case(
    (
        charges.c.status == "assumed",
        func.coalesce(charges.c.high_amount, charges.c.total_amount),
    )
)
_UNPRICED: Final = or_(charges.c.status == "unpriced", charges.c.status.is_(None))


def rollups_agree(connection: Connection, findings: Findings) -> int:
    """Compare the sums that are kept with what answers and charges add up to; how many."""
    stored, expected = stored_rollups(connection), expected_rollups(connection)
    names = (*ROLLUP_SUMS, "superseded_by")
    for key in _differing(stored, expected):
        kept, summed = stored.get(key, _NOTHING), expected.get(key, _NOTHING)
        differing = [
            f"{name} {one} instead of {other}"
            for name, one, other in zip(names, kept, summed, strict=True)
            if one != other
        ]
        place = ", ".join(f"{n} {v}" for n, v in zip(KEY, key, strict=True) if v != "")
        text = f"rollup of {place}: {'; '.join(differing)} (batcher db vacuum adds up anew)"
        findings.add("rollup", text)
    return len(stored)


def _differing(stored: Mapping[Key, Row], expected: Mapping[Key, Row]) -> list[Key]:
    return [
        key
        for key in stored.keys() | expected.keys()
        if stored.get(key, _NOTHING) != expected.get(key, _NOTHING)
        # Repriced since: nothing else tells any more that they had no charges.
        and (key[_RATING_ID] != NEVER_RATED or key in expected)
    ]


def add_up_anew(connection: Connection) -> int:
    """Put the sums right that `rollups_agree` finds; how many."""
    expected = expected_rollups(connection)
    differing = _differing(stored_rollups(connection), expected)
    names = (*KEY, *ROLLUP_SUMS, "superseded_by")
    for key in differing:
        same = (rollups.c[name] == value for name, value in zip(KEY, key, strict=True))
        connection.execute(delete(rollups).where(*same))
        if key in expected:
            values = dict(zip(names, (*key, *expected[key]), strict=True))
            connection.execute(rollups.insert().values(values))
    return len(differing)


def stored_rollups(connection: Connection) -> dict[Key, Row]:
    """Sums in the order of `ROLLUP_SUMS`, then the rating that replaced them, by key."""
    columns = [rollups.c[name] for name in (*KEY, *ROLLUP_SUMS, "superseded_by")]
    return _by_key(connection, select(*columns))


def expected_rollups(connection: Connection) -> dict[Key, Row]:
    """What `stored_rollups` must be; reads every answer and every charge once."""
    columns = [*_keys(), *_sums(), _superseded_by()]
    # By place: PostgreSQL takes a parameter of an expression written twice for two.
    places = [*range(1, len(KEY) + 1), len(columns)]
    same = charges.c.attempt_id == answers.c.attempt_id
    statement = (
        select(*columns)
        .select_from(
            answers.join(attempts, attempts.c.attempt_id == answers.c.attempt_id).outerjoin(
                charges, same
            )
        )
        .where(attempts.c.state != "partial")  # broken streams are in doubt and in no sum
        .group_by(*(literal_column(str(place)) for place in places))
    )
    return _by_key(connection, statement)


def _by_key(connection: Connection, statement: Select[Any]) -> dict[Key, Row]:
    width = len(KEY)
    return {
        tuple(row[:width]): tuple(None if each is None else int(each) for each in row[width:])
        for row in connection.execute(statement)
    }


def _keys() -> list[ColumnElement[Any]]:
    """In the order of `KEY`."""
    return [
        answers.c.invocation_id,
        _SENT_AT // _QUARTER_SQL,
        attempts.c.lane,
        _beginning(answers.c.requested_model),
        _beginning(func.coalesce(answers.c.model, answers.c.requested_model)),
        _beginning(func.coalesce(answers.c.stop_reason, "")),
        func.coalesce(charges.c.rating_id, 0),
        func.coalesce(charges.c.status, ""),
        func.coalesce(charges.c.currency, ""),
    ]


def _beginning(text: ColumnElement[Any]) -> ColumnElement[Any]:
    """As much of it as a key takes."""
    return func.substr(text, 1, literal_column(str(KEY_CHARACTERS)))


def _sums() -> list[ColumnElement[Any]]:
    """In the order of `ROLLUP_SUMS`."""
    tokens = _tokens()
    return [
        func.count(charges.c.line),
        func.count(case((_FIRST, 1))),
        func.count(case((and_(_FIRST, answers.c.final == 1), 1))),
        *(func.sum(case((_FIRST, func.coalesce(each, 0)), else_=0)) for each in tokens),
        func.count(case((_UNPRICED, answers.c.attempt_id)).distinct()),
        func.sum(case((_UNPRICED, _unpriced_tokens(tokens)), else_=0)),
        func.coalesce(func.sum(charges.c.total_amount // _WHOLE_SQL), 0),
        func.coalesce(func.sum(charges.c.total_amount % _WHOLE_SQL), 0),
        func.coalesce(func.sum(_HIGH // _WHOLE_SQL), 0),
        func.coalesce(func.sum(_HIGH % _WHOLE_SQL), 0),
    ]


def _tokens() -> list[ColumnElement[Any]]:
    table = answers.c
    hour = func.coalesce(table.cache_write_1h_tokens, 0)
    return [
        table.input_tokens,
        func.coalesce(table.cache_write_5m_tokens, table.cache_write_tokens - hour),
        table.cache_write_1h_tokens,
        table.cache_read_tokens,
        table.output_tokens,
        table.thinking_tokens,
        table.web_search_requests,
    ]


def _unpriced_tokens(tokens: list[ColumnElement[Any]]) -> ColumnElement[Any]:
    meters = ("input", "cache_write_5m", "cache_write_1h", "cache_read", "output")
    quantities: list[ColumnElement[Any]] = [charges.c[f"{meter}_quantity"] for meter in meters]
    never_rated = charges.c.status.is_(None)
    return case((never_rated, _total(tokens[:5])), else_=_total(quantities))


def _total(columns: list[ColumnElement[Any]]) -> ColumnElement[Any]:
    total: ColumnElement[Any] = literal_column("0")
    for column in columns:
        total = total + func.coalesce(column, 0)
    return total


def _superseded_by() -> ColumnElement[Any]:
    """The rating that came after a charge that is not current any more."""
    newer = charges.alias("newer")
    following = (
        select(func.min(newer.c.rating_id))
        .where(
            newer.c.attempt_id == charges.c.attempt_id,
            newer.c.rating_id > charges.c.rating_id,
        )
        .scalar_subquery()
    )
    return case((charges.c.current == 0, following))


_KIND: Final = "budget"


def budgets_agree(connection: Connection, findings: Findings) -> None:
    """Check every scope that was ever capped."""
    for budget in connection.execute(select(budgets).order_by(budgets.c.scope)).all():
        _check_scope(connection, budget, findings)


def _check_scope(connection: Connection, budget: Any, findings: Findings) -> None:  # noqa: ANN401  a record
    name = f"the budget of {budget.scope}"
    slices = _slices(connection, budget.scope)
    _check_cap(name, budget, slices, findings)
    granted = sum(each.granted for each in slices)
    if budget.granted != granted:
        text = f"{name} has lent {budget.granted} pico-USD, its slices hold {granted}"
        findings.add(_KIND, text)
    if slices:
        _check_slices(connection, budget, slices, findings)
        _check_settled(connection, budget, slices, findings)


def _slices(connection: Connection, scope: str) -> Sequence[Any]:
    """Those of the scope, the oldest invocation first, with when that began and ended."""
    times = invocations.c.started_at, invocations.c.ended_at
    return connection.execute(
        select(budget_slices, *times)
        .join(invocations, invocations.c.invocation_id == budget_slices.c.invocation_id)
        .where(budget_slices.c.scope == scope)
        .order_by(budget_slices.c.invocation_id)
    ).all()


def _check_cap(
    name: str,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """A cap may be set below what was spent; then nothing more is lent or spent under it."""
    used = bool(slices) and (slices[-1].granted > 0 or slices[-1].settled > 0)
    total = budget.granted + budget.settled
    if total > budget.cap and used:
        text = f"{name} has lent and settled {total} pico-USD under a cap of {budget.cap}"
        findings.add(_KIND, text)
    for place, row in (
        (name, budget),
        *((f"{name}, slice {s.invocation_id}", s) for s in slices),
    ):
        if row.granted < 0 or row.settled < 0:
            text = f"{place} has a negative amount: {row.granted} lent, {row.settled} settled"
            findings.add(_KIND, text)


def _check_slices(
    connection: Connection,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """A slice covers what its invocation spent and may still spend, and tells of no more."""
    spent = spending(connection, budget.scope, first_rated())
    bounds = open_bounds(connection, budget.scope)
    for each in slices:
        number = each.invocation_id
        place = f"the slice of invocation {number} of {budget.scope}"
        closed = spent[number] - bounds[number]
        ended = each.ended_at is not None
        if each.settled > closed or (ended and each.settled != closed):
            text = f"{place} has settled {each.settled} pico-USD, its attempts cost {closed}"
            findings.add(_KIND, text)
        elif each.settled + each.granted < spent[number]:
            held = each.settled + each.granted
            text = f"{place} holds {held} pico-USD, its attempts may cost {spent[number]}"
            findings.add(_KIND, text)
        if ended and each.granted > bounds[number]:
            text = (
                f"{place} holds {each.granted} pico-USD for open attempts of {bounds[number]}"
            )
            findings.add(_KIND, text)


def _check_settled(
    connection: Connection,
    budget: Any,  # noqa: ANN401  a record
    slices: Sequence[Any],
    findings: Findings,
) -> None:
    """What is settled is what slices tell and what all before the newest of them had cost."""
    newest = slices[-1]
    if _overlapped(connection, newest, {each.invocation_id for each in slices}):
        return  # what those had spent when the scope was counted is not known any more
    repriced = select(func.count()).where(ratings.c.created_at > newest.started_at)
    rated = in_force_at(newest.started_at) if connection.scalar(repriced) else current()
    spent = spending(connection, budget.scope, rated)
    with_slice = {each.invocation_id for each in slices}
    others = {n: amount for n, amount in spent.items() if n not in with_slice}
    told = sum(each.settled for each in slices)
    before = told + sum(amount for n, amount in others.items() if n < newest.invocation_id)
    # A process that joined later and died was counted, a later run without a cap was not.
    if budget.settled not in {before, told + sum(others.values())}:
        text = f"the budget of {budget.scope} has settled {budget.settled} pico-USD"
        findings.add(_KIND, f"{text}, its attempts cost {before}")


def _overlapped(connection: Connection, newest: Any, known: set[int]) -> bool:  # noqa: ANN401  a record
    """Whether an older invocation without a slice may have worked after the newest began.

    Not on a SQLite file, which has one owner, and not one that its own run went on without.
    """
    if connection.dialect.name == "sqlite":
        return False
    later = invocations.alias("later")
    followed = select(later.c.invocation_id).where(
        later.c.run_id == invocations.c.run_id,
        later.c.invocation_id > invocations.c.invocation_id,
        later.c.invocation_id <= newest.invocation_id,
    )
    others = select(invocations.c.invocation_id).where(
        invocations.c.invocation_id < newest.invocation_id,
        invocations.c.fallback_of.is_(None),
        or_(
            invocations.c.ended_at.is_(None) & ~followed.exists(),
            invocations.c.ended_at > newest.started_at,
        ),
    )
    return any(number not in known for number in connection.execute(others).scalars())
