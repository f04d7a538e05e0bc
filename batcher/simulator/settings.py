"""How one simulator behaves."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from batcher.simulator.wire.faults import FAULTS
from batcher.simulator.wire.requests import DIALECTS

CREATIONS = ("made", "lost", "lost_502", "vanished", "refused")


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchSettings:
    """How Message Batches go; wrong values raise `ValueError`.

    A batch takes (shortest, longest) `queue_seconds`, its requests one after the other; what
    is not done `expire_seconds` after it was made is expired. `most_waiting` requests may wait
    in all batches together, `None`: any number. `creations` says how the first creates end,
    each a name of `CREATIONS`: a `lost` one makes the batch and breaks the connection, a
    `vanished` one makes none. The first `looks_missed` looks at each batch, and the first
    `results_missed` downloads of its results, answer 404; the next `results_cut` downloads
    break off half-way.
    """

    queue_seconds: tuple[float, float] = (0, 0)
    expire_seconds: float = 86_400
    most_requests: int = 100_000
    most_bytes: int = 256 * 1024 * 1024
    most_waiting: int | None = None
    creations: tuple[str, ...] = ()
    looks_missed: int = 0
    results_missed: int = 0
    results_cut: int = 0

    def __post_init__(self) -> None:
        shortest, longest = self.queue_seconds
        if not 0 <= shortest <= longest:
            raise ValueError(
                f"batches of {shortest}-{longest} s: give MIN-MAX, 0 <= MIN <= MAX"
            )
        unknown = sorted(set(self.creations) - set(CREATIONS))
        if unknown:
            raise ValueError(f"unknown creation {unknown[0]}; known are {', '.join(CREATIONS)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulatorSettings:
    """What a simulator is started with; wrong values raise `ValueError`.

    `port` 0 takes a free one; the host is always 127.0.0.1. `latency_ms` is (shortest, longest)
    time to an answer. The quotas are per minute and model class, `None` for no limit; a bucket
    holds `burst_seconds` of its quota. `faults` maps a name of `FAULTS` to its probability per
    request. `retry_after_seconds` is what the 429 and 529 faults ask for. With `bill_path` the
    bill is appended to that file, else it is kept in memory. `expected_key` of `None` accepts
    any key but "wrong-key". `version_required` refuses requests without `anthropic-version`.
    `dialect` is a name of `DIALECTS`: which server is played. `batches` is how those go. The
    first requests for a report of the Admin API get the statuses `reports_refused`.
    """

    port: int = 0
    seed: int = 0
    latency_ms: tuple[float, float] = (0, 0)
    requests_per_minute: int | None = None
    input_tokens_per_minute: int | None = None
    output_tokens_per_minute: int | None = None
    burst_seconds: float = 60
    faults: Mapping[str, float] = field(default_factory=dict)
    retry_after_seconds: int = 1
    trickle_ms: float = 20
    bill_path: Path | None = None
    expected_key: str | None = None
    version_required: bool = True
    dialect: str = "anthropic"
    batches: BatchSettings = field(default_factory=BatchSettings)
    reports_refused: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        shortest, longest = self.latency_ms
        if not 0 <= shortest <= longest:
            raise ValueError(
                f"latency {shortest}-{longest} ms: give MIN-MAX with 0 <= MIN <= MAX"
            )
        if self.dialect not in DIALECTS:
            raise ValueError(
                f"unknown dialect {self.dialect}; known are {', '.join(sorted(DIALECTS))}"
            )
        if self.burst_seconds <= 0:
            raise ValueError("burst seconds must be more than 0")
        self._check_quotas()
        self._check_faults()

    def _check_quotas(self) -> None:
        limits = (
            self.requests_per_minute,
            self.input_tokens_per_minute,
            self.output_tokens_per_minute,
        )
        if any(limit is not None and limit < 1 for limit in limits):
            raise ValueError("a quota must be at least 1 per minute")

    def _check_faults(self) -> None:
        unknown = sorted(set(self.faults) - set(FAULTS))
        if unknown:
            raise ValueError(
                f"unknown fault {unknown[0]}; known are {', '.join(sorted(FAULTS))}"
            )
        if any(not 0 <= share <= 1 for share in self.faults.values()):
            raise ValueError("the probability of a fault is between 0 and 1")
        if sum(self.faults.values()) > 1 + 1e-9:
            raise ValueError("the probabilities of all faults together exceed 1")
