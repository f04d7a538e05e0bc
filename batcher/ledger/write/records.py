"""What the engine hands to the writer: one frozen record per change of the ledger."""

from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b

import msgspec

from batcher.messages.attempt import Attempt, State
from batcher.messages.outcome import Outcome
from batcher.messages.request import BadRow
from batcher.pricing.rate.rating import Charge


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """Whose records are written, and under which rating."""

    run_id: int
    invocation_id: int
    lane: str
    rating_id: int
    price_book_id: int


class FailureKind(StrEnum):
    """Why a row is not going to be answered by itself."""

    QUARANTINED = "quarantined"  # refused before sending
    FAILED = "failed"  # given up after sending
    HELD = "held"  # waits for a person


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFailure:
    """Why a row that was sent is failed or held; `transient`: to do again next time."""

    kind: FailureKind
    reason: str
    message: str
    transient: bool


class Intent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Before an attempt's first byte leaves."""

    attempt: Attempt


class Settlement(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of an attempt: outcome, answer, charges and row state, in one transaction.

    `pending` says that the request is not finished. `final` marks an answer as the row's own;
    `joined_content` and `joined_text` hold all legs when there were several. `cost_low` and
    `cost_high` are pico-USD; `cost_high` is `None` when unbounded. `valid` says whether an
    answer follows its schema, `None`: it has none, or that could not be told.
    """

    attempt: Attempt
    outcome: Outcome
    state: State
    pending: bool
    cost_low: int
    cost_high: int | None
    charges: tuple[Charge, ...] = ()
    final: bool = False
    joined_content: str | None = None
    joined_text: str | None = None
    failure: RowFailure | None = None
    valid: bool | None = None
    invalid_reason: str | None = None


class Quarantine(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A row refused before sending."""

    row: BadRow


Record = Intent | Settlement | Quarantine


def identity(custom_id: str | None, params_hash: bytes) -> int:
    """8 signed bytes that name a row's identity, for the index; equality is checked in full."""
    digest = blake2b(params_hash, digest_size=8)
    if custom_id is not None:
        digest.update(b"\0" + custom_id.encode())
    return int.from_bytes(digest.digest(), "big", signed=True)
