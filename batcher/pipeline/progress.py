"""What a run has done so far, of one process or several, and what it tells its observers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol

from batcher.ledger.runs import Recovery
from batcher.pacing.limits import QuotaUse

# What `--strict` minds of rows that have an answer.
UNPRICED: Final = "unpriced"
ASSUMED: Final = "assumed"
# Rows that were answered after the deadline of their run.
LATE: Final = "late"


@dataclass(frozen=True, slots=True)
class BindingLimit:
    """What limits a run, as a name for people, and for which part of the time, of 1.

    `option` is the one that would change it; `None` when none would.
    """

    name: str
    option: str | None
    part: float


@dataclass(slots=True)
class Progress:
    """Counters of one invocation, written as a run goes on, read by displays.

    Rows: `done_before` were finished by earlier invocations, `claimed` had an answer already:
    it moved along, or, of those `shared`, was another run's and had cost `shared_cost`, but for
    `shared_unpriced` answers whose cost nobody knows, or of those `repeated`, was that of an
    equal row of the run, alike; `elsewhere` are finished by other
    processes of the run. Money is pico-USD of this invocation; `in_doubt_high` `None` means
    unbounded. `assumed` answers cost `assumed_low`, which is in `cost`, to `assumed_high`.
    `maybe_billed` attempts were refused by a server that may bill them even so. Under a cap,
    `cap_free` is what may still be reserved; it is `None` without one.
    `total_rows` is exact when `total_is_exact`. `overbilled` counts answers that cost more
    than they could by what was asked for. `repeated_fields` counts
    lines that name a field twice, `repeated_message_ids` answers that came under the id of one
    of the latest 65,536. `unknown_stop_reasons` counts answers by stop
    reasons that the Messages API does not have. `in_batches` counts rows that wait in so many
    `batches`. `recorded` counts the sent attempts that the ledger knows of: the others still
    wait for it. `binding_limit_now` is what limits the run at present, `binding_limit`, at its
    end, what did most of the time; `None`: nothing known. `learned_per_minute` are the requests
    per minute that refusals taught, by quota. The oldest request in flight went
    `oldest_seconds` ago, `usual_seconds` is what answers take. `fallback_rows` were answered by
    endpoints that the run fell back to, by their names, for `fallback_cost`, which `cost` has.
    `money_wait`, `database_wait` and `outage` are sentences while something is waited for: room
    under a cap, the database, or the server. `last_failure` says why the latest row without an
    answer has none. Each field is written in one module alone.
    """

    total_rows: int = 0
    total_is_exact: bool = False
    done_before: int = 0
    claimed: int = 0
    shared: int = 0
    shared_cost: int = 0
    shared_unpriced: int = 0
    repeated: int = 0
    repeated_cost: int = 0
    repeated_unpriced: int = 0
    elsewhere: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0
    quarantined: int = 0
    repeated_custom_ids: int = 0
    repeated_fields: int = 0
    repeated_message_ids: int = 0
    blank_lines: int = 0
    sent: int = 0
    recorded: int = 0
    in_flight: int = 0
    in_batches: int = 0
    batches: int = 0
    pauses: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    other_currencies: dict[str, int] = field(default_factory=dict)
    unpriced: int = 0
    assumed: int = 0
    assumed_low: int = 0
    assumed_high: int = 0
    maybe_billed: int = 0
    maybe_billed_high: int | None = 0
    overbilled: int = 0
    in_doubt: int = 0
    in_doubt_low: int = 0
    in_doubt_high: int | None = 0
    truncated: int = 0
    refused: int = 0
    invalid: int = 0
    unknown_stop_reasons: dict[str, int] = field(default_factory=dict)
    cap_spent: int = 0
    cap_reserved: int = 0
    cap_free: int | None = None
    money_wait: str = ""
    database_wait: str = ""
    outage: str = ""
    last_failure: str = ""
    binding_limit_now: BindingLimit | None = None
    binding_limit: BindingLimit | None = None
    quota_used: list[QuotaUse] = field(default_factory=list)
    learned_per_minute: dict[str, int] = field(default_factory=dict)
    oldest_seconds: float = 0.0
    usual_seconds: float = 0.0
    fallback_rows: dict[str, int] = field(default_factory=dict)
    fallback_cost: dict[str, int] = field(default_factory=dict)

    @property
    def finished_rows(self) -> int:
        """Rows that need nothing more, whoever finished them."""
        return (
            self.done_before + self.claimed + self.answered + self.failed + self.held
            + self.quarantined + self.elsewhere
        )  # fmt: skip


_SUMS: Final = (
    "claimed", "shared", "shared_cost", "shared_unpriced",
    "repeated", "repeated_cost", "repeated_unpriced",
    "answered", "failed", "held", "quarantined", "repeated_custom_ids",
    "repeated_fields", "repeated_message_ids", "blank_lines",
    "sent", "recorded", "in_flight", "pauses",
    "input_tokens", "output_tokens", "cost", "unpriced", "overbilled", "in_doubt",
    "in_doubt_low", "assumed", "assumed_low", "assumed_high", "maybe_billed",
    "truncated", "refused", "invalid", "cap_reserved",
)  # fmt: skip
_TABLES: Final = (
    "other_currencies", "unknown_stop_reasons", "fallback_rows", "fallback_cost",
    "learned_per_minute",
)  # fmt: skip


def sum_up(into: Progress, first: Progress, others: Sequence[Progress]) -> None:
    """Make `into` what `first`, which shows the run, and `others` have done together."""
    everybody = [first, *others]
    for name in _SUMS:
        setattr(into, name, sum(getattr(each, name) for each in everybody))
    for name in _TABLES:
        setattr(into, name, _added([getattr(each, name) for each in everybody]))
    into.done_before = first.done_before
    into.total_rows = max(each.total_rows for each in everybody)
    into.total_is_exact = any(each.total_is_exact for each in everybody)
    into.elsewhere = 0  # but for processes that were started elsewhere
    into.elsewhere = max(max(each.finished_rows for each in everybody) - into.finished_rows, 0)
    for name in ("in_doubt_high", "maybe_billed_high"):
        highs = [getattr(each, name) for each in everybody]
        setattr(into, name, None if None in highs else sum(highs))
    for name in ("money_wait", "database_wait", "outage", "last_failure"):
        setattr(into, name, next(filter(None, (getattr(each, name) for each in everybody)), ""))
    for name in ("binding_limit_now", "binding_limit"):
        known = filter(None, (getattr(each, name) for each in everybody))
        setattr(into, name, next(known, None))
    into.oldest_seconds, into.usual_seconds = max(
        (each.oldest_seconds, each.usual_seconds) for each in everybody
    )
    into.quota_used = _used_together([use for each in everybody for use in each.quota_used])
    _sum_cap(into, first, others)


def _sum_cap(into: Progress, first: Progress, others: Sequence[Progress]) -> None:
    """The first knows what was spent before; the others add what they spent themselves."""
    more = sum(
        each.cost + each.assumed_high - each.assumed_low
        + (each.in_doubt_high or 0) + (each.maybe_billed_high or 0)
        for each in others
    )  # fmt: skip
    into.cap_spent, into.cap_free = 0, None
    if first.cap_free is not None:
        cap = first.cap_spent + first.cap_reserved + first.cap_free
        into.cap_spent = first.cap_spent + more
        into.cap_free = max(cap - into.cap_spent - into.cap_reserved, 0)


def _added(tables: Sequence[dict[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for table in tables:
        for key, number in table.items():
            added[key] = added.get(key, 0) + number
    return added


def _used_together(uses: Sequence[QuotaUse]) -> list[QuotaUse]:
    together: dict[tuple[str, str], QuotaUse] = {}
    for use in uses:
        known = together.get((use.quota, use.limit))
        used = use.used + (known.used if known else 0.0)
        together[use.quota, use.limit] = replace(use, used=used)
    return list(together.values())


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

    def after(self, earlier: "Started | None") -> "Started":
        """This phase of a command, with what its `earlier` ones, if any, made and found."""
        if earlier is None:
            return self
        return replace(
            self,
            database_created=earlier.database_created or self.database_created,
            recovery=earlier.recovery if earlier.recovery.attempts else self.recovery,
            imported=earlier.imported + self.imported,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an invocation ended. `error` is one sentence, empty when nothing went wrong.

    `unfinished_rows` counts rows of the inputs that are failed, quarantined or held, by kind,
    from all invocations, what `--strict` minds, and those that missed a deadline. `rows_left`
    tells whether rows are still to do. `last`: no other process does the run any more.
    `stopped`: what ended it early, empty where nothing did. `rows_released`: how many it found
    in batches that were never made, or are lost; whoever runs next sends them. `missed_at` is a
    deadline that had passed unseen when it began, microseconds UTC.
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
    missed_at: int | None = None

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
