"""What a run tells whoever watches it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol

from batcher.ledger.runs import Recovery
from batcher.pipeline.progress import Progress

# What `--strict` minds of rows that have an answer.
UNPRICED: Final = "unpriced"
ASSUMED: Final = "assumed"
# Rows that were answered after the deadline of their run.
LATE: Final = "late"


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A run is about to send. `recovery` is what dead processes left in doubt.

    `source_ids` are its inputs, as the ledger knows them.
    `imported` counts outcomes that a lifeboat had kept; `notes` are sentences about the ledger.
    """

    run_id: int
    invocation_id: int
    database: str
    database_created: bool
    recovery: Recovery
    retrying: int
    price_note: str
    progress: Progress
    source_ids: Sequence[int] = ()
    imported: int = 0
    notes: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an invocation ended. `error` is one sentence, empty when nothing went wrong.

    `unfinished_rows` counts rows of the inputs that are failed, quarantined or held, by kind,
    from all invocations, what `--strict` minds, and those that missed a deadline. `rows_left`
    tells whether rows are still to do. `last`: no other process does the run any more.
    `stopped`: what ended it early, empty where nothing did. `rows_released`: how many it found
    in batches that were never made, or are lost; whoever runs next sends them.
    """

    exit_code: int
    error: str
    rows_left: bool
    seconds: float
    progress: Progress
    unfinished_rows: Mapping[str, int] = field(default_factory=dict)
    last: bool = True
    stopped: str = ""
    rows_released: int = 0

    @property
    def without_answer(self) -> dict[str, int]:
        """The rows of the inputs that are failed, quarantined or held, by kind."""
        unclear = (UNPRICED, ASSUMED, LATE)
        return {kind: n for kind, n in self.unfinished_rows.items() if kind not in unclear}

    @property
    def cause(self) -> str:
        """Why the exit code is not 0, in one sentence; empty when it is."""
        if self.error or not self.exit_code:
            return self.error
        if self.stopped:
            return f"{self.stopped}; run the same command again"
        counts = ", ".join(f"{n:,} {kind}" for kind, n in sorted(self.unfinished_rows.items()))
        why = "batcher failures" if self.without_answer else "batcher report"
        return f"finished, but not all is well: {counts}; {why} says why"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resent:
    """What a change of settings, or a round that was asked for (`again`), would send again.

    `cost_high` `None`: unbounded. `changes` says what changed, with a space before it, where
    that is known.
    """

    rows: int
    cost_high: int | None
    again: bool = False
    changes: str = ""


class Observer(Protocol):
    """Watches a run; called in the event loop's thread, and must not block it for long."""

    def started(self, event: Started) -> None:
        """The ledger is ready, sending begins."""

    def ended(self, event: Ended) -> None:
        """Everything is recorded."""

    def noted(self, sentence: str) -> None:
        """Something about the rows that is good to know; the run goes on."""

    def waiting(self, reason: str) -> None:
        """Nothing can be done until something else happens; it goes on by itself then."""

    def draining(self, reason: str) -> None:
        """Nothing more is sent; what is in flight is awaited."""

    def confirm_resend(self, resent: Resent) -> bool:
        """Whether answered rows may be sent, and paid, again; asked before anything is sent."""
