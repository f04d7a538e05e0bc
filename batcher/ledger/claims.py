"""Answers that were paid for already find their row again, wherever it moved."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, and_, bindparam, select, update

from batcher.ledger.schema import answers, failures
from batcher.ledger.write.records import identity
from batcher.messages.request import Request


@dataclass(frozen=True, slots=True)
class _Candidate:
    key: int  # attempt_id of an answer, failure_id of a failure
    custom_id: str | None
    params_hash: bytes


def claim(
    connection: Connection,
    run_id: int,
    live_sources: Sequence[int],
    requests: Sequence[Request],
) -> set[int]:
    """Row numbers of `requests` that an earlier answer or lasting failure belongs to.

    Their locators move along. Only results whose source is not in `live_sources` can be
    claimed, each once: n equal rows get n answers. All requests are of one source.
    """
    claimed: set[int] = set()
    for table, key in ((answers, "attempt_id"), (failures, "failure_id")):
        left = [request for request in requests if request.row_number not in claimed]
        moves = _match(left, _candidates(connection, table, key, run_id, live_sources, left))
        _move(connection, table, key, moves)
        claimed |= {request.row_number for request, _ in moves}
    return claimed


def claimable(
    connection: Connection,
    run_id: int,
    live_sources: Sequence[int],
    requests: Sequence[Request],
    used: set[tuple[str, int]],
) -> set[int]:
    """What `claim` would give, changing nothing but `used`: the results spoken for so far."""
    found: set[int] = set()
    for table, key in ((answers, "attempt_id"), (failures, "failure_id")):
        left = [request for request in requests if request.row_number not in found]
        candidates = [
            candidate
            for candidate in _candidates(connection, table, key, run_id, live_sources, left)
            if (table.name, candidate.key) not in used
        ]
        moves = _match(left, candidates)
        used |= {(table.name, moved) for _, moved in moves}
        found |= {request.row_number for request, _ in moves}
    return found


def count_unclaimed_but_answered(
    connection: Connection, run_id: int, source_id: int | None, requests: Sequence[Request]
) -> list[Request]:
    """Requests without an answer of their identity whose row was answered before.

    `source_id` is the older snapshot of the same input, `None` when there is none. Changes
    nothing. These are the rows that a change of settings would send, and pay, again.
    """
    candidates = _candidates(connection, answers, "attempt_id", run_id, (), requests)
    known = {identity(c.custom_id, c.params_hash) for c in candidates}
    new = [r for r in requests if identity(r.custom_id, r.params_hash) not in known]
    if source_id is None or not new:
        return []
    numbers = [request.row_number for request in new]
    query = select(answers.c.row_number).where(
        answers.c.source_id == source_id,
        answers.c.final == 1,
        answers.c.row_number.between(min(numbers), max(numbers)),
    )
    answered = set(connection.execute(query).scalars())
    return [request for request in new if request.row_number in answered]


def _candidates(
    connection: Connection,
    table: Table,
    key: str,
    run_id: int,
    live_sources: Sequence[int],
    requests: Sequence[Request],
) -> list[_Candidate]:
    identities = {identity(r.custom_id, r.params_hash) for r in requests}
    lasting = table.c.final == 1 if table is answers else table.c.transient == 0
    query = (
        select(table.c[key], table.c.custom_id, table.c.params_hash, table.c.source_id)
        .where(
            and_(
                table.c.identity.in_(bindparam("identities", expanding=True)),
                table.c.run_id == run_id,
                lasting,
            )
        )
        .order_by(table.c[key])
    )
    rows = connection.execute(query, {"identities": sorted(identities)})
    live = set(live_sources)
    return [_Candidate(row[0], row[1], bytes(row[2])) for row in rows if row[3] not in live]


def _match(
    requests: Sequence[Request], candidates: Iterable[_Candidate]
) -> list[tuple[Request, int]]:
    waiting: dict[tuple[str | None, bytes], list[int]] = {}
    for candidate in candidates:
        waiting.setdefault((candidate.custom_id, candidate.params_hash), []).append(
            candidate.key
        )
    moves = []
    for request in requests:
        keys = waiting.get((request.custom_id, request.params_hash))
        if keys:
            moves.append((request, keys.pop(0)))
    return moves


def _move(
    connection: Connection, table: Table, key: str, moves: Sequence[tuple[Request, int]]
) -> None:
    if not moves:
        return
    statement = (
        update(table)
        .where(table.c[key] == bindparam("b_key"))
        .values(source_id=bindparam("b_source"), row_number=bindparam("b_row"))
    )
    connection.execute(
        statement,
        [
            {"b_key": key, "b_source": request.source_id, "b_row": request.row_number}
            for request, key in moves
        ],
    )
