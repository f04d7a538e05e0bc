"""Answers that an estimate learns from: those of a pilot, or of earlier runs alike."""

from dataclasses import dataclass

import msgspec
from sqlalchemy import Connection, Select, and_, select

from batcher.ledger.schema import answers, attempts, invocations, sources
from batcher.messages.attempt import Purpose, attempt_ids_of


@dataclass(frozen=True, slots=True, kw_only=True)
class SampledAnswer:
    """The final answer of one row, and the usage of all its legs, JSON text each.

    `source` and `row_number` say where the row stands; `own` whether that is the run asked
    about, so that its body can be read again.
    """

    source: str
    row_number: int
    own: bool
    requested_model: str
    model: str | None
    stop_reason: str | None
    content_is_empty: bool
    usages: tuple[str | None, ...]


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
    alike = select(invocations.c.invocation_id).where(
        invocations.c.settings_digest == settings_digest,
        invocations.c.simulated == int(simulated),
    )
    newest = alike.order_by(invocations.c.invocation_id.desc())
    ids = [int(value) for value in connection.execute(newest).scalars()]
    found: list[SampledAnswer] = []
    for invocation_id in ids:
        if len(found) == limit:
            break
        query = _finals(invocation_id).order_by(answers.c.attempt_id.desc())
        found += _read(connection, query.limit(limit - len(found)), run_id)
    return found


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
    connection: Connection, query: Select[tuple[object, ...]], run_id: int | None
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
