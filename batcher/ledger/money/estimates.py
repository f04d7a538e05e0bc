"""Estimates of what runs will cost: kept until the run is over, then graded.

Amounts are decimal text of pico-USD in the table, because the ceiling of a large job does not
fit 64 bits; here they are integers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

from sqlalchemy import Connection, func, select, update

from batcher.ledger.schema import PICO_PER_WHOLE, attempts, invocations, rollups, runs, sources
from batcher.ledger.schema_internal import estimates
from batcher.messages.attempt import IN_DOUBT

_AMOUNTS: Final = (
    "expected", "low", "high", "ceiling", "actual", "in_doubt_low", "in_doubt_high",
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEstimate:
    """What was foretold of the rows that a run still had to do; amounts are pico-USD.

    `basis` names inputs and settings, see `basis`. `method` says where the output tokens come
    from (pilot, history, ceiling), `input_method` where the input tokens do. `sampled` answers
    were looked at. `unbounded` requests are not in the ceiling. No expectation: `None`.
    """

    run_key: str
    made_at: int
    basis: str
    method: str
    input_method: str
    sampled: int
    requests: int
    unbounded: int
    expected: int | None
    low: int | None
    high: int | None
    ceiling: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEstimate(NewEstimate):
    """An estimate and, after its run, what came of it.

    `grade` is within, below or above its interval, "no interval", or "other rows" when inputs
    or settings changed in between; `None` until the run is over. `actual` is what was charged
    after the estimate; attempts in doubt may add from `in_doubt_low` to `in_doubt_high`
    (`None`: without a bound).
    """

    estimate_id: int
    graded_at: int | None
    actual: int | None
    in_doubt_low: int | None
    in_doubt_high: int | None
    grade: str | None


def basis(settings_digest: str, inputs: Sequence[tuple[str, str]]) -> str:
    """A name for settings and (name, fingerprint) of all inputs, whatever their order."""
    digest = blake2b(settings_digest.encode(), digest_size=16)
    for name, fingerprint in sorted(inputs):
        digest.update(f"\0{name}\0{fingerprint}".encode())
    return digest.hexdigest()


def run_of_key(connection: Connection, key: str) -> int | None:
    """The run of that key, `None` when nothing of it was ever sent."""
    found = connection.execute(select(runs.c.run_id).where(runs.c.key == key)).scalar()
    return None if found is None else int(found)


def save_estimate(connection: Connection, made: NewEstimate) -> int:
    """Keep an estimate until its run is over; its number."""
    newest = select(func.coalesce(func.max(invocations.c.invocation_id), 0))
    values = {name: _stored(name, value) for name, value in asdict(made).items()}
    statement = estimates.insert().values(after_invocation=newest.scalar_subquery(), **values)
    return int(connection.execute(statement.returning(estimates.c.estimate_id)).scalar_one())


def stored_estimates(connection: Connection, run_key: str | None) -> list[StoredEstimate]:
    """All estimates, or those of one run, oldest first."""
    query = select(estimates).order_by(estimates.c.estimate_id)
    if run_key is not None:
        query = query.where(estimates.c.run_key == run_key)
    return [_loaded(row) for row in connection.execute(query).mappings()]


def grade_estimates(
    connection: Connection,
    run_id: int,
    settings_digest: str,
    now_us: int,
    source_ids: Sequence[int],
) -> int:
    """Compare the run's open estimates with what was charged since; how many were graded.

    To be called when nothing is left to do of `source_ids`. Estimates of other inputs or
    settings are marked as such.
    """
    open_ones = connection.execute(
        select(estimates)
        .join(runs, runs.c.key == estimates.c.run_key)
        .where(runs.c.run_id == run_id, estimates.c.graded_at.is_(None))
    ).all()
    if not open_ones:
        return 0
    present = basis(settings_digest, _inputs(connection, source_ids))
    for row in open_ones:
        since = int(row.after_invocation)
        actual = _charged(connection, run_id, since)
        low, high = _in_doubt(connection, run_id, since)
        same = row.basis == present
        values = {
            "actual": str(actual),
            "in_doubt_low": str(low),
            "in_doubt_high": None if high is None else str(high),
            "grade": _grade(row, actual) if same else "other rows",
            "graded_at": now_us,
            "run_id": run_id,
        }
        connection.execute(
            update(estimates).where(estimates.c.estimate_id == row.estimate_id).values(values)
        )
    return len(open_ones)


def _grade(row: Any, actual: int) -> str:  # noqa: ANN401 - a row of SQLAlchemy
    if row.low is None or row.high is None:
        return "no interval"
    if actual < int(row.low):
        return "below"
    return "above" if actual > int(row.high) else "within"


def _inputs(connection: Connection, source_ids: Sequence[int]) -> list[tuple[str, str]]:
    columns = select(sources.c.name, sources.c.fingerprint)
    query = columns.where(sources.c.source_id.in_(source_ids))
    return [(row[0], row[1]) for row in connection.execute(query)]


def _charged(connection: Connection, run_id: int, since: int) -> int:
    """What the run's invocations after `since` were charged, in pico-USD."""
    query = select(func.sum(rollups.c.amount_whole), func.sum(rollups.c.amount_rest)).where(
        rollups.c.invocation_id.in_(_later(run_id, since)),
        rollups.c.currency == "USD",
        rollups.c.superseded_by.is_(None),
    )
    whole, rest = connection.execute(query).one()
    return int(whole or 0) * PICO_PER_WHOLE + int(rest or 0)


def _in_doubt(connection: Connection, run_id: int, since: int) -> tuple[int, int | None]:
    query = select(attempts.c.cost_low, attempts.c.cost_high).where(
        attempts.c.invocation_id.in_(_later(run_id, since)),
        attempts.c.state.in_([state.value for state in IN_DOUBT]),
    )
    low, high, unbounded = 0, 0, False
    for cost_low, cost_high in connection.execute(query):
        low += cost_low
        high += cost_high or 0
        unbounded |= cost_high is None
    return low, None if unbounded else high


def _later(run_id: int, since: int) -> Any:  # noqa: ANN401 - SQLAlchemy's own generic
    return select(invocations.c.invocation_id).where(
        invocations.c.run_id == run_id, invocations.c.invocation_id > since
    )


def _stored(name: str, value: object) -> object:
    return str(value) if name in _AMOUNTS and value is not None else value


def _loaded(row: Any) -> StoredEstimate:  # noqa: ANN401 - a mapping of SQLAlchemy
    values = dict(_fields(row))
    return StoredEstimate(**values)


def _fields(row: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401 - as above
    for name in StoredEstimate.__dataclass_fields__:
        value = row[name]
        yield name, int(value) if name in _AMOUNTS and value is not None else value
