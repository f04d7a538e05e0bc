"""What earlier processes left behind: unfinished requests, done rows, answers to claim."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, Table, func, select, true, update

from batcher.ledger.batches.store import is_out
from batcher.ledger.matching import (
    candidates,
    match,
    read_keys,
    record_shared,
    shareable,
)
from batcher.ledger.schema import (
    answers,
    attempts,
    failures,
    invocations,
    process_id,
    runs,
    shared_answers,
)
from batcher.ledger.schema_internal import tool_results
from batcher.ledger.write.encode import drop_earlier
from batcher.ledger.write.records import (
    AnswerKeys,
    Claimable,
    RowFailure,
    Shared,
    SharePolicy,
    identity,
)
from batcher.ledger.write.statements import update_by_key
from batcher.messages.answer import Store
from batcher.messages.request import IN_DOUBT, Request, State, attempt_ids_of

MATCH_ROWS: Final = 10_000  # rows of a changed source that are matched by one look-up
MATCH_BYTES: Final = 64 * 2**20  # or fewer, when their bodies are this large together
# What may be claimed, the best first, each table with its key.
_CLAIMED: Final = (
    (answers, "attempt_id"),
    (shared_answers, "shared_id"),
    (failures, "failure_id"),
)
_DOUBTFUL: Final = [each.value for each in IN_DOUBT]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unfinished:
    """A request that was begun and not finished: where it stands.

    `attempts` counts all of its attempts, `doubts` those in doubt. `doubt` is the (error type,
    message) of the last attempt when that is in doubt.
    """

    request_id: int
    attempt_id: int
    source_id: int
    row_number: int
    custom_id: str | None
    params_hash: bytes
    attempts: int
    doubts: int
    doubt: tuple[str, str] | None


def unfinished(
    connection: Connection, run_id: int, living: Collection[int] = ()
) -> list[Unfinished]:
    """Requests of the run whose last attempt did not finish them, for continuing the count.

    Those of the `living` are theirs.
    """
    mine = select(invocations.c.invocation_id).where(
        invocations.c.run_id == run_id, process_id.not_in(living)
    )
    last = attempts.alias("last")
    shown = (
        last.c.request_id, last.c.attempt_id, last.c.source_id, last.c.row_number,
        last.c.custom_id, last.c.params_hash, last.c.state, last.c.error_type,
        last.c.error_message,
    )  # fmt: skip
    doubts = func.count().filter(attempts.c.state.in_(_DOUBTFUL))
    query = (
        select(*shown, func.count().label("attempts"), doubts.label("doubts"))
        .where(last.c.pending == 1, last.c.invocation_id.in_(mine), ~is_out(last.c))
        .where(attempts.c.request_id == last.c.request_id)
        .where(attempts.c.attempt_id.between(last.c.request_id, last.c.attempt_id))
        .group_by(*shown)
    )
    return [
        Unfinished(
            request_id=row.request_id,
            attempt_id=row.attempt_id,
            source_id=row.source_id,
            row_number=row.row_number,
            custom_id=row.custom_id,
            params_hash=bytes(row.params_hash),
            attempts=row.attempts,
            doubts=row.doubts,
            doubt=(row.error_type, row.error_message) if row.state in _DOUBTFUL else None,
        )
        for row in connection.execute(query)
    ]


def give_up(
    connection: Connection,
    entry: Unfinished,
    failure: RowFailure,
    *,
    invocation: tuple[int, int],
    store: Store,
    now_us: int,
) -> None:
    """Record that an unfinished request is not sent again; `invocation` is (run_id, its id).

    What `store` keeps only until a request is finished is dropped.
    """
    mine = attempts.c.attempt_id == entry.attempt_id
    byte_offset = connection.execute(select(attempts.c.byte_offset).where(mine)).scalar()
    run_id, invocation_id = invocation
    connection.execute(
        failures.insert().values(
            run_id=run_id,
            invocation_id=invocation_id,
            source_id=entry.source_id,
            row_number=entry.row_number,
            byte_offset=byte_offset,
            custom_id=entry.custom_id,
            params_hash=entry.params_hash,
            identity=identity(entry.custom_id, entry.params_hash),
            kind=failure.kind.value,
            reason=failure.reason,
            message=failure.message,
            transient=int(failure.transient),
            attempt_id=entry.attempt_id,
            failed_at=now_us,
        )
    )
    connection.execute(update(attempts).where(mine).values(pending=0))
    drop_earlier(connection, [entry.request_id], store)


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierAnswer:
    """A complete answer of an unfinished request: a leg, or one that was to be replaced.

    `content` and `tool_results` are JSON text; `tool_results` is `None` when no tool ran.
    """

    content: bytes
    text: str
    container_id: str | None
    stop_reason: str | None
    output_tokens: int | None
    tool_results: bytes | None
    invalid_reason: str | None = None


def earlier_answers(
    connection: Connection, run_id: int, batch: int | None = None
) -> dict[int, list[EarlierAnswer]]:
    """The answers of the run's unfinished requests in order, by request_id; none is final.

    With a `batch` number only those of requests that wait for it.
    """
    mine = select(invocations.c.invocation_id).where(invocations.c.run_id == run_id)
    waiting = select(attempts.c.request_id).where(
        attempts.c.pending == 1, attempts.c.invocation_id.in_(mine)
    )
    if batch is not None:
        waiting = waiting.where(attempts.c.batch_number > 0, attempts.c.batch_number == batch)
    query = (
        select(
            answers.c.request_id,
            answers.c.content,
            answers.c.text,
            answers.c.container_id,
            answers.c.stop_reason,
            answers.c.output_tokens,
            answers.c.invalid_reason,
            tool_results.c.results,
        )
        .join(attempts, attempts.c.attempt_id == answers.c.attempt_id)
        .outerjoin(tool_results, tool_results.c.attempt_id == answers.c.attempt_id)
        .where(attempts.c.state == State.ANSWERED.value)  # not what came of a broken stream
        .where(answers.c.final == 0, answers.c.request_id.in_(waiting))
        .order_by(answers.c.attempt_id)
    )
    earlier: dict[int, list[EarlierAnswer]] = {}
    for row in connection.execute(query):
        answer = EarlierAnswer(
            content=row.content.encode(),
            text=row.text,
            container_id=row.container_id,
            stop_reason=row.stop_reason,
            output_tokens=row.output_tokens,
            tool_results=None if row.results is None else row.results.encode(),
            invalid_reason=row.invalid_reason,
        )
        earlier.setdefault(row.request_id, []).append(answer)
    return earlier


def settled_since_checkpoint(
    connection: Connection, run_id: int, living: Collection[int] = ()
) -> Iterator[tuple[int, int]]:
    """(source_id, row_number) of rows that finished after a dead process's last checkpoint.

    The `living` make further checkpoints of their own.
    """
    unclean = select(invocations.c.invocation_id, invocations.c.settled_below).where(
        invocations.c.run_id == run_id,
        invocations.c.clean == 0,
        process_id.not_in(living),
    )
    for invocation_id, settled_below in connection.execute(unclean).all():
        yield from _finished_rows(connection, invocation_id, settled_below)


def _finished_rows(
    connection: Connection, invocation_id: int, settled_below: int
) -> Iterator[tuple[int, int]]:
    ids = attempt_ids_of(invocation_id)  # no others are read
    answered = select(answers.c.source_id, answers.c.row_number).where(
        answers.c.attempt_id >= max(ids.start, settled_below),
        answers.c.attempt_id < ids.stop,
        answers.c.invocation_id == invocation_id,
        answers.c.final == 1,
    )
    failed = select(failures.c.source_id, failures.c.row_number).where(
        failures.c.invocation_id == invocation_id, failures.c.transient == 0
    )
    shared = select(shared_answers.c.source_id, shared_answers.c.row_number).where(
        shared_answers.c.invocation_id == invocation_id
    )
    for query in (answered, failed, shared):
        yield from ((row[0], row[1]) for row in connection.execute(query))


def finished_rows_of(connection: Connection, source_id: int) -> Iterator[int]:
    """Rows of one snapshot that have an answer, be it another row's, or a lasting failure."""
    for table, extra in (
        (answers, answers.c.final == 1),
        (failures, failures.c.transient == 0),
        (shared_answers, true()),
    ):
        query = select(table.c.row_number).where(table.c.source_id == source_id, extra)
        for (row_number,) in connection.execute(query):
            yield row_number


