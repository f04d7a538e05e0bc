"""What the prompt cache did for each beginning that prompts share, where it is on purpose."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Final

from sqlalchemy import RowMapping, Select, case, func

from batcher.ledger.schema import attempts, charges
from batcher.pricing.money import METERS
from batcher.pricing.rate.rates import RateSet
from batcher.report.figures import USD
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.query import BY_MODEL
from batcher.report.scope import answers_with_charges
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import asked, sentences_of
from batcher.report.views.meters import read_rate_sets
from batcher.report.words import count_of

SHOWN: Final = 100
_FIELDS: Final = (
    Field("prefix", "Prefix", Unit.TEXT),
    Field("model", "Model", Unit.TEXT),
    Field("cache", "Cache", Unit.TEXT),
    Field("answers", "Answers", Unit.COUNT),
    Field("writes", "Writes", Unit.COUNT),
    Field("reads", "Reads", Unit.COUNT),
    Field("written_tokens", "Written", Unit.COUNT, in_narrow=False),
    Field("read_tokens", "Read", Unit.COUNT, in_narrow=False),
    currency_field(),
    Field("saved", "Saved", Unit.MONEY),
    Field("lost", "Lost", Unit.MONEY),
)
_INPUT, _WRITE_5M, _WRITE_1H, _READ = (
    METERS.index(name) for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read")
)
_SAID: Final = (
    "Saved is what reads cost less than uncached input, lost what writes cost more. Cache is"
    " the lifetime of the breakpoints, or why there were none: too short for the model, used"
    " once, order (rows too far apart), late (a batch that took too long), model (no cache"
    " rates).",
)
# What the ledger notes, and how it is told; what stands alone may be one of two.
_WHY: Final = {"too_short": "too short", "alone": "order"}
_ONCE: Final = "used once"


@dataclass(slots=True)
class PrefixUse:
    """What came of the answers to rows with one beginning; money in pico-units."""

    answers: int = 0
    writes: int = 0
    reads: int = 0
    written: int = 0
    read: int = 0
    saved: int = 0
    lost: int = 0

    def join(self, other: "PrefixUse") -> None:
        """Take up all of another."""
        for name in PrefixUse.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(frozen=True, slots=True, order=True)
class _Line:
    prefix: str
    model: str
    cache: str
    currency: str


def prefixes_table(ledgers: Ledgers) -> Table:
    """A line per beginning, model and what was done, those with the most answers first.

    Beginnings of a single row are one line together.
    """
    found: dict[_Line, PrefixUse] = {}
    for ledger in ledgers.each:
        for line, use in _read(ledger):
            found.setdefault(line, PrefixUse()).join(use)
    lines = sorted(found, key=lambda line: (-found[line].answers, line))
    left = count_of(len(lines) - SHOWN, "further line") if len(lines) > SHOWN else ""
    said = (*_SAID, f"{left} with fewer answers." if left else "")
    return Table(
        name="prefixes",
        fields=_FIELDS,
        rows=tuple(_cells(line, found[line]) for line in lines[:SHOWN]),
        totals=tuple(_totals(found)),
        sentences=sentences_of(ledgers, said, empty=not lines),
        query=asked(ledgers.query),
    )


def _totals(found: dict[_Line, PrefixUse]) -> Iterator[tuple[Cell, ...]]:
    for currency in sorted({line.currency for line in found}):
        total = PrefixUse()
        for line, use in found.items():
            if line.currency == currency:
                total.join(use)
        yield _cells(_Line("Total", "", "", currency), total)


def _cells(line: _Line, use: PrefixUse) -> tuple[Cell, ...]:
    counts = (use.answers, use.writes, use.reads, use.written, use.read)
    return line.prefix, line.model, line.cache, *counts, line.currency, use.saved, use.lost


def _read(ledger: OpenLedger) -> Iterator[tuple[_Line, PrefixUse]]:
    rates = read_rate_sets(ledger)
    rows = ledger.rows(_statement(ledger))
    for prefix, group in groupby(rows, key=lambda row: int(row["cache_prefix"])):
        together = list(group)
        is_single = sum(int(row["answers"]) for row in together) == 1
        for row in together:
            why = _WHY.get(row["cache_note"], row["cache_note"])
            is_alone = is_single and row["cache_note"] == "alone"
            line = _Line(
                prefix="(several)" if is_alone else f"{prefix % 2**64:016x}",
                model=row["requested_model"],
                cache=_ONCE if is_alone else why,
                currency=row["currency"] or USD,
            )
            yield line, _use(row, rates.get(row["rate_set_id"]))


def _use(row: RowMapping, rates: RateSet | None) -> PrefixUse:
    five, hour, read = (int(row[name] or 0) for name in ("five", "hour", "read"))
    use = PrefixUse(
        answers=int(row["answers"]),
        writes=int(row["writes"] or 0),
        reads=int(row["reads"] or 0),
        written=five + hour,
        read=read,
    )
    if rates is not None:
        each = [rate or 0 for rate in rates.rates]
        use.saved = read * (each[_INPUT] - each[_READ])
        use.lost = five * (each[_WRITE_5M] - each[_INPUT])
        use.lost += hour * (each[_WRITE_1H] - each[_INPUT])
    return use


def _statement(ledger: OpenLedger) -> Select[tuple[object, ...]]:
    scope = replace(ledger.scope, query=replace(ledger.scope.query, by=BY_MODEL))
    five, hour, read = (
        charges.c[f"{name}_quantity"] for name in (METERS[n] for n in (1, 2, 3))
    )
    keys = (
        attempts.c.cache_prefix,
        attempts.c.cache_note,
        attempts.c.requested_model,
        charges.c.currency,
        charges.c.rate_set_id,
    )
    first_line = func.coalesce(charges.c.line, 0) == 0
    written = func.coalesce(five, 0) + func.coalesce(hour, 0)
    return (
        answers_with_charges(scope)
        .join(attempts, attempts.c.attempt_id == charges.c.attempt_id)
        .where(attempts.c.cache_prefix.is_not(None))
        .add_columns(
            *keys,
            func.sum(case((first_line, 1), else_=0)).label("answers"),
            func.sum(case((written > 0, 1), else_=0)).label("writes"),
            func.sum(case((read > 0, 1), else_=0)).label("reads"),
            func.sum(five).label("five"),
            func.sum(hour).label("hour"),
            func.sum(read).label("read"),
        )
        .group_by(*keys)
        .order_by(*keys)
    )
