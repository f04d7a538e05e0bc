"""What a run has done so far, for displays and the end summary."""

from dataclasses import dataclass, field

from batcher.pacing.usage import QuotaUse


@dataclass(frozen=True, slots=True)
class Binding:
    """What limits a run, as a name for people, and for which part of the time, of 1.

    `option` is the one that would change it; `None` when none would.
    """

    name: str
    option: str | None
    part: float


@dataclass(slots=True)
class Progress:
    """Counters of one invocation, written by the engine, read by displays.

    Rows: `done_before` were finished by earlier invocations, `claimed` had an answer that moved
    along, `elsewhere` are finished by other processes of the run. Money is pico-USD of this
    invocation; `in_doubt_high` `None` means unbounded. Under a cap, `cap_free` is what may
    still be reserved; it is `None` without one.
    `total_rows` is exact when `total_is_exact`. `unknown_stop_reasons` counts answers by stop
    reasons that the Messages API does not have. `recorded` counts the sent attempts that the
    ledger knows of: the others still wait for it. `binding_now` is what limits the run at
    present, `binding`, at its end, what did most of the time; `None`: nothing that is known.
    `outage` is a sentence while the server does not answer.
    """

    total_rows: int = 0
    total_is_exact: bool = False
    done_before: int = 0
    claimed: int = 0
    elsewhere: int = 0
    answered: int = 0
    failed: int = 0
    held: int = 0
    quarantined: int = 0
    repeated_custom_ids: int = 0
    own_model_rows: int = 0
    sent: int = 0
    recorded: int = 0
    in_flight: int = 0
    waiting_retries: int = 0
    pauses: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: int = 0
    other_currencies: dict[str, int] = field(default_factory=dict)
    unpriced: int = 0
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
    note: str = ""
    outage: str = ""
    binding_now: Binding | None = None
    binding: Binding | None = None
    quota_used: list[QuotaUse] = field(default_factory=list)

    @property
    def finished_rows(self) -> int:
        """Rows that need nothing more, whoever finished them."""
        return (
            self.done_before + self.claimed + self.answered + self.failed + self.held
            + self.quarantined + self.elsewhere
        )  # fmt: skip
