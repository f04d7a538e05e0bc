"""Which stored result belongs to which request: one of the run itself, or one that is shared.

Identities are random numbers. An index of those of answers would be most of what a run writes,
and only a changed or moved input, or one that shares answers, ever looks any up. Such an input
reads all of them once, and where it is done with them they are gone.

Answers of other runs for rows that ask the same are found, judged, and recorded as shared.
"""

import mmap
from array import array
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile, gettempdir
from typing import IO, Any, Final

from sqlalchemy import (
    BindParameter,
    Connection,
    Row,
    Select,
    Table,
    bindparam,
    exists,
    select,
    text,
    true,
    update,
)

from batcher.errors import StorageError
from batcher.ledger.schema import (
    NOT_KEPT,
    answers,
    attempts,
    charges,
    failures,
    invocations,
    runs,
    shared_answers,
    sources,
)
from batcher.ledger.write.records import (
    AnswerKeys,
    Claimable,
    Shared,
    SharePolicy,
    Taken,
    identity,
)
from batcher.messages.request import Purpose, Request
from batcher.pricing.rate.rating import ChargeStatus

AT_ONCE: Final = 10_000  # keys that are read, or looked up, by one statement

FoundRow = Row[*tuple[Any, ...]]


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
        Candidate(row[0], row[1], row[2])
        for row in _rows_with(connection, query, wanted)
        if row[3] not in live
    ]


def _rows_with(
    connection: Connection, query: Select[Any], wanted: Sequence[int]
) -> Iterator[FoundRow]:
    """What `query` finds for the `wanted`, however many."""
    for start in range(0, len(wanted), AT_ONCE):
        yield from connection.execute(query, {"wanted": wanted[start : start + AT_ONCE]}).all()


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


_AT_THE_LIMIT: Final = "max_tokens"  # what a higher limit could have helped
_CUT_OFF: Final = frozenset({_AT_THE_LIMIT, "model_context_window_exceeded"})

NOTHING_SHARED: Final = Shared(frozenset(), 0, 0)


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
    rows = sorted(
        _rows_with(connection, query, wanted), key=lambda r: (r.superseded, r.attempt_id)
    )
    return match(
        requests,
        [
            Candidate(each.attempt_id, each.custom_id, each.params_hash)
            for each in rows
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
    for found in _rows_with(connection, query, attempt_ids):
        if _is_accepted(found, sharing, warms=found.params_hash in warming):
            first.setdefault(found.params_hash, found.attempt_id)
    return [(each, first[each.params_hash]) for each in requests if each.params_hash in first]


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
        .where(invocations.c.base_url.in_(sharing.addresses))
        .where(answers.c.invocation_id >= sharing.since)
        .order_by(answers.c.attempt_id)
    )
    return query.where(answers.c.content != NOT_KEPT) if sharing.words else query


def _is_accepted(found: FoundRow, sharing: SharePolicy, *, warms: bool) -> bool:
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
