"""What the engine hands to the writer: one frozen record per change of the ledger.

A `Scope` says under which run and rating they are written; `open_rating` makes that rating.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from hashlib import blake2b
from typing import Any, Final, Protocol
from zlib import crc32

import msgspec
from sqlalchemy import Connection, and_, delete, func, select

from batcher.ledger.schema import (
    NOT_KEPT,
    answers,
    attempts,
    failures,
    price_books,
    ratings,
    sources,
)
from batcher.ledger.schema_internal import batches
from batcher.ledger.write.statements import insert_into
from batcher.messages.answer import NotAMessage, text_of
from batcher.messages.failure import FailureKind
from batcher.messages.prefix import ONE_HOUR
from batcher.messages.request import (
    Attempt,
    BadRow,
    Outcome,
    State,
)
from batcher.pricing.book.book import PriceBook
from batcher.pricing.rate.rating import Charge
from batcher.pricing.rate.trust import RULES_EDITION

_WRITTEN_US: Final = 3_600 * 10**6  # so long is in a cache what an hour was asked for


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose records are written, and under which rating.

    `in_batches`: attempts leave together, some time after their intents.
    """

    run_id: int
    invocation_id: int
    lane: str
    rating_id: int
    price_book_id: int
    in_batches: bool = False


class Taken(Enum):
    """Whether an answer that is not quite good enough is taken from another run."""

    ALWAYS = "always"
    REPLACED = "replaced"  # only one that was asked for again already
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class SharePolicy:
    """Which answers of other rows a run takes: of runs without a name, at the same endpoint.

    `addresses` are all spellings of the endpoint's.
    Only those of invocations from `since` on, and with `words` only those whose words are kept.
    `truncated` and `invalid` are those that were cut off, or do not follow their schema. Of
    the run's own `invocation_id` none are taken (0: it has not begun), of its earlier ones
    with `own`: those of its other inputs. With `repeats` it is about the run's own answers
    alone, whatever its name and the rows' custom_ids, and each goes to any number of rows.
    """

    run_id: int
    invocation_id: int
    endpoint: str
    addresses: tuple[str, ...]
    since: int
    words: bool
    truncated: Taken
    invalid: Taken
    own: bool = False
    repeats: bool = False


@dataclass(frozen=True, slots=True)
class Shared:
    """Rows that got another row's answer, and what all of them would have cost in pico-USD.

    `unpriced` counts the answers whose cost nobody knows, or is in another currency.
    """

    rows: frozenset[int]
    cost: int
    unpriced: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimable:
    """Whose results a row may claim: those of the run that no row of `live_sources` has.

    Those of invocations before `since` belong to earlier rounds of the run, and stay there.
    """

    run_id: int
    live_sources: Sequence[int]
    since: int = 0


class AnswerKeys(Protocol):
    """The attempts of all final answers that there were, by identity; see `identity`."""

    def of(self, identities: Iterable[int]) -> list[int]:
        """Those of answers with one of these identities, which are ascending."""

    def __len__(self) -> int:
        """How many there are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFailure:
    """Why a row that was sent is failed or held; `transient`: to do again next time."""

    kind: FailureKind
    reason: str
    message: str
    transient: bool


_ENCODER: Final = msgspec.json.Encoder()
_ONE_TEXT: Final = b'[{"type":"text","text":%b}]'  # as the provider writes it


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Before an attempt's first byte leaves."""

    attempt: Attempt


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of an attempt: outcome, answer, charges and row state, in one transaction.

    `pending` says that the request is not finished. `final` marks an answer as the row's own;
    `joined_content` and `joined_text` hold all legs when there were several. `cost_low` and
    `cost_high` are pico-USD; `cost_high` is `None` when unbounded. `valid` says whether an
    answer follows its schema, `None`: it has none, or that could not be told.
    """

    attempt: Attempt
    outcome: Outcome
    state: State
    pending: bool
    cost_low: int
    cost_high: int | None
    charges: tuple[Charge, ...] = ()
    final: bool = False
    joined_content: str | None = None
    joined_text: str | None = None
    failure: RowFailure | None = None
    valid: bool | None = None
    invalid_reason: str | None = None


class Quarantine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row refused before sending."""

    row: BadRow


Record = Intent | Settlement | Quarantine


def identity(custom_id: str | None, params_hash: bytes) -> int:
    """8 signed bytes that name a row's identity, for the index; equality is checked in full."""
    digest = blake2b(params_hash, digest_size=8)
    if custom_id is not None:
        digest.update(b"\0" + custom_id.encode())
    return int.from_bytes(digest.digest(), "big", signed=True)


def checksum_of(
    content: bytes, usage: bytes | None, joined_content: str | None, joined_text: str | None
) -> int:
    """What tells later whether these are still as they were recorded.

    The text is left out: it follows from the content.
    """
    checksum = crc32(content, crc32(usage or b""))
    for joined in (joined_content, joined_text):
        if joined is not None:
            checksum = crc32(joined.encode(errors="surrogatepass"), checksum)
    return checksum


def what_changed(row: Any) -> str | None:  # noqa: ANN401 - a row with these columns
    """How an answer is not what was recorded, in words; `None`: it is, or has no checksum."""
    if row.checksum is None:
        return None
    content, usage = row.content.encode(), None if row.usage is None else row.usage.encode()
    found = checksum_of(content, usage, row.joined_content, row.joined_text)
    if row.checksum != found:
        return "content or usage is not what was recorded"
    if row.content == NOT_KEPT or content == _ONE_TEXT % _ENCODER.encode(row.text):
        return None  # the second is what most answers are, and need not be read for it
    try:
        text = text_of(content)
    except NotAMessage as error:
        return str(error)
    return None if text == row.text else "its text is not that of its content"