def save_tool_results(
    connection: Connection, attempt_id: int, results: str, now_us: int
) -> None:
    """Keep the results (JSON text) of the tools that the answer of this attempt called."""
    values = {"attempt_id": attempt_id, "results": results, "ran_at": now_us}
    connection.execute(tool_results.insert().values(values))


def count_answers(connection: Connection) -> int:
    """How many answers `read_answer_keys` would read."""
    return int(connection.scalar(select(func.count()).where(answers.c.final == 1)) or 0)


def read_answer_keys(connection: Connection, sharing: SharePolicy | None = None) -> AnswerKeys:
    """The keys of all answers that are there now; with a policy: by what its run asked."""
    return read_keys(connection, sharing)


def claim(
    connection: Connection,
    among: Claimable,
    requests: Sequence[Request],
    keys: AnswerKeys | None = None,
) -> set[int]:
    """Row numbers of `requests` that an earlier answer or lasting failure belongs to.

    Their locators move along. Each result can be claimed once: n equal rows get n answers. All
    requests are of one source. Whoever looks up more than once hands in the `keys`.
    """
    claimed: set[int] = set()
    for table, key in _CLAIMED:
        left = [request for request in requests if request.row_number not in claimed]
        moves = match(left, candidates(connection, table, key, among, left, keys))
        _move(connection, table, key, moves)
        claimed |= {request.row_number for request, _ in moves}
    return claimed


