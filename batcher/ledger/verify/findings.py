"""What a check found, a sentence each, and never more of a kind than people read."""

from collections import Counter
from dataclasses import dataclass
from typing import Final

MOST_OF_A_KIND: Final = 20


@dataclass(frozen=True, slots=True)
class Contradiction:
    """One contradiction; `kind` is the check that found it."""

    kind: str
    text: str


class Findings:
    """Collects findings: all are counted, the first 20 of each kind are kept."""

    def __init__(self) -> None:
        self._kept: list[Contradiction] = []
        self._by_kind: Counter[str] = Counter()

    def add(self, kind: str, text: str) -> None:
        """One more."""
        self._by_kind[kind] += 1
        if self._by_kind[kind] <= MOST_OF_A_KIND:
            self._kept.append(Contradiction(kind, text))

    @property
    def count(self) -> int:
        """How many there were."""
        return self._by_kind.total()

    @property
    def some(self) -> tuple[Contradiction, ...]:
        """Those that were kept, in the order they came."""
        return tuple(self._kept)

    @property
    def lines(self) -> list[str]:
        """They, to be printed, and how many more there are."""
        more = self.count - len(self._kept)
        return [found.text for found in self._kept] + [f"and {more:,} more"] * bool(more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verified:
    """What was checked and what was found: some findings of each kind, and how many in all."""

    answers: int
    charges: int
    rollups: int
    findings: tuple[Contradiction, ...]
    problems: int
