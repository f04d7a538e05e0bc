"""What a usage line may have used beside what it tells, and what a rule about it is."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from batcher.messages.answer import Evidence
from batcher.messages.usage import Usage
from batcher.pricing.rate.lines import UsageLine, Variant

INPUT, WRITE_5M, WRITE_1H, READ, OUTPUT, SEARCH = range(6)
PROMPT: Final = (INPUT, WRITE_5M, WRITE_1H, READ)
NO_EVIDENCE: Final = Evidence()


@dataclass(slots=True)
class PossibleUse:
    """What a line may have used: at least, at most, and in which terms.

    `low` and `high` are by meter. Up to `pool` further tokens of the prompt may have been of
    any of `pool_meters`. `moves` are (meter, tokens, others): so many tokens counted for that
    meter may have been of one of the others. `variants` are further terms that may have held,
    with the reason why. `several`: tokens of several prompts stand in one sum. `free`: perhaps
    nothing of it is billed. `fees` are pico-USD at most. `unbounded`: there is no upper end.
    """

    low: list[int]
    high: list[int]
    pool: int = 0
    pool_meters: set[int] = field(default_factory=set)
    moves: list[tuple[int, int, tuple[int, ...]]] = field(default_factory=list)
    variants: list[tuple[str, Variant]] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)
    several: bool = False
    free: bool = False
    fees: int = 0
    unbounded: bool = False

    def at_most(self, meter: int, most: int | None) -> None:
        """The meter is not known: perhaps up to `most`, `None`: no bound."""
        self.unbounded |= most is None
        self.high[meter] = max(self.high[meter], most or 0)

    def at_least(self, meter: int, least: int) -> None:
        """The meter may be as low as `least`."""
        self.low[meter] = min(self.low[meter], least)


class TrustRule(NamedTuple):
    """One row of the table.

    `reason` is what a charge says, "" for what matters only where prices differ by it; `source`
    is where the case was seen; `sees` whether a line has it, `widens` what that makes possible.
    """

    reason: str
    source: str
    sees: Callable[[UsageLine, Evidence], bool]
    widens: Callable[[PossibleUse, UsageLine, Evidence], None]


def prompt_tokens(usage: Usage) -> int:
    """All tokens of a prompt: fresh, written to a cache and read from one."""
    written = max(
        usage.cache_write_tokens or 0,
        (usage.cache_write_5m_tokens or 0) + (usage.cache_write_1h_tokens or 0),
    )
    return (usage.input_tokens or 0) + written + (usage.cache_read_tokens or 0)


def is_above_bound(usage: Usage | None, evidence: Evidence | None) -> bool:
    """Whether usage tells a longer prompt than the request's body can be."""
    most = None if evidence is None else evidence.input_most
    return usage is not None and most is not None and prompt_tokens(usage) > most
