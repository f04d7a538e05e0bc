"""Stored answers with their charges, chunk by chunk, to be rated again."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Final, NamedTuple

import msgspec
from sqlalchemy import Connection, Select, case, func, select
from sqlalchemy.sql.elements import literal_column

from batcher.ledger.schema import (
    METERS,
    NOT_KEPT,
    answers,
    attempts,
    charges,
    invocations,
    price_books,
    rate_sets,
    ratings,
)
from batcher.messages.answer import Answer, Evidence
from batcher.messages.request import State
from batcher.messages.usage import Usage, parse_usage
from batcher.pricing.book.book import PriceBook
from batcher.pricing.rate.rates import RateSet
from batcher.pricing.rate.rating import Charge, ChargeStatus, rate

CHUNK: Final = 2_000
_EVIDENCE: Final = msgspec.json.Decoder(Evidence)
FIRST_TOKENS: Final = 12  # where the columns of usage begin in a `BillableAnswer`
_PREFIX: Final = 64  # enough of the content to see that there is none


class BillableAnswer(NamedTuple):
    """An answer as far as money is concerned.

    `lane` and `state` are its attempt's, `None` when there is no such attempt. `content` is its
    beginning. The last eleven are what its columns say of the usage.
    """

    attempt_id: int
    invocation_id: int
    sent_at: int
    requested_model: str
    model: str | None
    stop_reason: str | None
    content: str
    usage: str | None
    evidence: str | None
    final: int
    lane: str | None
    state: str | None
    input_tokens: int | None
    cache_write_tokens: int | None
    cache_write_5m_tokens: int | None
    cache_write_1h_tokens: int | None
    cache_read_tokens: int | None
    output_tokens: int | None
    thinking_tokens: int | None
    web_search_requests: int | None
    service_tier: str | None
    inference_geo: str | None
    speed: str | None

    def columns(self) -> Usage:
        """What the columns say of the usage: all but its iterations."""
        values: dict[str, Any] = dict(
            zip(self._fields[FIRST_TOKENS:], self[FIRST_TOKENS:], strict=True)
        )
        return Usage(**values)


class StoredCharge(NamedTuple):
    """A charge of the ledger; quantities and amounts are in the order of `METERS`."""

    attempt_id: int
    rating_id: int
    current: int
    rate_set_id: int | None
    line: int
    model: str | None
    currency: str | None
    status: str
    reason: str | None
    total: int | None
    high: int | None
    quantities_and_amounts: tuple[int | None, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pricing:
    """What a rating needs: its book, the day if it took one, and each invocation's list.

    `as_of_us` is a moment of that day, `None` when each answer's own day counts. `rules` is the
    edition of the rules of trust that it went by. `is_initial`: answers were rated so as they
    came.
    """

    price_book_id: int
    book: PriceBook
    as_of_us: int | None
    price_lists: Mapping[int, str | None]
    rules: int | None = None
    is_initial: bool = False


def answers_with_charges(
    transaction: Callable[[], AbstractContextManager[Connection]],
) -> Iterator[list[tuple[BillableAnswer | None, list[StoredCharge]]]]:
    """All answers in the order of their attempts, with all of their charges, in chunks.

    Each chunk is read in one `transaction`. Charges that belong to no answer come with `None`.
    """
    after = -1
    while True:
        with transaction() as connection:
            found = _read_answers(connection, after)
            last = found[-1].attempt_id if len(found) == CHUNK else None
            charged = _read_charges(connection, after, last)
        yield [*_joined(found, charged)]
        if last is None:
            return
        after = last


def read_price_lists(connection: Connection) -> dict[int, tuple[str | None, str]]:
    """The price list that each invocation rated with, and its endpoint's name."""
    columns = invocations.c.invocation_id, invocations.c.price_list, invocations.c.endpoint
    return {row[0]: (row[1], row[2]) for row in connection.execute(select(*columns))}


def repricing_lists(connection: Connection, book: PriceBook) -> dict[int, str | None]:
    """The list of `book` that each invocation is repriced with.

    The one that it rated with; where it had none, the one named like its endpoint.
    """
    return {
        invocation_id: endpoint if name is None and endpoint in book.lists else name
        for invocation_id, (name, endpoint) in read_price_lists(connection).items()
    }


def read_rate_sets(connection: Connection) -> dict[int, tuple[int, RateSet]]:
    """The book and the rates of every stored rate set."""
    return {
        row.rate_set_id: (
            row.price_book_id,
            RateSet(
                price_list=row.price_list,
                model=row.model,
                terms=row.terms,
                valid_from=row.valid_from,
                currency=row.currency,
                rates=tuple(getattr(row, f"{meter}_rate") for meter in METERS),
            ),
        )
        for row in connection.execute(select(rate_sets))
    }


def read_ratings(connection: Connection) -> Sequence[Any]:
    """Every rating with the text and sha256 of its book, in order."""
    columns = (
        *ratings.c,
        price_books.c.version,
        price_books.c.sha256,
        price_books.c.content,
    )
    statement = select(*columns).join(
        price_books, price_books.c.price_book_id == ratings.c.price_book_id
    )
    return connection.execute(statement.order_by(ratings.c.rating_id)).all()


def usage_of(stored: BillableAnswer) -> Usage | None:
    """The usage as the provider reported it, as far as it can be read."""
    return parse_usage(None if stored.usage is None else stored.usage.encode())


