"""The seam that everything turns on: how an attempt travels."""

from typing import Protocol

from batcher.messages.attempt import Attempt
from batcher.messages.outcome import Outcome


class Lane(Protocol):
    """Carries attempts whose intent is already durable, and decides nothing.

    Whether, when and how often something is sent is the pipeline's business.
    """

    async def send(self, attempt: Attempt) -> Outcome:
        """Exactly one outcome for `attempt`. A failed attempt is an outcome, not an exception.

        Cancelling it means the attempt's fate is unknown; what is raised ends the run.
        """

    async def close(self) -> None:
        """Let go of all connections."""
