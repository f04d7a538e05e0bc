"""Which stored result belongs to which request: those of one identity, each given once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Table, bindparam, select, true

from batcher.ledger.schema import answers, failures
from batcher.ledger.write.records import Claimable, identity
from batcher.messages.request import Request


@dataclass(frozen=True, slots=True)
class Candidate:
    """A stored result; `key` is that of its table, such as the attempt_id of an answer."""

    key: int
    custom_id: str | None
    params_hash: bytes


def identities_of(requests: Iterable[Request]) -> list[int]:
    """What the requests are looked up by, in ascending order."""
    return sorted({identity(r.custom_id, r.params_hash) for r in requests})


def candidates(
    connection: Connection,
    table: Table,
    key: str,
    among: Claimable,
    requests: Sequence[Request],
) -> list[Candidate]:
    """The lasting results in `table` that may belong to one of `requests`, in order."""
    lasting = {answers.name: answers.c.final == 1, failures.name: failures.c.transient == 0}
    query = (
        select(table.c[key], table.c.custom_id, table.c.params_hash, table.c.source_id)
        .where(
            table.c.identity.in_(bindparam("identities", expanding=True)),
            table.c.run_id == among.run_id,
            table.c.invocation_id >= among.since,
            lasting.get(table.name, true()),
        )
        .order_by(table.c[key])
    )
    rows = connection.execute(query, {"identities": identities_of(requests)})
    live = set(among.live_sources)
    return [Candidate(row[0], row[1], bytes(row[2])) for row in rows if row[3] not in live]


def match(requests: Sequence[Request], found: Iterable[Candidate]) -> list[tuple[Request, int]]:
    """Requests with the key of a candidate of their identity: n equal ones get n of them."""
    waiting: dict[tuple[str | None, bytes], list[int]] = {}
    for each in found:
        waiting.setdefault((each.custom_id, each.params_hash), []).append(each.key)
    moves = []
    for request in requests:
        keys = waiting.get((request.custom_id, request.params_hash))
        if keys:
            moves.append((request, keys.pop(0)))
    return moves
