"""How long answers took: whole, to the first token, and tokens per second."""

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import Select

from batcher.ledger.schema import answers
from batcher.report.figures import Key, sort_key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.query import Dimension
from batcher.report.scope import answer_keys, complete_answers
from batcher.report.table import Cell, Field, Table, Unit, key_fields, named_key, total_key
from batcher.report.views.frame import asked, sentences_of
from batcher.report.views.spread import Numbers

_FIELDS: Final = (
    Field("answers", "Answers", Unit.COUNT),
    Field("latency_p50", "p50", Unit.TIME),
    Field("latency_p95", "p95", Unit.TIME),
    Field("latency_max", "Longest", Unit.TIME, in_narrow=False),
    Field("first_token_p50", "First token p50", Unit.TIME),
    Field("first_token_p95", "First token p95", Unit.TIME, in_narrow=False),
    Field("tokens_per_second_p50", "Tokens/s p50", Unit.DECIMAL),
    Field("tokens_per_second_p5", "Slowest 5 %", Unit.DECIMAL, in_narrow=False),
)
_SECOND_US: Final = 1_000_000
_THOUSANDTHS: Final = 1000
_SAID: Final = (
    "From sending to the last byte, of every complete answer. Tokens per second are output"
    " tokens by the time after the first token where it is known, else by the whole time."
)


@dataclass(slots=True)
class Times:
    """One group's times in microseconds, and speeds in thousandths of a token per second."""

    latencies: Numbers = field(default_factory=Numbers)
    first_tokens: Numbers = field(default_factory=Numbers)
    speeds: Numbers = field(default_factory=Numbers)

    def add(self, latency: int, first: int | None, output_tokens: int | None) -> None:
        """Take up one answer."""
        self.latencies.take(latency)
        if first is not None:
            self.first_tokens.take(first)
        writing = latency - (first or 0)
        if output_tokens and writing > 0:
            self.speeds.take(output_tokens * _SECOND_US * _THOUSANDTHS // writing)

    def join(self, other: "Times") -> None:
        """Take up all of another group."""
        self.latencies.join(other.latencies)
        self.first_tokens.join(other.first_tokens)
        self.speeds.join(other.speeds)


def read_times(ledgers: Ledgers) -> dict[Key, Times]:
    """The times of every complete answer, by key."""
    found: dict[Key, Times] = {}
    for ledger in ledgers.each:
        for key, row in ledger.keyed(_complete(ledger)):
            if key not in found:
                found[key] = Times()
            found[key].add(row[0], row[1], row[2])
    return found


def latency_table(ledgers: Ledgers) -> Table:
    """A row per group."""
    found = read_times(ledgers)
    rows = [
        (*named_key(key, ledgers.labels[key]), *_cells(found[key]))
        for key in sorted(found, key=sort_key)
    ]
    return Table(
        name="latency",
        fields=(*key_fields(ledgers.query.by), *_FIELDS),
        rows=tuple(rows),
        totals=(_total(found, ledgers.query.by),) if rows else (),
        sentences=sentences_of(ledgers, (_SAID,), empty=not rows),
        query=asked(ledgers.query),
    )


def _complete(ledger: OpenLedger) -> Select[Any]:
    query = ledger.scope.query
    keys = [column.label(name) for name, column in answer_keys(query).items()]
    columns = (answers.c.latency_us, answers.c.first_token_us, answers.c.output_tokens)
    return complete_answers(ledger.scope).add_columns(*columns, *keys)


def _cells(times: Times) -> tuple[Cell, ...]:
    latency, first = times.latencies.spread(), times.first_tokens.spread()
    speeds = times.speeds
    count = speeds.count
    slowest = count - -(-count * 95 // 100) + 1  # nearest rank from the other end
    return (
        times.latencies.count,
        latency.p50 if latency else None,
        latency.p95 if latency else None,
        latency.largest if latency else None,
        first.p50 if first else None,
        first.p95 if first else None,
        Fraction(speeds.ranked(-(-count // 2)), _THOUSANDTHS) if count else None,
        Fraction(speeds.ranked(slowest), _THOUSANDTHS) if count else None,
    )


def _total(found: dict[Key, Times], by: tuple[Dimension, ...]) -> tuple[Cell, ...]:
    together = Times()
    for times in found.values():
        together.join(times)
    return (*total_key(by), *_cells(together))