def evidence_of(stored: BillableAnswer) -> Evidence | None:
    """What was kept of the request and the content, where a charge depends on it."""
    return None if stored.evidence is None else _EVIDENCE.decode(stored.evidence)


def rate_usage(
    stored: BillableAnswer, usage: Usage | None, pricing: Pricing
) -> tuple[Charge, ...]:
    """The charges of a stored answer with this usage under `pricing`."""
    return rate_answer(answer_of(stored, usage), stored, pricing)


def answer_of(stored: BillableAnswer, usage: Usage | None, text: str = "") -> Answer:
    """A stored answer as far as money is concerned, with this usage and text."""
    return Answer(
        message_id=None,
        model=stored.model,
        stop_reason=stored.stop_reason,
        stop_sequence=None,
        content=stored.content.encode(),
        text=text,
        text_repaired=False,
        usage=usage,
        usage_raw=None,
        evidence=evidence_of(stored),
    )


def rate_answer(answer: Answer, stored: BillableAnswer, pricing: Pricing) -> tuple[Charge, ...]:
    """The charges of `answer`, sent when and where `stored` was, under `pricing`."""
    return rate(
        answer,
        requested_model=stored.requested_model,
        price_list=pricing.price_lists.get(stored.invocation_id),
        sent_at=stored.sent_at if pricing.as_of_us is None else pricing.as_of_us,
        book=pricing.book,
    )


def equals(
    charge: StoredCharge,
    wanted: Charge,
    price_book_id: int | None,
    rate_sets: Mapping[int, tuple[int, RateSet]],
) -> bool:
    """Whether a stored charge is `wanted` to the last digit, made with that book's rates."""
    rates, used = wanted.rates, None
    if charge.rate_set_id is not None:
        book_id, used = rate_sets.get(charge.rate_set_id, (None, None))
        if used is None or book_id != price_book_id:
            return False
    currency = None if rates is None else rates.currency
    return (
        used == rates
        and charge[4:10]
        == (wanted.line, wanted.model, currency, wanted.status, wanted.reason, wanted.total)
        and charge.high == (wanted.high if wanted.status is ChargeStatus.ASSUMED else None)
        and charge.quantities_and_amounts == wanted.quantities + wanted.amounts
    )


def broken_streams(
    connection: Connection,
) -> Iterator[tuple[BillableAnswer, int, str | None]]:
    """What came of streams that broke, with the low end of each in pico-USD and its text.

    The text is `None` where it was not kept.
    """
    words = case((answers.c.content != NOT_KEPT, answers.c.text))
    statement = _billable().add_columns(attempts.c.cost_low, words)
    partial = statement.where(attempts.c.state == State.PARTIAL.value)
    for row in connection.execute(partial, execution_options={"yield_per": 100}):
        yield BillableAnswer._make(row[:-2]), row[-2], row[-1]


# --- Reading


def _billable() -> Select[Any]:
    table = answers.c
    return (
        select(
            table.attempt_id,
            table.invocation_id,
            (table.answered_at - table.latency_us).label("sent_at"),
            table.requested_model,
            table.model,
            table.stop_reason,
            func.substr(table.content, 1, literal_column(str(_PREFIX))),
            table.usage,
            table.evidence,
            table.final,
            attempts.c.lane,
            attempts.c.state,
            *(table[name] for name in BillableAnswer._fields[FIRST_TOKENS:]),
        )
        .outerjoin(attempts, attempts.c.attempt_id == table.attempt_id)
        .order_by(table.attempt_id)
    )


def _read_answers(connection: Connection, after: int) -> list[BillableAnswer]:
    statement = _billable().where(answers.c.attempt_id > after).limit(CHUNK)
    return [*map(BillableAnswer._make, _rows(connection, statement))]


def _read_charges(connection: Connection, after: int, last: int | None) -> list[StoredCharge]:
    table = charges.c
    statement = (
        select(
            table.attempt_id,
            table.rating_id,
            table.current,
            table.rate_set_id,
            table.line,
            table.model,
            table.currency,
            table.status,
            table.reason,
            table.total_amount,
            table.high_amount,
            *(table[f"{meter}_quantity"] for meter in METERS),
            *(table[f"{meter}_amount"] for meter in METERS),
        )
        .where(table.attempt_id > after)
        .order_by(table.attempt_id, table.rating_id, table.line)
    )
    if last is not None:
        statement = statement.where(table.attempt_id <= last)
    return [StoredCharge._make((*row[:11], row[11:])) for row in _rows(connection, statement)]


def _rows(connection: Connection, statement: Select[Any]) -> list[tuple[Any, ...]]:
    """The driver's own tuples: there are millions, and none needs to be converted."""
    cursor = connection.execute(statement).cursor
    return [] if cursor is None else [*cursor.fetchall()]


def _joined(
    found: list[BillableAnswer], charged: list[StoredCharge]
) -> Iterator[tuple[BillableAnswer | None, list[StoredCharge]]]:
    by_attempt = {
        attempt_id: list(some) for attempt_id, some in groupby(charged, key=itemgetter(0))
    }
    for stored in found:
        yield stored, by_attempt.pop(stored.attempt_id, [])
    for orphaned in by_attempt.values():
        yield None, orphaned
