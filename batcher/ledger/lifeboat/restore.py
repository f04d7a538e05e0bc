"""Takes what a lifeboat saved into the ledger: once, whatever happens in between.

Each settlement is written as the dead run would have written it, under its own invocation. An
attempt that is settled already stays as it is, so a lifeboat may be imported any number of
times, and a commit whose answer was lost needs no guess.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Connection, Engine, delete, func, select, update

from batcher.clock import Clock
from batcher.errors import SchemaVersionError, StorageError
from batcher.ledger.connect import writing
from batcher.ledger.database_errors import may_be_about_data
from batcher.ledger.lifeboat.files import (
    OF_ANOTHER,
    OF_ANOTHER_HISTORY,
    Contents,
    held,
    remove_durably,
)
from batcher.ledger.runs import DIED, attempt_uids
from batcher.ledger.schema import attempts, failures, invocations, price_books
from batcher.ledger.write.corrections import as_late, late_record, mended
from batcher.ledger.write.records import (
    Intent,
    Record,
    Scope,
    Settlement,
    initial_rating,
)
from batcher.ledger.write.transaction import Recorder
from batcher.messages.answer import Store
from batcher.messages.request import NotSent, State

_AT_ONCE = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """What a start took over: `outcomes` that were not in the ledger, and words for people."""

    outcomes: int
    notes: Sequence[str]


def import_lifeboats(
    engine: Engine, paths: Sequence[Path], database_uid: str, clock: Clock
) -> Imported:
    """Record these lifeboats, then remove them; see `LifeboatPlaces.import_into`."""
    outcomes, notes = 0, []
    for path in paths:
        try:
            with held(path) as contents:
                if contents is None:
                    continue  # its run is still writing
                if not _is_of(contents, database_uid):
                    notes.append(f"the lifeboat {path} is not recorded: {OF_ANOTHER}")
                    continue
                outcomes += (count := _import_one(engine, path, contents, clock))
                remove_durably(path)
                notes.append(_words(str(path), count, contents))
        except SchemaVersionError as error:
            raise SchemaVersionError(
                f"{path}: {error}; use that version, or move it away"
            ) from error
        except OSError as error:
            raise StorageError(
                f"the lifeboat {path} cannot be read: {error.strerror}; check the disk, or move"
                " it away to go on without its answers"
            ) from error
    return Imported(outcomes=outcomes, notes=tuple(note for note in notes if note))


def record_late(
    engine: Engine,
    scope: Scope,
    settlements: Sequence[Settlement],
    clock: Clock,
    *,
    store: Store,
    exit_code: int,
) -> None:
    """A last try of the run that failed: its unsaved settlements, and that it ended.

    Where another process took over meanwhile, what it gave up is late if it was answered again.

    Raises:
        StorageError: the ledger fails again, or is an older state that knows no such run.
    """
    recorder = Recorder(engine.dialect, scope, clock, store)
    with writing(engine) as connection:
        if settlements:
            if not is_of_history(connection, scope, settlements):
                raise StorageError(f"what was saved is not recorded: {OF_ANOTHER_HISTORY}")
            _settle(connection, recorder, settlements, taken_over=True)
            _look_again(connection, scope)
        _end(connection, scope, clock.now_us(), exit_code)


def _is_of(contents: Contents, database_uid: str) -> bool:
    """Whether it belongs to this ledger; one without a header holds nothing of anybody."""
    return contents.header is None or contents.header.database_uid == database_uid


def _import_one(engine: Engine, path: Path, contents: Contents, clock: Clock) -> int:
    header = contents.header
    if header is None or not contents.settlements:
        return 0
    with writing(engine) as connection:
        if not is_of_history(connection, header.scope, contents.settlements):
            raise StorageError(f"the lifeboat {path} is not recorded: {OF_ANOTHER_HISTORY}")
        scope = _with_rating(connection, header.scope, clock.now_us())
        recorder = Recorder(connection.dialect, scope, clock, header.store)
        count = _settle(connection, recorder, contents.settlements, taken_over=False)
        _look_again(connection, scope)
        _end(connection, scope, header.written_at, StorageError.exit_code)
        return count


def _words(path: str, count: int, contents: Contents) -> str:
    if not contents.settlements and not contents.cut:
        return ""
    cut = "; its last record was cut off by the same trouble" if contents.cut else ""
    return f"{count:,} outcomes that the lifeboat {path} had kept are recorded{cut}"


def is_of_history(
    connection: Connection, scope: Scope, settlements: Sequence[Settlement]
) -> bool:
    """Whether these are attempts of an invocation that the ledger here knows.

    After a backup was put back, another invocation may have the number of theirs.
    """
    uids = attempt_uids(connection, scope.invocation_id)
    if uids is None or not all(each.attempt.uid.startswith(uids) for each in settlements):
        return False
    book = price_books.c.price_book_id == scope.price_book_id
    return (
        connection.execute(select(price_books.c.price_book_id).where(book)).first() is not None
    )


def _with_rating(connection: Connection, scope: Scope, now_us: int) -> Scope:
    """Its charges are of the newest rating: a reprice may have come in between."""
    return Scope(
        run_id=scope.run_id,
        invocation_id=scope.invocation_id,
        lane=scope.lane,
        rating_id=initial_rating(connection, scope.price_book_id, now_us),
        price_book_id=scope.price_book_id,
    )


def _settle(
    connection: Connection,
    recorder: Recorder,
    settlements: Sequence[Settlement],
    *,
    taken_over: bool,
) -> int:
    """Write those whose attempt is not settled; how many."""
    count = 0
    for start in range(0, len(settlements), _AT_ONCE):
        some = {each.attempt.attempt_id: each for each in settlements[start : start + _AT_ONCE]}
        known = _known(connection, list(some))
        intents = [
            Intent(attempt=each.attempt)
            for key, each in some.items()
            if key not in known and not isinstance(each.outcome, NotSent)
        ]
        late = _given_up(connection, known, taken_over=taken_over)
        followed = [some.pop(key) for key in late] if taken_over else []
        due = list(_due(some, known, late))
        told = (late_record(connection, each) for each in followed)
        due += [each for each in told if each is not None]
        _write(connection, recorder, intents)
        _write(connection, recorder, due)
        recorder.supersede(connection, intents)  # also those that were settled just now
        count += len(due)
    return count


def _end(connection: Connection, scope: Scope, ended_at: int, exit_code: int) -> None:
    """Say how the invocation ended, unless that is known."""
    connection.execute(
        update(invocations)
        .where(
            invocations.c.invocation_id == scope.invocation_id, invocations.c.ended_at.is_(None)
        )
        .values(ended_at=ended_at, exit_code=exit_code)
    )


def _look_again(connection: Connection, scope: Scope) -> None:
    """Whoever resumes has to look for rows that this invocation finished."""
    mine = invocations.c.invocation_id == scope.invocation_id
    connection.execute(update(invocations).where(mine).values(clean=0))


def _known(connection: Connection, ids: Sequence[int]) -> dict[int, tuple[str, str | None]]:
    """State and error type of the attempts that the ledger has."""
    query = select(attempts.c.attempt_id, attempts.c.state, attempts.c.error_type)
    found = connection.execute(query.where(attempts.c.attempt_id.in_(ids)))
    return {row[0]: (row[1], row[2]) for row in found}


def _given_up(
    connection: Connection, known: dict[int, tuple[str, str | None]], *, taken_over: bool
) -> frozenset[int]:
    """Those that a later start took for lost and sent again, before this lifeboat was found."""
    doubted = [key for key, found in known.items() if found == (State.UNKNOWN.value, DIED)]
    if taken_over or not doubted:
        return frozenset(doubted)
    # A row that was failed or held because of that doubt is neither.
    connection.execute(delete(failures).where(failures.c.attempt_id.in_(doubted)))
    later = attempts.alias("later")
    query = (
        select(attempts.c.attempt_id)
        .join(later, later.c.request_id == attempts.c.request_id)
        .where(attempts.c.attempt_id.in_(doubted))
        .group_by(attempts.c.attempt_id)
        .having(func.max(later.c.attempt_id) > attempts.c.attempt_id)
    )
    return frozenset(connection.execute(query).scalars())


def _due(
    some: dict[int, Settlement],
    known: dict[int, tuple[str, str | None]],
    late: frozenset[int],
) -> Iterator[Settlement]:
    for key, settlement in some.items():
        state = known.get(key)
        if state is None and isinstance(settlement.outcome, NotSent):
            continue  # its intent never became durable: there was no attempt
        if state is not None and state not in {
            (State.OPEN.value, None),
            (State.UNKNOWN.value, DIED),
        }:
            continue  # settled already
        yield as_late(settlement) if key in late else settlement


def _write(connection: Connection, recorder: Recorder, records: Sequence[Record]) -> None:
    """All of them; one that the database refuses is mended, and the others are as they were."""
    if not records:
        return
    try:
        with connection.begin_nested():
            recorder.write(connection, records)
    except Exception as exc:
        recorder.forget()
        if not may_be_about_data(exc):
            raise
        if len(records) == 1:
            recorder.write(connection, [mended(records[0])])
            return
        half = len(records) // 2
        _write(connection, recorder, records[:half])
        _write(connection, recorder, records[half:])
