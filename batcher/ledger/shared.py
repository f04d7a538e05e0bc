"""Answers of other runs for rows that ask the same: found, judged, and recorded as shared."""

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
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
    read_keys,
    request_key,
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
from batcher.messages.request import Purpose, Request
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
    if sharing.repeats:
        return _repeated(connection, sharing, requests, keys)
    query = _answers_of_others(sharing, requests[0].source_id)
    warming = {r.params_hash for r in requests if r.max_tokens == 0}
    wanted = attempts_with(connection, identities_of(requests), keys)
    rows = [
        row
        for start in range(0, len(wanted), AT_ONCE)
        for row in connection.execute(query, {"wanted": wanted[start : start + AT_ONCE]})
    ]
    found = [_found(row) for row in sorted(rows, key=lambda r: (r.superseded, r.attempt_id))]
    return match(
        requests,
        [
            Candidate(each.attempt_id, each.custom_id, each.params_hash)
            for each in found
            if each.attempt_id not in used
            and _is_accepted(each, sharing, warms=each.params_hash in warming)
        ],
    )


def _repeated(
    connection: Connection,
    sharing: SharePolicy,
    requests: Sequence[Request],
    keys: AnswerKeys | None,
) -> list[tuple[Request, int]]:
    """Each request with the run's first answer to what it asks."""
    wanted = sorted({request_key(request.params_hash) for request in requests})
    attempt_ids = sorted((keys or read_keys(connection, sharing)).of(wanted))
    warming = {r.params_hash for r in requests if r.max_tokens == 0}
    query = _answers_with(sharing).where(answers.c.run_id == sharing.run_id)
    first: dict[bytes, int] = {}
    for start in range(0, len(attempt_ids), AT_ONCE):
        some = {"wanted": attempt_ids[start : start + AT_ONCE]}
        for found in map(_found, connection.execute(query, some)):
            if _is_accepted(found, sharing, warms=found.params_hash in warming):
                first.setdefault(found.params_hash, found.attempt_id)
    return [(each, first[each.params_hash]) for each in requests if each.params_hash in first]


def _found(row: Row[Any]) -> _Found:
    return _Found(
        attempt_id=row.attempt_id,
        custom_id=row.custom_id,
        params_hash=bytes(row.params_hash),
        stop_reason=row.stop_reason,
        valid=row.valid,
        purpose=row.purpose,
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
        _answers_with(sharing)
        .join(runs, runs.c.run_id == answers.c.run_id)
        .where(answers.c.source_id != source_id, ~taken)
        .where(runs.c.job.is_(None))
        .where(answers.c.invocation_id != sharing.invocation_id)
    )
    if not sharing.own:
        query = query.where(answers.c.run_id != sharing.run_id)
    return query


def _answers_with(sharing: SharePolicy) -> Select[tuple[object, ...]]:
    """Final answers of the `wanted` attempts, by attempt, that the policy is about."""
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
        .join(sources, sources.c.source_id == answers.c.source_id)
        .where(answers.c.attempt_id.in_(bindparam("wanted", expanding=True)))
        .where(answers.c.final == 1)
        .where(invocations.c.endpoint == sharing.endpoint)
        .where(invocations.c.base_url == sharing.base_url)
        .where(answers.c.invocation_id >= sharing.since)
        .order_by(answers.c.attempt_id)
    )
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
    """(pico-USD, answers without such a cost) of these attempts and their earlier legs.

    An attempt that is named n times counts as often.
    """
    ids: BindParameter[int] = bindparam("ids", expanding=True)
    last = answers.alias("last")
    earlier = (
        select(answers.c.attempt_id, last.c.attempt_id)
        .join(last, last.c.request_id == answers.c.request_id)
        .where(last.c.attempt_id.in_(ids), last.c.legs > 1)
        .where(text("answers.final = 0"))
    )
    times = Counter(attempt_ids)
    legs = connection.execute(earlier, {"ids": sorted(times)}).all()
    times |= {leg: times[final] for leg, final in legs}
    query = select(
        charges.c.attempt_id, charges.c.status, charges.c.currency, charges.c.total_amount
    ).where(charges.c.attempt_id.in_(ids), charges.c.current == 1)
    cost, clear = 0, dict[int, bool]()
    for attempt_id, status, currency, amount in connection.execute(
        query, {"ids": sorted(times)}
    ):
        is_usd = currency == "USD" and amount is not None
        is_clear = status == ChargeStatus.UNBILLED or is_usd
        clear[attempt_id] = clear.get(attempt_id, True) and is_clear
        cost += (amount or 0) * times[attempt_id] * is_clear
    return cost, sum(count for each, count in times.items() if not clear.get(each))
