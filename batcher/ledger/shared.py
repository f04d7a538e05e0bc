"""Answers of other runs for rows that ask the same: found, judged, and recorded as shared."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Select,
    bindparam,
    exists,
    select,
    text,
    update,
)

from batcher.ledger.matching import (
    AT_ONCE,
    Candidate,
    attempts_with,
    identities_of,
    match,
)
from batcher.ledger.schema import (
    NOT_KEPT,
    answers,
    attempts,
    charges,
    invocations,
    runs,
    shared_answers,
    sources,
)
from batcher.ledger.write.records import AnswerKeys, Shared, SharePolicy, Taken, identity
from batcher.messages.attempt import Purpose
from batcher.messages.request import Request
from batcher.pricing.rate.rating import ChargeStatus

_AT_THE_LIMIT: Final = "max_tokens"  # what a higher limit could have helped
_CUT_OFF: Final = frozenset({_AT_THE_LIMIT, "model_context_window_exceeded"})


NOTHING_SHARED: Final = Shared(frozenset(), 0, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    attempt_id: int
    custom_id: str | None
    params_hash: bytes
    stop_reason: str | None
    valid: int | None
    purpose: str


def shareable(
    connection: Connection,
    sharing: SharePolicy,
    requests: Sequence[Request],
    used: Collection[int] = (),
    keys: AnswerKeys | None = None,
) -> list[tuple[Request, int]]:
    """Those of the requests that may have another row's answer, each with its attempt_id.

    All requests are of one source; an answer goes to one of its rows. `used` are attempts that
    went to rows of it besides.
    """
    if not requests:
        return []
    query = _answers_of_others(sharing, requests[0].source_id)
    warming = {r.params_hash for r in requests if r.max_tokens == 0}
    wanted = attempts_with(connection, identities_of(requests), keys)
    rows = [
        row
        for start in range(0, len(wanted), AT_ONCE)
        for row in connection.execute(query, {"wanted": wanted[start : start + AT_ONCE]})
    ]
    found = [
        _Found(
            attempt_id=row.attempt_id,
            custom_id=row.custom_id,
            params_hash=bytes(row.params_hash),
            stop_reason=row.stop_reason,
            valid=row.valid,
            purpose=row.purpose,
        )
        for row in sorted(rows, key=lambda row: (row.superseded, row.attempt_id))
    ]
    return match(
        requests,
        [
            Candidate(each.attempt_id, each.custom_id, each.params_hash)
            for each in found
            if each.attempt_id not in used
            and _is_accepted(each, sharing, warms=each.params_hash in warming)
        ],
    )


def record_shared(
    connection: Connection,
    sharing: SharePolicy,
    given: Sequence[tuple[Request, int]],
    now_us: int,
) -> Shared:
    """Let these rows have these answers; what was begun for them is finished so."""
    if not given:
        return NOTHING_SHARED
    connection.execute(
        shared_answers.insert(),
        [
            {
                "run_id": sharing.run_id,
                "invocation_id": sharing.invocation_id,
                "source_id": request.source_id,
                "row_number": request.row_number,
                "custom_id": request.custom_id,
                "params_hash": request.params_hash,
                "identity": identity(request.custom_id, request.params_hash),
                "attempt_id": attempt_id,
                "shared_at": now_us,
            }
            for request, attempt_id in given
        ],
    )
    numbers = [request.row_number for request, _ in given]
    begun = update(attempts).where(
        text("attempts.pending = 1"),
        attempts.c.source_id == given[0][0].source_id,
        attempts.c.row_number.in_(bindparam("numbers", expanding=True)),
    )
    connection.execute(begun.values(pending=0), {"numbers": numbers})
    return Shared(frozenset(numbers), *_cost(connection, [key for _, key in given]))


def _answers_of_others(sharing: SharePolicy, source_id: int) -> Select[tuple[object, ...]]:
    """Those that no row of the source has; answers of the newest versions of files go first."""
    taken = exists().where(
        shared_answers.c.attempt_id == answers.c.attempt_id,
        shared_answers.c.source_id == source_id,
    )
    query = (
        select(
            answers.c.attempt_id,
            answers.c.custom_id,
            answers.c.params_hash,
            answers.c.stop_reason,
            answers.c.valid,
            attempts.c.purpose,
            sources.c.superseded_by.is_not(None).label("superseded"),
        )
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .join(invocations, invocations.c.invocation_id == answers.c.invocation_id)
        .join(runs, runs.c.run_id == answers.c.run_id)
        .join(sources, sources.c.source_id == answers.c.source_id)
        .where(answers.c.attempt_id.in_(bindparam("wanted", expanding=True)))
        .where(answers.c.final == 1, answers.c.source_id != source_id, ~taken)
        .where(runs.c.job.is_(None))
        .where(invocations.c.endpoint == sharing.endpoint)
        .where(invocations.c.base_url == sharing.base_url)
        .where(answers.c.invocation_id >= sharing.since)
        .where(answers.c.invocation_id != sharing.invocation_id)
    )
    if not sharing.own:
        query = query.where(answers.c.run_id != sharing.run_id)
    return query.where(answers.c.content != NOT_KEPT) if sharing.words else query


def _is_accepted(found: _Found, sharing: SharePolicy, *, warms: bool) -> bool:
    """Whether the run would have kept the answer, had it come to its own row.

    A request that only `warms` a cache is always cut off.
    """
    if found.stop_reason in _CUT_OFF and not warms:
        raised = found.purpose == Purpose.TRUNCATION or found.stop_reason != _AT_THE_LIMIT
        if not _is_taken(sharing.truncated, replaced=raised):
            return False
    asked_again = found.purpose == Purpose.INVALID
    return found.valid != 0 or _is_taken(sharing.invalid, replaced=asked_again)


def _is_taken(taken: Taken, *, replaced: bool) -> bool:
    return taken is Taken.ALWAYS or (taken is Taken.REPLACED and replaced)


def _cost(connection: Connection, attempt_ids: Sequence[int]) -> tuple[int, int]:
    """(pico-USD, answers without such a cost) of these attempts and their earlier legs."""
    ids: BindParameter[int] = bindparam("ids", expanding=True)
    several = select(answers.c.request_id).where(
        answers.c.attempt_id.in_(ids), answers.c.legs > 1
    )
    earlier = select(answers.c.attempt_id).where(
        text("answers.final = 0"), answers.c.request_id.in_(several)
    )
    every = {*attempt_ids, *connection.execute(earlier, {"ids": attempt_ids}).scalars()}
    query = select(
        charges.c.attempt_id, charges.c.status, charges.c.currency, charges.c.total_amount
    ).where(charges.c.attempt_id.in_(ids), charges.c.current == 1)
    cost, unknown, rated = 0, set[int](), set[int]()
    for attempt_id, status, currency, amount in connection.execute(
        query, {"ids": sorted(every)}
    ):
        rated.add(attempt_id)
        if status == ChargeStatus.UNBILLED or (currency == "USD" and amount is not None):
            cost += amount or 0
        else:
            unknown.add(attempt_id)
    return cost, len(unknown | (every - rated))
