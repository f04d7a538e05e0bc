"""The provider's own figures, read from saved files: two reports as JSON, two exports as CSV.

Shapes: the usage report and the cost report of the Usage and Cost Admin API, one response or a
list of pages, and the Console's CSV exports. The API's amounts are decimal text
in **cents**, the Console's are dollars.
"""

from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from fractions import Fraction

from batcher.pricing.book.book import normalise

DAY_US = 86_400_000_000


class Measure(StrEnum):
    """What a figure counts: tokens (or searches), or pico-USD."""

    USAGE = "usage"
    COST = "cost"


@dataclass(frozen=True, slots=True)
class BillPlace:
    """Where a figure belongs; `None` where the file does not tell, or does not tell apart."""

    day: date
    model: str | None
    tier: str | None
    geography: str | None
    kind: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the provider's. `slack` is how far rounding may have moved it."""

    measure: Measure
    place: BillPlace
    amount: Fraction
    slack: Fraction = Fraction(0)


@dataclass(slots=True)
class Theirs:
    """All files together.

    `files` are name and sha256 of each. `covered` is, by measure and day, how many microseconds
    of the day the files speak of; `unfinished` names files that say there is a further page.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    covered: dict[tuple[Measure, date], int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)

    def days(self, measure: Measure) -> set[date]:
        """The days that the files speak of at all."""
        return {day for of, day in self.covered if of is measure}

    def is_whole(self, measure: Measure, day: date) -> bool:
        """Whether the files hold all of a day."""
        return self.covered.get((measure, day), 0) >= DAY_US and not self.unfinished

    def cover(self, measure: Measure, first: date, last: date) -> None:
        """Take note of whole days, both included."""
        for number in range((last - first).days + 1):
            self.covered[measure, first + timedelta(days=number)] = DAY_US


def canonical_model(name: str | None) -> str | None:
    """The plain id: `Claude Haiku 4.5` and dated snapshots as `claude-haiku-4-5`."""
    if not name or name.lower() in {"none", "null"}:
        return None
    plain, _ = normalise(name.strip().lower().replace(" ", "-"))
    return plain


def canonical_place(name: str | None) -> str | None:
    """The geography; older models report none, which is everywhere."""
    return "global" if name == "not_available" else name or None
