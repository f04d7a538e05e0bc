"""Estimates of what runs will cost: kept until the run is over, then graded.

Amounts are decimal text of pico-USD in the table, because the ceiling of a large job does not
fit 64 bits; here they are integers. An estimate learns from the answers of a pilot, or from
those of earlier runs under the same settings.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Select, and_, func, select, update

from batcher.ledger.schema import (
    PICO_PER_WHOLE,
    answers,
    attempts,
    invocations,
    rollups,
    runs,
    sources,
)
from batcher.ledger.schema_internal import batches, estimates
from batcher.messages.request import IN_DOUBT, Purpose, attempt_ids_of

_AMOUNTS: Final = (
    "expected", "low", "high", "ceiling", "actual", "in_doubt_low", "in_doubt_high",
)  # fmt: skip

CACHED: Final = "cached"  # among an invocation's options: it used the prompt cache on purpose

_TIMED_INVOCATIONS: Final = 20
_TIMED_ANSWERS: Final = 2_000
_TIMED_BATCHES: Final = 100


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


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswer:
    """The final answer of one row, and the usage of all its legs, JSON text each.

    `source` and `row_number` say where the row stands; `own` whether that is the run asked
    about, so that its body can be read again. `was_cached_on_purpose`: the run placed the
    breakpoints, not the row.
    """

    source: str
    row_number: int
    own: bool
    requested_model: str
    model: str | None
    stop_reason: str | None
    content_is_empty: bool
    usages: tuple[str | None, ...]
    was_cached_on_purpose: bool = False


def pilot_answers(
    connection: Connection, run_id: int, settings_digest: str
) -> list[SampledAnswer]:
    """What the pilots of the run brought under these settings; pilots are small."""
    found: list[SampledAnswer] = []
    for invocation_id, options in connection.execute(
        select(invocations.c.invocation_id, invocations.c.options).where(
            invocations.c.run_id == run_id, invocations.c.settings_digest == settings_digest
        )
    ).all():
        if msgspec.json.decode(options).get("pilot"):
            found += _read(connection, _of_pilot(invocation_id), run_id)
    return found


def like_answers(
    connection: Connection,
    *,
    settings_digest: str,
    simulated: bool,
    run_id: int | None,
    limit: int,
) -> list[SampledAnswer]:
    """The newest answers under these settings, of any run, `limit` of them at most."""
    alike = select(invocations.c.invocation_id, invocations.c.options).where(
        invocations.c.settings_digest == settings_digest,
        invocations.c.simulated == int(simulated),
    )
    newest = alike.order_by(invocations.c.invocation_id.desc())
    found: list[SampledAnswer] = []
    for invocation_id, options in connection.execute(newest).all():
        if len(found) == limit:
            break
        query = _finals(invocation_id).order_by(answers.c.attempt_id.desc())
        cached = bool(msgspec.json.decode(options).get(CACHED))
        found += _read(connection, query.limit(limit - len(found)), run_id, cached=cached)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointTimes:
    """How long an endpoint took of late.

    `latency_us` is the mean of live answers, `None`: there are none, and `tokens` what one of
    them reads, past the cache, and writes; `batch_seconds` are those from the making of batches
    to their end.
    """

    latency_us: int | None = None
    tokens: tuple[float, float] | None = None
    batch_seconds: tuple[int, ...] = ()


def endpoint_times(
    connection: Connection, endpoint: str, addresses: Collection[str]
) -> EndpointTimes:
    """What this database knows of that."""
    there = and_(invocations.c.endpoint == endpoint, invocations.c.base_url.in_(addresses))
    newest = select(invocations.c.invocation_id).where(there)
    newest = newest.order_by(invocations.c.invocation_id.desc()).limit(_TIMED_INVOCATIONS)
    live: list[tuple[int, int, int]] = []
    for invocation_id in connection.execute(newest).scalars().all():
        ids = attempt_ids_of(invocation_id)
        query = (
            select(
                answers.c.latency_us,
                func.coalesce(answers.c.input_tokens, 0),
                func.coalesce(answers.c.output_tokens, 0),
            )
            .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
            .where(answers.c.attempt_id >= ids.start, answers.c.attempt_id < ids.stop)
            .where(func.coalesce(attempts.c.batch_number, 0) == 0)
            .limit(_TIMED_ANSWERS - len(live))
        )
        live += [(row[0], row[1], row[2]) for row in connection.execute(query)]
    ended = (
        select(batches.c.ended_at - batches.c.created_at)
        .join(invocations, invocations.c.invocation_id == batches.c.invocation_id)
        .where(there, batches.c.ended_at.is_not(None), batches.c.created_at.is_not(None))
        .order_by(batches.c.batch_number.desc())
        .limit(_TIMED_BATCHES)
    )
    waited = [max(int(each) // 10**6, 0) for each in connection.execute(ended).scalars()]
    if not live:
        return EndpointTimes(batch_seconds=tuple(waited))
    latency, tokens_in, tokens_out = (
        sum(column) / len(live) for column in zip(*live, strict=True)
    )
    return EndpointTimes(
        latency_us=int(latency),
        tokens=(tokens_in, tokens_out),
        batch_seconds=tuple(waited),
    )


def _finals(invocation_id: int) -> Select[tuple[object, ...]]:
    ids = attempt_ids_of(invocation_id)
    mine = and_(answers.c.attempt_id >= ids.start, answers.c.attempt_id < ids.stop)
    return (
        select(
            sources.c.name,
            answers.c.row_number,
            answers.c.run_id,
            sources.c.superseded_by,
            answers.c.requested_model,
            answers.c.model,
            answers.c.stop_reason,
            answers.c.content,
            answers.c.usage,
            answers.c.legs,
            answers.c.request_id,
        )
        .join(sources, sources.c.source_id == answers.c.source_id)
        .where(mine, answers.c.final == 1)
    )


def _of_pilot(invocation_id: int) -> Select[tuple[object, ...]]:
    """Those whose request began in a pilot, even where a retry brought the answer."""
    began = attempts.alias("began")
    return (
        _finals(invocation_id)
        .join(began, began.c.attempt_id == answers.c.request_id)
        .where(began.c.purpose == Purpose.PILOT.value)
    )


def _read(
    connection: Connection,
    query: Select[tuple[object, ...]],
    run_id: int | None,
    *,
    cached: bool = False,
) -> list[SampledAnswer]:
    return [
        SampledAnswer(
            source=row.name,
            row_number=row.row_number,
            own=row.run_id == run_id and row.superseded_by is None,
            requested_model=row.requested_model,
            model=row.model,
            stop_reason=row.stop_reason,
            content_is_empty=row.content.strip() in {"[]", '""'},
            usages=_usages(connection, row.request_id, row.usage, row.legs),
            was_cached_on_purpose=cached,
        )
        for row in connection.execute(query).all()
    ]


def _usages(
    connection: Connection, request_id: int, usage: str | None, legs: int
) -> tuple[str | None, ...]:
    if legs == 1:
        return (usage,)
    query = select(answers.c.usage).where(
        answers.c.request_id == request_id, answers.c.final == 0
    )
    return (*connection.execute(query).scalars(), usage)
