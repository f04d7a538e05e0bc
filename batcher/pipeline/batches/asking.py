"""What a run asks a server about its batches, and how often."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from batcher.messages.request import Attempt, Outcome, SeenBatch


@dataclass(frozen=True, slots=True, kw_only=True)
class LookPace:
    """How often a batch is looked at: at first so soon, later ever more seldom."""

    first_seconds: float = 5.0
    longest_seconds: float = 300.0

    def next_seconds(self, age_seconds: float) -> float:
        """A tenth of its age."""
        return min(max(age_seconds / 10, self.first_seconds), self.longest_seconds)


class Results(Protocol):
    """What came of one batch; see `transport.batch.message_batches`."""

    repeated: int
    unreadable: int

    @property
    def left(self) -> int:
        """Lines that nobody asked for."""

    def holds(self, uid: str) -> bool:
        """Whether one of them bears this name."""

    def outcome(self, attempt: Attempt, created_at: int, now_us: int) -> Outcome:
        """What became of an attempt."""

    def close(self) -> None:
        """Forget them."""


class Batches(Protocol):
    """What the server is asked; see `transport.batch.message_batches`."""

    async def look(self, batch_id: str) -> SeenBatch | None:
        """How one stands."""

    async def cancel(self, batch_id: str) -> SeenBatch | None:
        """End it."""

    async def made_since(self, since_us: int) -> Sequence[SeenBatch] | None:
        """Those made since then."""

    async def results(self, batch_id: str, folder: Path) -> Results | None:
        """What came of it."""

    async def first_custom_id(self, batch_id: str) -> str | None:
        """Whose result comes first."""

    async def close(self) -> None:
        """Let go of all connections."""
