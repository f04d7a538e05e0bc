"""One request, walked back to the bytes it came from: attempts, usage, prices, answer."""

from dataclasses import dataclass

from sqlalchemy import Engine

from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import reading
from batcher.pricing.book.book import parse_book
from batcher.report import search
from batcher.report.ledgers import scope_of
from batcher.report.names import read_names
from batcher.report.query import ReportQuery
from batcher.report.search import FoundAttempt, Match, PricedLine


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRequest:
    """One request with all that was tried for it, in the order of sending.

    `attempts` is empty for a row that was refused before sending. `failure` says why there is
    no answer, when that is settled. `rate_sources` says, by usage line, where its rates come
    from: the price book's own source for that block.
    """

    match: Match
    attempts: tuple[FoundAttempt, ...]
    failure: search.FoundFailure | None
    rate_sources: dict[tuple[str, int], str]


def find_requests(engine: Engine, word: str) -> tuple[Match, ...]:
    """The requests that `word` names, oldest first.

    It may be a custom_id, `source:row_number`, an attempt's uid, a provider's request id or a
    message id. Raises `UsageError` when there is none.
    """
    with reading(engine) as connection:
        matches = search.find(connection, word)
    if not matches:
        raise UsageError(
            f"nothing here is called {word!r}: give a custom_id, FILE:ROW, an attempt's uid or"
            " a provider's request id"
        )
    return matches


def read_request(engine: Engine, match: Match, *, rating: int | None = None) -> StoredRequest:
    """Everything the ledger knows of one request, priced as it is now.

    With a `rating`: as `report --rating` has it, when that was complete. Raises `UsageError`
    for one that is not there.
    """
    with reading(engine) as connection:
        bound = scope_of(ReportQuery(rating=rating), read_names(connection)).bound
        attempts = search.read_attempts(connection, match, bound)
        failure = search.read_failure(connection, match)
        books = search.read_books(
            connection, {line.price_book_id for each in attempts for line in each.lines}
        )
    sources = {
        (attempt.uid, line.line): _rate_source(line, books[line.price_book_id])
        for attempt in attempts
        for line in attempt.lines
        if line.model_priced is not None
    }
    return StoredRequest(match=match, attempts=attempts, failure=failure, rate_sources=sources)


def _rate_source(line: PricedLine, stored: search.StoredBook) -> str:
    """What the book says of the block that the rates were taken from."""
    try:
        book = parse_book(stored.content, stored.version)
        periods = book.lists[line.price_list or ""].periods
    except (ConfigurationError, KeyError):
        return stored.source
    terms = (line.terms or "").split("/")
    above = next((int(part[1:]) for part in terms if part.startswith(">")), 0)
    for period in periods:
        if (
            period.model == line.model_priced
            and period.valid_from.isoformat() == line.valid_from
            and period.prompt_tokens_above == above
            and terms[0] in period.all_terms()
        ):
            return period.source
    return stored.source