def open_rating(connection: Connection, book: PriceBook, now_us: int) -> tuple[int, int]:
    """(price_book_id, rating_id) of the initial rating with this book, made when new.

    Also made when there was a reprice since: what is charged later is of a later rating. Safe
    beside other runs that begin at the same moment: the book's row is locked until commit.
    """
    book_id = store_book(connection, book)
    return book_id, initial_rating(connection, book_id, now_us)


def initial_rating(connection: Connection, book_id: int, now_us: int) -> int:
    """The rating_id that new charges of this book get, made when there is none; see above."""
    last_pass = select(func.coalesce(func.max(ratings.c.rating_id), 0)).where(
        ratings.c.reason != "initial"
    )
    rating = select(ratings.c.rating_id).where(
        ratings.c.price_book_id == book_id,
        ratings.c.reason == "initial",
        ratings.c.rules == RULES_EDITION,
        ratings.c.rating_id > last_pass.scalar_subquery(),
    )
    rating_id = connection.execute(rating.limit(1)).scalar()
    if rating_id is None:
        initial = ratings.insert().values(
            price_book_id=book_id, created_at=now_us, reason="initial", rules=RULES_EDITION
        )
        rating_id = connection.execute(initial.returning(ratings.c.rating_id)).scalar_one()
    return int(rating_id)


def store_book(connection: Connection, book: PriceBook) -> int:
    """The price_book_id of this book, recorded when new; its row is locked until commit."""
    known = select(price_books.c.price_book_id).where(price_books.c.sha256 == book.sha256)
    if connection.execute(known).scalar() is None:
        insert = insert_into(price_books, connection.dialect).values(
            version=book.version,
            sha256=book.sha256,
            source=book.source,
            content=book.content,
        )
        connection.execute(insert.on_conflict_do_nothing())
    return int(connection.execute(known.with_for_update()).scalar_one())


def sources_besides(
    connection: Connection, run_id: int, names: Collection[str]
) -> Sequence[int]:
    """All snapshots of the run's inputs but those of these names."""
    others = sources.c.run_id == run_id, sources.c.name.not_in(names)
    return connection.scalars(select(sources.c.source_id).where(*others)).all()


def unfinished_rows(connection: Connection, source_ids: Collection[int]) -> dict[str, int]:
    """How many rows of these sources are quarantined, failed or held; only kinds present."""
    query = select(failures.c.kind, failures.c.source_id, func.count()).group_by(
        failures.c.kind, failures.c.source_id
    )
    counts: dict[str, int] = {}
    for kind, source_id, count in connection.execute(query):
        if source_id in source_ids:
            counts[kind] = counts.get(kind, 0) + count
    return counts


def answered_after(connection: Connection, source_ids: Collection[int], moment_us: int) -> int:
    """How many rows of these sources got their answer after that moment."""
    query = select(answers.c.source_id, func.count()).where(
        answers.c.final == 1, answers.c.answered_at > moment_us
    )
    found = connection.execute(query.group_by(answers.c.source_id))
    return sum(count for source_id, count in found if source_id in source_ids)


def has_failure(connection: Connection, source_id: int, reason: str) -> bool:
    """Whether a row of this source got no answer for this reason."""
    query = (
        select(failures.c.failure_id)
        .where(failures.c.source_id == source_id, failures.c.reason == reason)
        .limit(1)
    )
    return connection.execute(query).first() is not None


def forget_transient_failures(connection: Connection, run_id: int) -> int:
    """Rows that failed for transient causes are to do again; how many those are."""
    result = connection.execute(
        delete(failures).where(failures.c.run_id == run_id, failures.c.transient == 1)
    )
    return int(result.rowcount)


def release_failures(
    connection: Connection, run_id: int, *, kinds: Sequence[str], reason: str | None = None
) -> list[tuple[int, int]]:
    """Forget failures of the run; the (source_id, row_number) that are to do again.

    Only of these kinds, and only with that reason unless it is `None`.
    """
    chosen = and_(failures.c.run_id == run_id, failures.c.kind.in_(kinds))
    if reason is not None:
        chosen = and_(chosen, failures.c.reason == reason)
    query = select(failures.c.source_id, failures.c.row_number).where(chosen)
    rows = [(row[0], row[1]) for row in connection.execute(query)]
    connection.execute(delete(failures).where(chosen))
    return rows


def prefixes_written(connection: Connection, run_id: int, now_us: int) -> dict[int, int | None]:
    """What batches of the last hour wrote to their prompt cache for the run: until when it is.

    That is until when a row may leave: its batch is expected to take as long as the one that
    wrote. 0: the server cached nothing of it; `None`: nobody knows, its batch is out.
    """
    written, read = answers.c.cache_write_tokens, answers.c.cache_read_tokens
    tokens = func.coalesce(written, 0) + func.coalesce(read, 0)
    query = (
        select(
            attempts.c.cache_prefix,
            batches.c.intended_at + _WRITTEN_US - batches.c.ended_at + batches.c.created_at,
            func.sum(tokens),
        )
        .join(batches, batches.c.batch_number == attempts.c.batch_number)
        .outerjoin(answers, answers.c.attempt_id == attempts.c.attempt_id)
        .where(batches.c.run_id == run_id, batches.c.intended_at > now_us - _WRITTEN_US)
        .where(attempts.c.batch_number > 0, attempts.c.cache_note == ONE_HOUR)
        .where(attempts.c.state.in_([State.ANSWERED.value, State.OPEN.value]))
        .group_by(attempts.c.cache_prefix, batches.c.batch_number)
        .order_by(batches.c.batch_number)
    )
    found: dict[int, int | None] = {}
    for prefix, until, cached in connection.execute(query):
        found[prefix] = None if until is None else int(until) * bool(cached)
    return found
