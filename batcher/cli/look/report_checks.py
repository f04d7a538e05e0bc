"""What is said and judged beside a report: prices that were old, answers without any."""

from collections.abc import Sequence

from batcher.cli.words.say import say
from batcher.config.files import price_book_max_age
from batcher.ledger.connect import Engine, reading
from batcher.ledger.rate.ratings import books_in_use
from batcher.report.query import ReportQuery
from batcher.report.summary import summarise

_UNCLEAR = 65


def warn_of_old_books(engines: Sequence[Engine], config_path: str | None) -> None:
    """Say on standard error which price books were too old when answers were priced.

    Ages are those at the newest answer, so that one ledger is told of in the same words always.
    """
    most = price_book_max_age(config_path)
    if not most:
        return
    told = set()
    for engine in engines:
        with reading(engine) as connection:
            books = books_in_use(connection)
        told |= {(each.version, each.age_days) for each in books if each.age_days > most}
    for version, days in sorted(told):
        say(
            f"warning: price book {version} was {days} days old when it priced the newest "
            f"answers: look for newer prices (price_book_max_age_days is {most})"
        )


def strict_exit_code(engines: Sequence[Engine], query: ReportQuery) -> int:
    """65 when an answer that the report is about has no price or an assumed one, else 0."""
    counts = summarise(engines, query).total.counts
    return _UNCLEAR if counts.unpriced_requests or counts.assumed_charges else 0
