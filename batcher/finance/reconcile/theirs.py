"""The provider's own figures, read from saved files: two reports as JSON, two exports as CSV.

Shapes: the usage report and the cost report of the Usage and Cost Admin API, one response or a
list of pages, and the Console's CSV exports. The API's amounts are decimal text
in **cents**, the Console's are dollars.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from batcher.clock import microseconds
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


Dimensions = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of the provider's. `slack` is how far rounding may have moved it.

    `bucket` is the time it is of, and `told` all that the file names beside it, as written.
    """

    measure: Measure
    place: BillPlace
    amount: Fraction
    slack: Fraction = Fraction(0)
    bucket: str
    told: Dimensions


@dataclass(slots=True, kw_only=True)
class BillPage:
    """One response or export. `measure` is `None` where it has no result at all.

    `name` is for people, `file` the file it stands in, `form` how that is written. `covered`
    are the parts of days that it speaks of, in microseconds since 1970.
    """

    name: str
    file: str
    form: str
    measure: Measure | None
    figures: list[Figure] = field(default_factory=list)
    covered: list[tuple[date, int, int]] = field(default_factory=list)
    has_more: bool = False

    def cover(self, start: datetime, end: datetime) -> None:
        """Take note of a time, day by day."""
        moment = start
        while moment < end:
            midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
            until = min(end, midnight + timedelta(days=1))
            self.covered.append((moment.date(), microseconds(moment), microseconds(until)))
            moment = until


@dataclass(slots=True)
class Theirs:
    """All files together.

    `files` are name and sha256 of each. `covered` is, by measure and day, how many microseconds
    of the day the files speak of; `unfinished` names files that say there is a further page,
    `once` says what several have and counts once.
    """

    files: list[tuple[str, str]] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    covered: dict[tuple[Measure, date], int] = field(default_factory=dict)
    unfinished: list[str] = field(default_factory=list)
    once: list[str] = field(default_factory=list)

    def days(self, measure: Measure) -> set[date]:
        """The days that the files speak of at all."""
        return {day for of, day in self.covered if of is measure}

    def is_whole(self, measure: Measure, day: date) -> bool:
        """Whether the files hold all of a day."""
        return self.covered.get((measure, day), 0) >= DAY_US and not self.unfinished

    def rounded(self, measure: Measure, day: date) -> Fraction:
        """How far a figure may be off that is not there: a file leaves out what rounds to 0."""
        slacks = [
            each.slack
            for each in self.figures
            if each.measure is measure and each.place.day == day
        ]
        return min(slacks, default=Fraction(0))

    @property
    def workspaces(self) -> tuple[str, ...]:
        """The workspaces that the files name."""
        names = ("workspace_id", "workspace")
        return tuple(
            sorted({word for each in self.figures for name, word in each.told if name in names})
        )


def canonical_model(name: str | None) -> str | None:
    """The plain id: `Claude Haiku 4.5` and dated snapshots as `claude-haiku-4-5`."""
    if not name or name.lower() in {"none", "null"}:
        return None
    plain, _ = normalise(name.strip().lower().replace(" ", "-"))
    return plain


_NOTHING: Final = frozenset({"", "none", "null"})


def told_of(fields: Mapping[str, object], beside: Collection[str]) -> Dimensions:
    """What a line names, sorted; `None`, empty and absent are one. `beside`: its numbers."""
    return tuple(
        sorted(
            (name, value)
            for name, each in fields.items()
            if name not in beside and (value := named(each)) is not None
        )
    )


def named(value: object) -> str | None:
    """A text that names something; `None`, empty and absent are one."""
    return value if isinstance(value, str) and value.lower() not in _NOTHING else None


def canonical_place(name: str | None) -> str | None:
    """The geography; older models report none, which is everywhere."""
    return "global" if name == "not_available" else named(name)
