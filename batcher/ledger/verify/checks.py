"""Recomputes what the ledger says, and lists where it contradicts itself. Only reads.

Works while a run is on: each check sees one moment of the database, and the long one, over all
charges, reads chunk by chunk, so that no reader holds back the log of a writer for long.
"""

from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Engine

from batcher.errors import BatcherError
from batcher.ledger.connect import Connection, reading
from batcher.ledger.rate.days import moment_of_day
from batcher.ledger.rate.stored_answers import (
    Pricing,
    answers_with_charges,
    read_price_lists,
    read_rate_sets,
    read_ratings,
    repricing_lists,
)
from batcher.ledger.schema import NEVER_RATED, ROLLUP_SUMS
from batcher.ledger.verify.budgets import budgets_agree
from batcher.ledger.verify.charges import ChargeChecker
from batcher.ledger.verify.findings import Finding, Findings
from batcher.ledger.verify.queries import contradictions, keys_in_plain_sight
from batcher.ledger.verify.rollups import expected_rollups, stored_rollups
from batcher.ledger.write.rollup import KEY
from batcher.pricing.book.book import PriceBook, parse_book

__all__ = ["Finding", "Verified", "pricings", "verify"]

_BOOK: Final = "price book"
_RATING_ID: Final = KEY.index("rating_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked and what was found: some findings of each kind, and how many in all."""

    answers: int
    charges: int
    rollups: int
    findings: tuple[Finding, ...]
    problems: int


def verify(engine: Engine, findings: Findings | None = None) -> Verified:
    """Check the whole ledger; `findings` may hold some already."""
    findings = Findings() if findings is None else findings
    with reading(engine) as connection:
        priced_by = pricings(connection, findings)
        rate_sets = read_rate_sets(connection)
    checker = ChargeChecker(priced_by, rate_sets, findings)
    for chunk in answers_with_charges(partial(reading, engine)):
        checker.check(chunk)
    with reading(engine) as connection:
        rollups = _check_rollups(connection, findings)
    for check in (contradictions, budgets_agree, keys_in_plain_sight):
        with reading(engine) as connection:
            check(connection, findings)
    return Verified(
        answers=checker.answers,
        charges=checker.charges,
        rollups=rollups,
        findings=findings.some,
        problems=findings.count,
    )


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


def _check_rollups(connection: Connection, findings: Findings) -> int:
    stored, expected = stored_rollups(connection), expected_rollups(connection)
    names = (*ROLLUP_SUMS, "superseded_by")
    nothing = (0,) * len(ROLLUP_SUMS) + (None,)
    for key in stored.keys() | expected.keys():
        if key[_RATING_ID] == NEVER_RATED and key not in expected:
            continue  # repriced since: nothing else tells any more that they had no charges
        kept, summed = stored.get(key, nothing), expected.get(key, nothing)
        differing = [
            f"{name} {one} instead of {other}"
            for name, one, other in zip(names, kept, summed, strict=True)
            if one != other
        ]
        if differing:
            place = ", ".join(f"{n} {v}" for n, v in zip(KEY, key, strict=True) if v != "")
            findings.add("rollup", f"rollup of {place}: {'; '.join(differing)}")
    return len(stored)
