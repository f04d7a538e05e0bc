"""What an engine asks of whoever knows attempts that left and whose outcome comes later."""

from typing import Protocol

from batcher.errors import BatcherError
from batcher.messages.attempt import Attempt, Outcome
from batcher.pipeline.engine.work import Underway


class Returns(Protocol):
    """All methods belong to the event loop's thread."""

    @property
    def rows_awaited(self) -> int:
        """How many rows left whose outcome this invocation waits for."""

    def went(self, batch: int) -> None:
        """An attempt left in the batch of that number."""

    def outcome(self, attempt: Attempt, underway: Underway) -> Outcome:
        """What came of an attempt whose batch has ended."""

    def settled(self, attempt_id: int) -> None:
        """What came of it is durable; told of every attempt."""


class NoReturns:
    """See `Returns`: every attempt's outcome comes to whoever sent it."""

    rows_awaited = 0

    def went(self, batch: int) -> None:
        """See `Returns.went`."""
        raise BatcherError(f"an attempt left in batch {batch}, and nobody waits for it")

    def outcome(self, attempt: Attempt, underway: Underway) -> Outcome:
        """See `Returns.outcome`."""
        raise BatcherError(f"attempt {attempt.uid} is not back from batch {underway.batch}")

    def settled(self, attempt_id: int) -> None:
        """See `Returns.settled`."""
