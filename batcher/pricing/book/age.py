"""How old prices are: rates change, and a book that nobody renews goes wrong unnoticed."""

import tomllib
from datetime import date
from typing import Final

from batcher.pricing.book.book import SEPARATOR, PriceBook

MOST_DAYS: Final = 90  # before people are warned, unless they say otherwise


def age_warning(book: PriceBook, now_us: int, most_days: int) -> str | None:
    """What to say of a book that is older than `most_days` now; 0 asks for no warning.

    `None`: nothing, also where no layer says when it was published.
    """
    age = book.age_days(now_us)
    if not most_days or age is None or age <= most_days:
        return None
    return (
        f"warning: it was published {age} days ago, on {book.published}: look for newer prices "
        f"(price_book_max_age_days is {most_days})"
    )


def published(content: str) -> date | None:
    """When the text of a recorded book says it was published: the oldest day of its layers.

    Cheaper than reading the book; `None` where no layer says so, or none can be read.
    """
    days = []
    for layer in content.split(SEPARATOR):
        try:
            day = tomllib.loads(layer).get("published")
        except tomllib.TOMLDecodeError:
            continue
        if type(day) is date:
            days.append(day)
    return min(days, default=None)
