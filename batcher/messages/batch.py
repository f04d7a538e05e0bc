"""Message Batches in words: how one stands, what a server says of it."""

from enum import StrEnum
from typing import Final

import msgspec


class BatchState(StrEnum):
    """How a batch stands, in the provider's words as far as it has any."""

    CREATING = "creating"  # the intent is durable; nobody knows yet whether it was made
    IN_PROGRESS = "in_progress"
    CANCELING = "canceling"
    ENDED = "ended"  # its results are to be had, and not yet all recorded here
    COLLECTED = "collected"
    NOT_MADE = "not_made"
    FORGOTTEN = "forgotten"  # a person gave it up


OUT: Final = (
    BatchState.CREATING,
    BatchState.IN_PROGRESS,
    BatchState.CANCELING,
    BatchState.ENDED,
)
LIFETIME_US: Final = 86_400 * 10**6  # after which a batch has ended, one way or another
RESULTS_US: Final = 29 * 86_400 * 10**6  # how long its results can be had


class SeenBatch(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a server says of one, `requests` of them; moments are microseconds UTC."""

    batch_id: str
    state: BatchState
    requests: int
    created_at: int
    expires_at: int
    ended_at: int | None = None
    succeeded: int = 0
    errored: int = 0
    expired: int = 0
    canceled: int = 0


class Submitted(msgspec.Struct, frozen=True, gc=False):
    """An attempt left, or may have left, in the batch of that number; its outcome comes later.

    Whoever gets this leaves the attempt open: it is in the ledger with its batch.
    """

    batch: int
