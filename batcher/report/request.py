"""Requests as people look at them: one walked back to where it came from, answers, failures.

Answers and failures are read from the stable views, so that what is printed is what anybody
finds who asks the database.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from sqlalchemy import Connection, Engine, and_, column, func, select, table, true

from batcher.errors import ConfigurationError, UsageError
from batcher.ledger.connect import reading
from batcher.pricing.book.book import parse_book
from batcher.report import search
from batcher.report.names import read_names, scope_of
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


COMMONEST: Final = 3  # reasons that a run is summed up by
_ANSWERS: Final = table(
    "v_answers",
    *map(
        column,
        ("run_id", "source", "row_number", "custom_id", "model", "stop_reason", "answered_at",
         "input_tokens", "output_tokens", "text"),
    ),
)  # fmt: skip
_FAILURES: Final = table(
    "v_failures",
    *map(
        column,
        ("run_id", "source", "row_number", "byte_offset", "custom_id", "kind", "reason",
         "message"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedAnswer:
    """A row's current answer, as `v_answers` has it; `answered_at` is ISO 8601."""

    run_id: int
    source: str
    row_number: int
    custom_id: str | None
    model: str | None
    stop_reason: str | None
    answered_at: str
    input_tokens: int | None
    output_tokens: int | None
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedFailure:
    """A row without an answer, as `v_failures` has it."""

    run_id: int
    source: str
    row_number: int
    byte_offset: int | None
    custom_id: str | None
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Rows without an answer for the same reason: how many, and the first of them."""

    kind: str
    reason: str
    rows: int
    first: tuple[ListedFailure, ...]


def latest_answers(
    engine: Engine, most: int, *, run: int | None, custom_id: str | None, grep: str | None
) -> list[ListedAnswer]:
    """The latest answers, `most` of them, the oldest first.

    Of a run, with a custom_id, or whose text holds `grep` in whatever case.
    """
    view = _ANSWERS.c
    wanted = [
        view.run_id == run if run is not None else true(),
        view.custom_id == custom_id if custom_id is not None else true(),
        func.lower(view.text).contains(grep.lower(), autoescape=True) if grep else true(),
    ]
    order = (view.answered_at.desc(), view.run_id.desc(), view.row_number.desc())
    statement = select(_ANSWERS).where(and_(*wanted)).order_by(*order).limit(most)
    with reading(engine) as connection:
        found = connection.execute(statement).mappings().all()
    return [
        ListedAnswer(**{**row, "answered_at": _iso(row["answered_at"])})
        for row in reversed(found)
    ]


def _iso(moment: object) -> str:
    """The moment as SQLite's view has it; PostgreSQL gives one with its zone."""
    if not isinstance(moment, datetime):
        return str(moment)
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def failure_groups(
    engine: Engine, most: int, *, run: int | None, reason: str | None
) -> list[FailureGroup]:
    """Rows without an answer by reason, the commonest first, each with the first `most`."""
    with reading(engine) as connection:
        return read_failure_groups(connection, most, run=run, reason=reason)


def commonest_reasons(engine: Engine, run_id: int) -> list[FailureGroup]:
    """Why rows of the run have no answer: the three commonest reasons, each with its first."""
    with reading(engine) as connection:
        return read_failure_groups(connection, 1, run=run_id, groups=COMMONEST)


def read_failure_groups(
    connection: Connection,
    most: int,
    *,
    run: int | None,
    reason: str | None = None,
    groups: int | None = None,
) -> list[FailureGroup]:
    """See `failure_groups`; of the commonest `groups` reasons only."""
    view = _FAILURES.c
    wanted = and_(
        view.run_id == run if run is not None else true(),
        view.reason == reason if reason is not None else true(),
    )
    grouped = (
        select(view.kind, view.reason, func.count())
        .where(wanted)
        .group_by(view.kind, view.reason)
        .order_by(func.count().desc(), view.kind, view.reason)
        .limit(groups)
    )
    fields = [view[name] for name in ListedFailure.__dataclass_fields__]
    found = []
    for kind, why, rows in connection.execute(grouped).all():
        statement = (
            select(*fields)
            .where(wanted, view.kind == kind, view.reason == why)
            .order_by(view.run_id, view.source, view.row_number)
            .limit(most)
        )
        listed = (ListedFailure(**row) for row in connection.execute(statement).mappings())
        found.append(FailureGroup(kind=kind, reason=why, rows=rows, first=tuple(listed)))
    return found
