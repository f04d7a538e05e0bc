"""Which recorded price books were old already when answers were priced with them."""

from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Final

from sqlalchemy import Connection, func, select

from batcher.ledger.schema import price_books, ratings, rollups
from batcher.pricing.book.age import published

_QUARTER_SECONDS: Final = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class BookInUse:
    """A book that makes current charges; `age_days` is its age at the newest answer of them."""

    version: str
    published: date
    age_days: int


def books_in_use(connection: Connection) -> list[BookInUse]:
    """Every book that makes current charges and says when it was published, by version."""
    newest = (
        select(ratings.c.price_book_id, func.max(rollups.c.quarter))
        .join(ratings, ratings.c.rating_id == rollups.c.rating_id)
        .where(rollups.c.superseded_by.is_(None))
        .group_by(ratings.c.price_book_id)
    )
    found = []
    for book_id, quarter in connection.execute(newest).all():
        book = connection.execute(
            select(price_books.c.version, price_books.c.content).where(
                price_books.c.price_book_id == book_id
            )
        ).one()
        day = published(book.content)
        if day is not None:
            used = datetime.fromtimestamp(quarter * _QUARTER_SECONDS, UTC).date()
            age = (used - day).days
            found.append(BookInUse(version=book.version, published=day, age_days=age))
    return sorted(found, key=lambda each: (each.version, each.published))