def claimable(
    connection: Connection,
    among: Claimable,
    requests: Sequence[Request],
    used: set[tuple[str, int]],
    keys: AnswerKeys | None = None,
) -> set[int]:
    """What `claim` would give, changing nothing but `used`: the results spoken for so far."""
    found: set[int] = set()
    for table, key in _CLAIMED:
        left = [request for request in requests if request.row_number not in found]
        free = [
            candidate
            for candidate in candidates(connection, table, key, among, left, keys)
            if (table.name, candidate.key) not in used
        ]
        moves = match(left, free)
        used |= {(table.name, moved) for _, moved in moves}
        found |= {request.row_number for request, _ in moves}
    return found


def others_answered(connection: Connection, sharing: SharePolicy) -> bool:
    """Whether there is another run whose answers could be shared."""
    query = (
        select(invocations.c.invocation_id)
        .join(runs, runs.c.run_id == invocations.c.run_id)
        .where(runs.c.job.is_(None), runs.c.run_id != sharing.run_id)
        .where(invocations.c.endpoint == sharing.endpoint)
        .where(invocations.c.base_url.in_(sharing.addresses))
    )
    return connection.execute(query.limit(1)).first() is not None


def share(
    connection: Connection,
    sharing: SharePolicy,
    requests: Sequence[Request],
    now_us: int,
    keys: AnswerKeys | None = None,
) -> Shared:
    """Let rows have the answers that other rows paid for; all requests are of one source."""
    given = shareable(connection, sharing, requests, (), keys)
    return record_shared(connection, sharing, given, now_us)


def rows_to_share(
    connection: Connection,
    sharing: SharePolicy,
    requests: Sequence[Request],
    used: set[int],
    keys: AnswerKeys | None = None,
) -> set[int]:
    """Row numbers that `share` would give answers to; changes nothing but `used`."""
    given = shareable(connection, sharing, requests, used, keys)
    used |= {attempt_id for _, attempt_id in given}
    return {request.row_number for request, _ in given}


def count_unclaimed_but_answered(
    connection: Connection,
    among: Claimable,
    source_id: int | None,
    requests: Sequence[Request],
    keys: AnswerKeys | None = None,
) -> list[Request]:
    """Requests without an answer of their identity whose row was answered before.

    `source_id` is the older snapshot of the same input, `None` when there is none. Changes
    nothing. These are the rows that a change of settings would send, and pay, again.
    """
    known = {
        (each.custom_id, each.params_hash)
        for table, key in _CLAIMED[:2]
        for each in candidates(connection, table, key, among, requests, keys)
    }
    new = [r for r in requests if (r.custom_id, r.params_hash) not in known]
    if source_id is None or not new:
        return []
    numbers = [request.row_number for request in new]
    answered = set[int]()
    for table in (answers, shared_answers):
        query = select(table.c.row_number).where(
            table.c.source_id == source_id,
            table.c.row_number.between(min(numbers), max(numbers)),
        )
        final = query.where(answers.c.final == 1) if table is answers else query
        answered |= set(connection.execute(final).scalars())
    return [request for request in new if request.row_number in answered]


def _move(
    connection: Connection, table: Table, key: str, moves: Sequence[tuple[Request, int]]
) -> None:
    statement = update_by_key(
        table, ("source_id", "row_number", f"b_{key}"), connection.dialect
    )
    statement.run(connection, [(r.source_id, r.row_number, moved) for r, moved in moves])
