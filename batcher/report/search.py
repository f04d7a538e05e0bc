"""Finds requests in the ledger and reads all that belongs to one of them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import ColumnElement, Connection, RowMapping, and_, func, or_, select

from batcher.ledger.schema import (
    METERS,
    answers,
    attempts,
    charges,
    failures,
    invocations,
    price_books,
    rate_sets,
    ratings,
    shared_answers,
    sources,
)
from batcher.report.run_state import FINAL
from batcher.report.scope import RatingBound, charges_in_force

MOST_MATCHES: Final = 100
_MESSAGE_PREFIX: Final = "msg_"


@dataclass(frozen=True, slots=True, kw_only=True)
class Match:
    """A request that was found: where its row is, and whether it was ever sent.

    `request_id` is `None` for a row refused before sending, then `failure_id` is not.
    """

    run_id: int
    source: str
    row_number: int
    custom_id: str | None
    request_id: int | None
    failure_id: int | None
    requested_model: str | None
    opened_at: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterAmount:
    """One meter of a usage line: quantity x rate = amount, in pico-units of the currency."""

    name: str
    quantity: int | None
    rate: int | None
    amount: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PricedLine:
    """One usage line under the rating in force. See `schema.charges` and `schema.rate_sets`.

    It cost `total` at least and `high` at most: the same, but where something is assumed.
    """

    line: int
    model: str | None
    status: str
    reason: str | None
    currency: str | None
    total: int | None
    high: int | None
    meters: tuple[MeterAmount, ...]
    rating_id: int
    price_book_id: int
    price_book: str
    price_list: str | None
    model_priced: str | None
    terms: str | None
    valid_from: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAnswer:
    """What came back; `usage` and `content` are JSON text as received.

    `text` joins all legs on the final answer of a request of several.
    """

    final: bool
    model: str | None
    message_id: str | None
    stop_reason: str | None
    stop_sequence: str | None
    text: str
    content: str
    usage: str | None
    latency_us: int
    provider_reported_cost: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundAttempt:
    """One time the request was put on the wire; moments are microseconds UTC.

    `cost_low` and `cost_high` are pico-USD and matter while it is in doubt; `cost_high` is
    `None` when unbounded.
    """

    uid: str
    number: int
    leg: int
    purpose: str
    state: str
    endpoint: str
    lane: str
    requested_model: str
    opened_at: int
    sent_at: int | None
    settled_at: int | None
    http_status: int | None
    error_type: str | None
    error_code: str | None
    error_message: str | None
    provider_request_id: str | None
    cost_low: int
    cost_high: int | None
    workspace_id: str | None
    answer: FoundAnswer | None
    lines: tuple[PricedLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundFailure:
    """Why a row has no answer. `kind` is quarantined, failed or held."""

    kind: str
    reason: str
    message: str
    transient: bool
    failed_at: int
    byte_offset: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBook:
    """A price book as the ledger keeps it."""

    version: str
    source: str
    content: str


def find(connection: Connection, word: str) -> tuple[Match, ...]:
    """At most 100 requests that `word` names, oldest first, rows never sent last."""
    at = _locator(connection, word)
    request_ids = {
        *_ids(connection, attempts.c.request_id, _names_attempt(word, at)),
        *_ids(connection, answers.c.request_id, _names_answer(word, at)),
        *_ids(connection, answers.c.request_id, _names_sharing_row(word, at)),
    }
    sent = [_sent_match(connection, each) for each in sorted(request_ids)[:MOST_MATCHES]]
    return (*sent, *_never_sent(connection, word, at))[:MOST_MATCHES]


def read_attempts(
    connection: Connection, match: Match, bound: RatingBound | None
) -> tuple[FoundAttempt, ...]:
    """All attempts of the request, in order, with the charges in force at `bound`."""
    if match.request_id is None:
        return ()
    statement = (
        select(attempts, invocations.c.endpoint)
        .join(invocations, invocations.c.invocation_id == attempts.c.invocation_id)
        # The request's id is that of its first attempt: no later one is smaller.
        .where(attempts.c.attempt_id >= match.request_id)
        .where(attempts.c.request_id == match.request_id)
        .order_by(attempts.c.attempt_id)
    )
    rows = connection.execute(statement).mappings()
    return tuple(_attempt(connection, row, bound) for row in rows)


def read_failure(connection: Connection, match: Match) -> FoundFailure | None:
    """Why the row has no answer, when that is settled."""
    if match.failure_id is not None:
        condition = failures.c.failure_id == match.failure_id
    else:
        mine = select(attempts.c.attempt_id).where(attempts.c.request_id == match.request_id)
        condition = failures.c.attempt_id.in_(mine)
    statement = select(
        failures.c.kind,
        failures.c.reason,
        failures.c.message,
        failures.c.transient,
        failures.c.failed_at,
        failures.c.byte_offset,
    ).where(condition)
    row = connection.execute(statement).mappings().first()
    return None if row is None else FoundFailure(**{**row, "transient": bool(row["transient"])})


def read_books(connection: Connection, book_ids: Iterable[int]) -> dict[int, StoredBook]:
    """The price books of these ids."""
    table = price_books.c
    statement = select(table.price_book_id, table.version, table.source, table.content).where(
        table.price_book_id.in_(list(book_ids))
    )
    return {
        row[0]: StoredBook(version=row[1], source=row[2], content=row[3])
        for row in connection.execute(statement)
    }


_Locator = tuple[list[int], int] | None


def _locator(connection: Connection, word: str) -> _Locator:
    """The sources that `FILE:ROW` may mean, the current versions if there are any."""
    name, _, number = word.rpartition(":")
    if not (name and number.isascii() and number.isdigit() and len(number) < 19):
        return None
    statement = select(sources.c.source_id, sources.c.superseded_by).where(
        sources.c.name == name
    )
    found = connection.execute(statement).all()
    current = [source for source, superseded_by in found if superseded_by is None]
    ids = current or [source for source, _ in found]
    return (ids, int(number)) if ids else None


def _names_attempt(word: str, at: _Locator) -> ColumnElement[bool]:
    names = [
        attempts.c.attempt_uid == word,
        attempts.c.custom_id == word,
        attempts.c.provider_request_id == word,
    ]
    if at is not None:
        names.append(and_(attempts.c.source_id.in_(at[0]), attempts.c.row_number == at[1]))
    return or_(*names)


def _names_answer(word: str, at: _Locator) -> ColumnElement[bool] | None:
    """An answer may have moved to a row of a newer version of its file."""
    if at is not None:
        return and_(FINAL, answers.c.source_id.in_(at[0]), answers.c.row_number == at[1])
    return answers.c.message_id == word if word.startswith(_MESSAGE_PREFIX) else None


def _names_sharing_row(word: str, at: _Locator) -> ColumnElement[bool]:
    """The row has the answer of another one: what is found is the request that was paid."""
    table = shared_answers.c
    place = table.custom_id == word
    if at is not None:
        place = and_(table.source_id.in_(at[0]), table.row_number == at[1])
    return answers.c.attempt_id.in_(select(table.attempt_id).where(place))


def _ids(
    connection: Connection, column: ColumnElement[int], condition: ColumnElement[bool] | None
) -> list[int]:
    if condition is None:
        return []
    statement = select(column).distinct().where(condition).order_by(column).limit(MOST_MATCHES)
    return list(connection.execute(statement).scalars())


def _sent_match(connection: Connection, request_id: int) -> Match:
    """Where the row is: with its answer, which may have moved, else with its first attempt."""
    answer = select(
        answers.c.source_id.label("at_source"), answers.c.row_number.label("at_row")
    ).where(FINAL, answers.c.request_id == request_id, answers.c.attempt_id >= request_id)
    moved = connection.execute(answer).first()
    first = (
        select(attempts, invocations.c.run_id)
        .join(invocations, invocations.c.invocation_id == attempts.c.invocation_id)
        .where(attempts.c.request_id == request_id, attempts.c.attempt_id >= request_id)
        .order_by(attempts.c.attempt_id)
        .limit(1)
    )
    row = connection.execute(first).mappings().one()
    source_id, row_number = moved or (row["source_id"], row["row_number"])
    name = select(sources.c.name).where(sources.c.source_id == source_id)
    return Match(
        run_id=row["run_id"],
        source=connection.execute(name).scalar_one(),
        row_number=row_number,
        custom_id=row["custom_id"],
        request_id=request_id,
        failure_id=None,
        requested_model=row["requested_model"],
        opened_at=row["opened_at"],
    )


def _never_sent(connection: Connection, word: str, at: _Locator) -> list[Match]:
    names = [failures.c.custom_id == word]
    if at is not None:
        names.append(and_(failures.c.source_id.in_(at[0]), failures.c.row_number == at[1]))
    statement = (
        select(failures, sources.c.name)
        .join(sources, sources.c.source_id == failures.c.source_id)
        .where(failures.c.attempt_id.is_(None), or_(*names))
        .order_by(failures.c.failure_id)
        .limit(MOST_MATCHES)
    )
    return [
        Match(
            run_id=row["run_id"],
            source=row["name"],
            row_number=row["row_number"],
            custom_id=row["custom_id"],
            request_id=None,
            failure_id=row["failure_id"],
            requested_model=None,
            opened_at=None,
        )
        for row in connection.execute(statement).mappings()
    ]


def _attempt(
    connection: Connection, row: RowMapping, bound: RatingBound | None
) -> FoundAttempt:
    copied = (
        "number", "leg", "purpose", "state", "endpoint", "lane", "requested_model", "opened_at",
        "sent_at", "settled_at", "http_status", "error_type", "error_code", "error_message",
        "provider_request_id", "cost_low", "cost_high", "workspace_id",
    )  # fmt: skip
    return FoundAttempt(
        uid=row["attempt_uid"],
        **{name: row[name] for name in copied},
        answer=_answer(connection, row["attempt_id"]),
        lines=_lines(connection, row["attempt_id"], bound),
    )


def _answer(connection: Connection, attempt_id: int) -> FoundAnswer | None:
    table = answers.c
    statement = select(
        table.final,
        table.model,
        table.message_id,
        table.stop_reason,
        table.stop_sequence,
        func.coalesce(table.joined_text, table.text).label("text"),
        func.coalesce(table.joined_content, table.content).label("content"),
        table.usage,
        table.latency_us,
        table.provider_reported_cost,
    ).where(table.attempt_id == attempt_id)
    row = connection.execute(statement).mappings().first()
    return None if row is None else FoundAnswer(**{**row, "final": bool(row["final"])})


def _lines(
    connection: Connection, attempt_id: int, bound: RatingBound | None
) -> tuple[PricedLine, ...]:
    statement = (
        charges_in_force(bound)
        .add_columns(
            charges,
            ratings.c.price_book_id,
            price_books.c.version,
            rate_sets.c.price_list,
            rate_sets.c.model.label("model_priced"),
            rate_sets.c.terms,
            rate_sets.c.valid_from,
            *(rate_sets.c[f"{meter}_rate"] for meter in METERS),
        )
        .join(ratings, ratings.c.rating_id == charges.c.rating_id)
        .join(price_books, price_books.c.price_book_id == ratings.c.price_book_id)
        .outerjoin(rate_sets, rate_sets.c.rate_set_id == charges.c.rate_set_id)
        .where(charges.c.attempt_id == attempt_id)
        .order_by(charges.c.line)
    )
    return tuple(_line(row) for row in connection.execute(statement).mappings())


def _line(row: RowMapping) -> PricedLine:
    copied = (
        "line", "model", "status", "reason", "currency", "rating_id", "price_book_id",
        "price_list", "model_priced", "terms", "valid_from",
    )  # fmt: skip
    return PricedLine(
        **{name: row[name] for name in copied},
        price_book=row["version"],
        total=row["total_amount"],
        high=row["total_amount"] if row["high_amount"] is None else row["high_amount"],
        meters=tuple(
            MeterAmount(
                name=meter,
                quantity=row[f"{meter}_quantity"],
                rate=row[f"{meter}_rate"],
                amount=row[f"{meter}_amount"],
            )
            for meter in METERS
        ),
    )
