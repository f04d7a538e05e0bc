"""What prompt caching saved, cost, and could have saved at most, at the rates really paid."""

from dataclasses import dataclass
from fractions import Fraction
from typing import Final

from batcher.pricing.money import METERS
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledgers
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import table_by_currency
from batcher.report.views.meters import MeterGroup, read_meters
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
_INPUT, _WRITE_5M, _WRITE_1H, _READ = (
    METERS.index(name) for name in ("input", "cache_write_5m", "cache_write_1h", "cache_read")
)
_SAID: Final = (
    "Saved is what reads saved against uncached input, less what writes cost above it; negative"
    " where caching cost more than it saved.",
    "Missed at most is what would have been saved had every uncached token been a cache read;"
    " how much of it repeats is not known.",
)


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
        self.read += used[_READ]
        if group.rates is None:
            self.without_rates += 0 if group.status == "unbilled" else group.charges
            return
        plain = group.rates.rates[_INPUT] or 0
        read = group.rates.rates[_READ]
        for meter in (_WRITE_5M, _WRITE_1H):
            self.paid_for_writes += group.amounts[meter] - used[meter] * plain
        if read is not None:
            self.saved_by_reads += used[_READ] * (plain - read)
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
