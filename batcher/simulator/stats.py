"""What the simulator has seen so far."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Stats:
    """Counts of Messages requests since the start; `by_status` has those that were answered."""

    requests: int = 0
    in_flight: int = 0
    peak_in_flight: int = 0
    billed: int = 0
    redirects_followed: int = 0
    by_status: Counter[int] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)

    def begin(self) -> None:
        """A Messages request came in."""
        self.requests += 1
        self.in_flight += 1
        self.peak_in_flight = max(self.peak_in_flight, self.in_flight)

    def end(self) -> None:
        """It was answered, broken off or given up by its client."""
        self.in_flight -= 1

    def as_object(self) -> dict[str, Any]:
        """The JSON of `GET /_simulator/stats`."""
        return {
            "requests": self.requests,
            "in_flight": self.in_flight,
            "peak_in_flight": self.peak_in_flight,
            "billed": self.billed,
            "redirects_followed": self.redirects_followed,
            "by_status": {str(status): n for status, n in sorted(self.by_status.items())},
            "faults": dict(sorted(self.faults.items())),
        }
