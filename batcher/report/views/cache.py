"""What prompt caching saved, cost, and could have saved at most, at the rates really paid.

And the same for each beginning that prompts share, where it is cached on purpose.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from itertools import groupby
from typing import Final

from sqlalchemy import RowMapping, Select, case, func

from batcher.ledger.schema import attempts, charges
from batcher.pricing.money import METERS
from batcher.pricing.rate.rates import RateSet
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.query import BY_MODEL
from batcher.report.scope import answers_with_charges
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import asked, sentences_of, table_by_currency
from batcher.report.views.meters import MeterGroup, read_meters, read_rate_sets
from batcher.report.words import count_of

_FIELDS: Final = (
    Field("input_tokens", "Uncached", Unit.COUNT),
    Field("cache_write_tokens", "Written", Unit.COUNT),
    Field("cache_read_tokens", "Read", Unit.COUNT),
    Field("hit_rate", "Hit rate", Unit.SHARE),
    currency_field(),
    Field("saved_by_reads", "Saved by reads", Unit.MONEY, in_narrow=False),
    Field("paid_for_writes", "Paid for writes", Unit.MONEY, in_narrow=False),
    Field("saved", "Saved", Unit.MONEY),
    Field("missed_at_most", "Missed at most", Unit.MONEY, in_narrow=False),
)
_INPUT, _WRITE_5M, _WRITE_1H, _CACHE_READ = (
    METERS.index(name) for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read")
)
_SAID: Final = (
    "Saved is what reads saved against uncached input, less what writes cost above it; negative"
    " where caching cost more than it saved.",
    "Missed at most is what would have been saved had every uncached token been a cache read;"
    " how much of it repeats is not known.",
)


SHOWN: Final = 100
_PREFIX_FIELDS: Final = (
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
_SAID_OF_PREFIXES: Final = (
    "Saved is what reads cost less than uncached input, lost what writes cost more. Cache is"
    " the lifetime of the breakpoints, or why there were none: too short for the model, used"
    " once, order (rows too far apart), late (a batch that took too long), model (no cache"
    " rates).",
)
# What the ledger notes, and how it is told; what stands alone may be one of two.
_WHY: Final = {"too_short": "too short", "alone": "order"}
_ONCE: Final = "used once"


@dataclass(slots=True)
class CacheUse:
    """Tokens of the prompts, and money in pico-units of charges that have a rate."""

    uncached: int = 0
    written: int = 0
    read: int = 0
    saved_by_reads: int = 0
    paid_for_writes: int = 0
    missed: int = 0
    without_rates: int = 0

    def add(self, group: MeterGroup) -> None:
        """Take up a group; without rates only its tokens."""
        used = group.quantities
        self.uncached += used[_INPUT]
        self.written += used[_WRITE_5M] + used[_WRITE_1H]
        self.read += used[_CACHE_READ]
        if group.rates is None:
            self.without_rates += 0 if group.status == "unbilled" else group.charges
            return
        plain = group.rates.rates[_INPUT] or 0
        read = group.rates.rates[_CACHE_READ]
        for meter in (_WRITE_5M, _WRITE_1H):
            self.paid_for_writes += group.amounts[meter] - used[meter] * plain
        if read is not None:
            self.saved_by_reads += used[_CACHE_READ] * (plain - read)
            self.missed += used[_INPUT] * (plain - read)

    def join(self, other: "CacheUse") -> None:
        """Take up all of another group."""
        for name in CacheUse.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


def cache_table(ledgers: Ledgers) -> Table:
    """A row per group and currency."""
    found = read_cache_use(ledgers)
    said = (*_SAID, *_unpriced(found))
    return table_by_currency(ledgers, "cache", _FIELDS, found, _cells, said)


def _unpriced(found: dict[tuple[Key, str], CacheUse]) -> tuple[str, ...]:
    bare = sum(use.without_rates for use in found.values())
    said = f"Without a price, so in tokens and hit rate only: {count_of(bare, 'charge')}."
    return (said,) if bare else ()


def read_cache_use(ledgers: Ledgers) -> dict[tuple[Key, str], CacheUse]:
    """By key and currency; what has no price counts with its tokens, as USD."""
    found: dict[tuple[Key, str], CacheUse] = {}
    for ledger in ledgers.each:
        for group in read_meters(ledger):
            found.setdefault((group.key, group.currency or USD), CacheUse()).add(group)
    return found


def _cells(use: CacheUse, currency: str) -> tuple[Cell, ...]:
    prompt = use.uncached + use.written + use.read
    return (
        use.uncached,
        use.written,
        use.read,
        Fraction(use.read, prompt) if prompt else None,
        currency,
        use.saved_by_reads,
        use.paid_for_writes,
        use.saved_by_reads - use.paid_for_writes,
        use.missed,
    )


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
        for line, use in _read_prefixes(ledger):
            found.setdefault(line, PrefixUse()).join(use)
    lines = sorted(found, key=lambda line: (-found[line].answers, line))
    left = count_of(len(lines) - SHOWN, "further line") if len(lines) > SHOWN else ""
    said = (*_SAID_OF_PREFIXES, f"{left} with fewer answers." if left else "")
    return Table(
        name="prefixes",
        fields=_PREFIX_FIELDS,
        rows=tuple(_prefix_cells(line, found[line]) for line in lines[:SHOWN]),
        totals=tuple(_prefix_totals(found)),
        sentences=sentences_of(ledgers, said, empty=not lines),
        query=asked(ledgers.query),
    )


def _prefix_totals(found: dict[_Line, PrefixUse]) -> Iterator[tuple[Cell, ...]]:
    for currency in sorted({line.currency for line in found}):
        total = PrefixUse()
        for line, use in found.items():
            if line.currency == currency:
                total.join(use)
        yield _prefix_cells(_Line("Total", "", "", currency), total)


def _prefix_cells(line: _Line, use: PrefixUse) -> tuple[Cell, ...]:
    counts = (use.answers, use.writes, use.reads, use.written, use.read)
    return line.prefix, line.model, line.cache, *counts, line.currency, use.saved, use.lost


def _read_prefixes(ledger: OpenLedger) -> Iterator[tuple[_Line, PrefixUse]]:
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
            yield line, _prefix_use(row, rates.get(row["rate_set_id"]))


def _prefix_use(row: RowMapping, rates: RateSet | None) -> PrefixUse:
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
        use.saved = read * (each[_INPUT] - each[_CACHE_READ])
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
