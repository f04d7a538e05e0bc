"""Which stored result belongs to which request: those of one identity, each given once.

Identities are random numbers. An index of those of answers would be most of what a run writes,
and only a changed or moved input, or one that shares answers, ever looks any up. Such an input
reads all of them once, and where it is done with them they are gone.
"""

import mmap
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, Final

from sqlalchemy import Connection, Table, bindparam, select, true

from batcher.errors import StorageError
from batcher.ledger.schema import answers, failures
from batcher.ledger.write.records import AnswerKeys, Claimable, SharePolicy, identity
from batcher.messages.request import Request

AT_ONCE: Final = 10_000  # keys that are read, or looked up, by one statement


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
    keys: AnswerKeys | None,
) -> list[Candidate]:
    """The lasting results in `table` that may belong to one of `requests`, in order.

    `keys` `None`: answers are looked through for these requests alone.
    """
    lasting = {answers.name: answers.c.final == 1, failures.name: failures.c.transient == 0}
    query = (
        select(table.c[key], table.c.custom_id, table.c.params_hash, table.c.source_id)
        .where(
            (table.c[key] if table is answers else table.c.identity).in_(
                bindparam("wanted", expanding=True)
            ),
            table.c.run_id == among.run_id,
            table.c.invocation_id >= among.since,
            lasting.get(table.name, true()),
        )
        .order_by(table.c[key])
    )
    wanted = identities_of(requests)
    if table is answers:
        wanted = attempts_with(connection, wanted, keys)
    live = set(among.live_sources)
    return [
        Candidate(row[0], row[1], bytes(row[2]))
        for start in range(0, len(wanted), AT_ONCE)
        for row in connection.execute(query, {"wanted": wanted[start : start + AT_ONCE]}).all()
        if row[3] not in live
    ]


def attempts_with(
    connection: Connection, identities: Sequence[int], keys: AnswerKeys | None
) -> list[int]:
    """The attempts of answers with these identities, ascending."""
    return sorted((keys or read_keys(connection)).of(identities)) if identities else []


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


class SortedKeys:
    """See `AnswerKeys`.

    Two sorted columns of numbers in files without a name, read as memory: the system takes back
    what is not looked at, so that the process stays small however many answers there are.
    """

    def __init__(self, pieces: Iterable[Sequence[tuple[int, int]]]) -> None:
        with TemporaryFile() as identities, TemporaryFile() as attempts:
            for some in pieces:
                first, second = zip(*some, strict=True)
                identities.write(array("q", first).tobytes())
                attempts.write(array("q", second).tobytes())
            self._identities = _numbers(identities)
            self._attempts = _numbers(attempts)

    def of(self, identities: Iterable[int]) -> list[int]:
        """The attempt_ids of answers with one of these identities, which are ascending."""
        known, found, place = self._identities, list[int](), 0
        for wanted in identities:
            place = bisect_left(known, wanted, place)
            while place < len(known) and known[place] == wanted:
                found.append(self._attempts[place])
                place += 1
        return found

    def __len__(self) -> int:
        """See `AnswerKeys`."""
        return len(self._attempts)


def read_keys(connection: Connection, sharing: SharePolicy | None = None) -> SortedKeys:
    """The keys of all final answers, as they are now; raises `StorageError`: no room.

    With a policy: those of its run, by what was asked (see `request_key`).
    """
    by = answers.c.identity if sharing is None else answers.c.params_hash
    query = select(by, answers.c.attempt_id).where(answers.c.final == 1)
    if sharing is not None:
        of_run = answers.c.run_id == sharing.run_id
        query = query.where(of_run, answers.c.invocation_id >= sharing.since)
    ordered = query.order_by(by, answers.c.attempt_id)
    rows = connection.execute(ordered.execution_options(yield_per=AT_ONCE))
    pieces: Iterable[Sequence[Any]] = rows.partitions()
    if sharing is not None:
        pieces = ([(request_key(each[0]), each[1]) for each in some] for some in pieces)
    try:
        return SortedKeys(pieces)
    except OSError as exc:
        raise StorageError(
            f"{gettempdir()}: no room for the identities of answers, by which changed rows are"
            f" recognised ({exc.strerror}): set TMPDIR to a folder that has some"
        ) from exc


def request_key(params_hash: bytes) -> int:
    """8 signed bytes of the hash, in its order; equality is checked in full."""
    return int.from_bytes(params_hash[:8], "big") - 2**63


def _numbers(file: IO[bytes]) -> memoryview:
    size = file.tell()
    file.flush()
    whole = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) if size else b""
    return memoryview(whole).cast("q")
