"""Every answer: its charges, recomputed to the same integers from raw usage, and its words.

An answer's content is compared with its checksum, and its text with its content.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from hashlib import sha256
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

from sqlalchemy import Engine, select

from batcher.errors import BatcherError
from batcher.ledger.connect import Connection, reading
from batcher.ledger.rate.stored_answers import (
    FIRST_TOKENS,
    BillableAnswer,
    Pricing,
    StoredCharge,
    answer_of,
    answers_with_charges,
    broken_streams,
    equals,
    evidence_of,
    rate_answer,
    rate_usage,
    read_price_lists,
    read_rate_sets,
    read_ratings,
    repricing_lists,
    usage_of,
)
from batcher.ledger.schema import answers
from batcher.ledger.verify.findings import Findings
from batcher.ledger.write.records import what_changed
from batcher.messages.answer import billed_at_least
from batcher.messages.request import State
from batcher.messages.usage import Usage
from batcher.pricing.book.book import PriceBook, parse_book, road_of
from batcher.pricing.rate.lines import is_above_bound, prompt_tokens
from batcher.pricing.rate.rates import RateSet, moment_of_day
from batcher.pricing.rate.rating import Charge, ChargeStatus
from batcher.pricing.rate.trust import RULES_EDITION

_BOOK: Final = "price book"

_NO_USAGE: Final = Usage()
_CHARGE: Final = "charge"
_ORPHAN: Final = "orphan"
_COLUMNS: Final = attrgetter(*BillableAnswer._fields[FIRST_TOKENS:])
_WITH_ANSWER: Final = frozenset({State.ANSWERED.value, State.LATE.value})
_RATING_ID: Final = attrgetter("rating_id")

Pair = tuple[BillableAnswer | None, list[StoredCharge]]


def charges_agree(engine: Engine, findings: Findings) -> tuple[int, int]:
    """Recompute every charge; how many answers and charges there are."""
    with reading(engine) as connection:
        priced_by = pricings(connection, findings)
        rate_sets = read_rate_sets(connection)
    checker = ChargeChecker(priced_by, rate_sets, findings)
    for chunk in answers_with_charges(partial(reading, engine)):
        checker.check(chunk)
    with reading(engine) as connection:
        broken_streams_agree(connection, priced_by, findings)
    return checker.answers, checker.charges


class ChargeChecker:
    """Compares what is stored with what follows from the usage; counts what it saw."""

    def __init__(
        self,
        pricings: Mapping[int, Pricing],
        rate_sets: Mapping[int, tuple[int, RateSet]],
        findings: Findings,
    ) -> None:
        self._pricings = pricings
        self._rate_sets = rate_sets
        self._findings = findings
        self.answers = 0
        self.charges = 0

    def check(self, chunk: Iterable[Pair]) -> None:
        """Check answers with all of their charges."""
        for stored, charged in chunk:
            self.charges += len(charged)
            if stored is None:
                self._findings.add(
                    _ORPHAN, f"attempt {charged[0].attempt_id} has charges and no answer"
                )
                continue
            self.answers += 1
            if self._is_paid(stored, charged):
                self._check_answer(stored, charged)

    def _is_paid(self, stored: BillableAnswer, charged: list[StoredCharge]) -> bool:
        if stored.state in _WITH_ANSWER:
            return True
        if stored.state is None:
            self._findings.add(_ORPHAN, f"answer {stored.attempt_id} has no attempt")
        elif stored.state != State.PARTIAL.value:
            text = f"attempt {stored.attempt_id} has an answer and is {stored.state}"
            self._findings.add(_ORPHAN, text)
        elif stored.final:
            text = f"answer {stored.attempt_id} is final and its attempt is partial"
            self._findings.add("row", text)
        elif charged:  # a broken stream is in doubt: an interval, not a charge
            text = f"attempt {stored.attempt_id} is partial and has charges"
            self._findings.add(_CHARGE, text)
        return False

    def _check_answer(self, stored: BillableAnswer, charged: list[StoredCharge]) -> None:
        usage = usage_of(stored)
        if _COLUMNS(usage or _NO_USAGE) != stored[FIRST_TOKENS:]:
            text = f"answer {stored.attempt_id}: its token columns are not what its usage says"
            self._findings.add("usage", text)
        if not charged:
            self._findings.add(_CHARGE, f"answer {stored.attempt_id} was never rated")
            return
        newest = charged[-1].rating_id
        for rating_id, some in groupby(charged, key=_RATING_ID):
            charges = list(some)
            self._check_pointers(charges, is_newest=rating_id == newest)
            self._check_rating(stored, usage, rating_id, charges)

    def _check_pointers(self, charges: list[StoredCharge], *, is_newest: bool) -> None:
        if any(charge.current != is_newest for charge in charges):
            wanted = (
                "not current, and the newest" if is_newest else "current, and not the newest"
            )
            first = charges[0]
            text = f"a charge of attempt {first.attempt_id} by rating {first.rating_id} is"
            self._findings.add("current", f"{text} {wanted}")

    def _check_rating(
        self,
        stored: BillableAnswer,
        usage: Usage | None,
        rating_id: int,
        charges: list[StoredCharge],
    ) -> None:
        pricing = self._pricings.get(rating_id)
        where = f"answer {stored.attempt_id} by rating {rating_id}"
        if pricing is None:
            self._findings.add(
                _CHARGE, f"{where}: there is no such rating with a readable book"
            )
            return
        expected = rate_usage(stored, usage, pricing)
        clear = _all_clear(expected) and _all_clear(charges)
        by_road = bool(road_of(stored.requested_model))
        if pricing.rules != RULES_EDITION and (by_road or not clear):
            return  # it was charged by other rules, and is not held against these
        if len(expected) != len(charges):
            text = f"{where}: {len(charges)} charges, its usage makes {len(expected)}"
            self._findings.add(_CHARGE, text)
            return
        for charge, wanted in zip(charges, expected, strict=True):
            if not equals(charge, wanted, pricing.price_book_id, self._rate_sets):
                text = f"{where}, line {wanted.line}: {_difference(charge, wanted)}"
                self._findings.add(_CHARGE, text)


def broken_streams_agree(
    connection: Connection, priced_by: Mapping[int, Pricing], findings: Findings
) -> None:
    """A broken stream is in doubt: what it began with was told, and it costs that at least."""
    initial = [pricing for pricing in priced_by.values() if pricing.is_initial]
    if any(pricing.rules != RULES_EDITION for pricing in initial):
        initial = []  # those lows may be by other rules
    for stored, low, text in broken_streams(connection):
        usage, evidence = usage_of(stored), evidence_of(stored)
        if usage and evidence and is_above_bound(usage, evidence):
            told = f"attempt {stored.attempt_id} broke off after {prompt_tokens(usage)} input"
            most = f"tokens were reported, and its body can be {evidence.input_most}"
            findings.add("bill", f"{told} {most} at most")
        lows = {_least(stored, usage, text or "", pricing) for pricing in initial}
        if lows and low not in lows and (text is not None or low < min(lows)):
            words = f"attempt {stored.attempt_id} broke off: it costs {low} pico-units at least"
            findings.add(_CHARGE, f"{words}, recomputed as {min(lows)}")


def _least(stored: BillableAnswer, usage: Usage | None, text: str, pricing: Pricing) -> int:
    answer = answer_of(stored._replace(evidence=None), usage, text)
    charged = rate_answer(billed_at_least(answer), stored, pricing)
    return sum(c.total or 0 for c in charged if c.rates and c.rates.currency == "USD")


def _all_clear(expected: Sequence[Charge | StoredCharge]) -> bool:
    """Whether every edition of the rules charges alike, as nothing is open."""
    clear = {ChargeStatus.PRICED, ChargeStatus.UNBILLED}
    return all(charge.status in clear for charge in expected)


def _difference(charge: StoredCharge, wanted: Charge) -> str:
    if charge.total != wanted.total or charge.status != wanted.status:
        return (
            f"stored as {_amount(charge.total)} {charge.status}, recomputed as"
            f" {_amount(wanted.total)} {wanted.status}"
        )
    return (
        "its model, currency, reason, rates, quantities or amounts are not the recomputed ones"
    )


def _amount(pico: Any) -> str:  # noqa: ANN401  what a database holds
    return "no amount" if pico is None else f"{pico} pico-units"


def pricings(connection: Connection, findings: Findings) -> dict[int, Pricing]:
    """How each rating priced, by id; one whose book cannot be read is missing, and found."""
    initial = {key: name for key, (name, _) in read_price_lists(connection).items()}
    found: dict[int, Pricing] = {}
    books: dict[int, PriceBook | None] = {}
    for rating in read_ratings(connection):
        if rating.price_book_id not in books:
            books[rating.price_book_id] = _checked_book(rating, findings)
        book = books[rating.price_book_id]
        if book is not None:
            lists = initial if rating.reason == "initial" else repricing_lists(connection, book)
            found[rating.rating_id] = Pricing(
                price_book_id=rating.price_book_id,
                book=book,
                as_of_us=None if rating.as_of is None else moment_of_day(rating.as_of),
                price_lists=lists,
                rules=rating.rules,
                is_initial=rating.reason == "initial",
            )
    return found


def _checked_book(rating: Any, findings: Findings) -> PriceBook | None:  # noqa: ANN401  a record
    name = f"price book {rating.price_book_id} ({rating.version})"
    if sha256(rating.content.encode()).hexdigest() != rating.sha256:
        findings.add(_BOOK, f"{name}: its text is not what its sha256 was made of")
    try:
        book = parse_book(rating.content, name)
    except BatcherError as error:
        findings.add(_BOOK, f"{name}: its text cannot be read: {error}")
        return None
    if book.version != rating.version:
        findings.add(_BOOK, f"{name}: its text says that it is version {book.version}")
    return book


_CHUNK: Final = 50  # answers may be large
_READ: Final = tuple(
    answers.c[name]
    for name in (
        "attempt_id", "content", "usage", "joined_content", "joined_text", "text", "checksum",
    )
)  # fmt: skip


def contents_agree(engine: Engine, findings: Findings) -> None:
    """Compare each answer with its checksum, and its text with its content."""
    for chunk in _chunks(engine):
        for row in chunk:
            if said := what_changed(row):
                findings.add("content", f"the answer of attempt {row.attempt_id}: {said}")


def _chunks(engine: Engine) -> Iterator[Sequence[Any]]:
    after = -1
    while rows := _after(engine, after):
        yield rows
        after = rows[-1].attempt_id


def _after(engine: Engine, after: int) -> Sequence[Any]:
    query = select(*_READ).where(answers.c.attempt_id > after).order_by(answers.c.attempt_id)
    with reading(engine) as connection:
        return connection.execute(query.limit(_CHUNK)).all()
