"""What views share: rows by group and currency, what they say of themselves."""

from collections.abc import Callable, Mapping
from typing import Protocol, Self, TypeVar

from batcher.report.figures import Key, sort_key
from batcher.report.ledgers import Ledgers
from batcher.report.query import ReportQuery
from batcher.report.table import Cell, Field, Table, key_fields, named_key, total_key
from batcher.report.words import (
    NOTHING_HERE,
    SIMULATED_LEFT_OUT,
    SIMULATED_ONLY,
    moment_words,
    safe_text,
    window_sentence,
)


class JoinableSums(Protocol):
    """Sums of a group, which begin at nothing and can be added up."""

    def join(self, other: Self) -> None:
        """Take up all of another group."""


_S = TypeVar("_S", bound=JoinableSums)


def table_by_currency(
    ledgers: Ledgers,
    name: str,
    fields: tuple[Field, ...],
    found: Mapping[tuple[Key, str], _S],
    cells: Callable[[_S, str], tuple[Cell, ...]],
    said: tuple[str, ...],
) -> Table:
    """A row per key and currency, sorted, and a total per currency; `cells` fill the `fields`.

    `said` are the view's own sentences.
    """
    keys = sorted(found, key=lambda pair: (sort_key(pair[0]), pair[1]))
    rows = tuple(
        (*named_key(key, ledgers.labels[key]), *cells(found[key, currency], currency))
        for key, currency in keys
    )
    totals = ((currency, _total(found, currency)) for currency in sorted({c for _, c in found}))
    return Table(
        name=name,
        fields=(*key_fields(ledgers.query.by), *fields),
        rows=rows,
        totals=tuple(
            (*total_key(ledgers.query.by), *cells(sums, currency)) for currency, sums in totals
        ),
        sentences=sentences_of(ledgers, said, empty=not rows),
        query=asked(ledgers.query),
    )


def _total(found: Mapping[tuple[Key, str], _S], currency: str) -> _S:
    mine = [sums for (_, money), sums in found.items() if money == currency]
    total = type(mine[0])()
    for sums in mine:
        total.join(sums)
    return total


def asked(query: ReportQuery) -> tuple[tuple[str, str | None], ...]:
    """What was asked for, as names and texts.

    Not the rating: what it gives has the bytes that were given at its time.
    """
    return (
        ("by", ",".join(each.name for each in query.by)),
        ("since", moment_words(query.since)),
        ("until", moment_words(query.until)),
        ("timezone", query.timezone),
        ("run_id", None if query.run is None else str(query.run)),
    )


def sentences_of(ledgers: Ledgers, own: tuple[str, ...], *, empty: bool) -> tuple[str, ...]:
    """The window, a view's own sentences (none when it is `empty`), and what is simulated."""
    said = (
        window_sentence(ledgers.query),
        NOTHING_HERE if empty else "",
        *(() if empty else own),
        SIMULATED_LEFT_OUT if ledgers.simulated_left_out else "",
        SIMULATED_ONLY if ledgers.simulated_only else "",
    )
    return tuple(safe_text(sentence) for sentence in said if sentence)
