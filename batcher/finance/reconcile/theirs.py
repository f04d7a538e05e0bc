"""The provider's own figures, and what two files that tell of the same time say together.

Amounts are exact; the API's are decimal text in **cents**, the Console's are dollars. What two
files have counts once, or both are refused.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from fractions import Fraction
from typing import Final

from batcher.clock import microseconds
from batcher.errors import UsageError
from batcher.pricing.book.book import normalise
from batcher.report.words import count_of

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


Key = tuple[str, tuple[tuple[str, str], ...], str]
ALL_KINDS = "all"


@dataclass(slots=True)
class _Told:
    """What one page says under one name in one bucket."""

    page: str
    figures: list[Figure] = field(default_factory=list)

    @property
    def amount(self) -> Fraction:
        return sum((each.amount for each in self.figures), Fraction(0))

    @property
    def slack(self) -> Fraction:
        return sum((each.slack for each in self.figures), Fraction(0))


_Family = dict[Key, _Told]  # of files that tell the same things apart


def together(pages: Sequence[BillPage]) -> Theirs:
    """All pages as one; raises `UsageError` where two contradict each other, naming both.

    A page without a result does not say what it counts: it is the report that is not there,
    of costs before usage.
    """
    found = Theirs()
    known = {page.measure for page in pages}
    missing = Measure.COST if Measure.COST not in known else Measure.USAGE
    for page in pages:
        if page.measure is None:
            page.measure = missing
    for measure in Measure:
        mine = [page for page in pages if page.measure is measure]
        _cover(measure, mine, found)
        for day, families in _families(mine, found).items():
            found.figures += _only(day, families, found)
    found.unfinished = [page.file for page in pages if page.has_more]
    return found


def _cover(measure: Measure, pages: Iterable[BillPage], found: Theirs) -> None:
    """How long of each day the pages speak of, each moment once."""
    spans = sorted({span for page in pages for span in page.covered})
    until: dict[date, int] = {}
    for day, start, end in spans:
        begin = max(start, until.get(day, start))
        until[day] = max(end, begin)
        key = (measure, day)
        found.covered[key] = found.covered.get(key, 0) + max(end - begin, 0)


def _families(
    pages: Sequence[BillPage], found: Theirs
) -> dict[date, dict[tuple[str, ...], _Family]]:
    days: dict[date, dict[tuple[str, ...], _Family]] = {}
    named = _names(pages)
    once: dict[tuple[str, str], int] = {}
    for page in pages:
        told: dict[tuple[date, Key], _Told] = {}
        for figure in page.figures:
            key = (figure.bucket, figure.told, figure.place.kind)
            told.setdefault((figure.place.day, key), _Told(page.name)).figures.append(figure)
        for (day, key), new in told.items():
            family = days.setdefault(day, {}).setdefault(named[page.file], {})
            before = family.setdefault(key, new)
            if before is not new:
                _same(before, new, day, key[2])
                once[before.page, new.page] = once.get((before.page, new.page), 0) + 1
    found.once += [f"{one} and {other} both have {count_of(count, 'figure')}: counted once."
                   for (one, other), count in once.items()]  # fmt: skip
    return days


def _names(pages: Sequence[BillPage]) -> dict[str, tuple[str, ...]]:
    """By file, how it is written and what it tells apart."""
    found: dict[str, set[str]] = {}
    for page in pages:
        names = found.setdefault(page.file, {page.form})
        names.update(name for figure in page.figures for name, _ in figure.told)
    return {file: tuple(sorted(names)) for file, names in found.items()}


def _same(one: _Told, other: _Told, day: date, kind: str) -> None:
    if not _is_rounding(one.amount - other.amount, one.slack + other.slack):
        raise UsageError(
            f"{one.page} and {other.page} differ about the same {kind.replace('_', ' ')} of"
            f" {day}: give the one that is right"
        )


def _only(day: date, families: dict[tuple[str, ...], _Family], found: Theirs) -> list[Figure]:
    """The figures of a day, from the files that tell most apart; the others say the same.

    Files of different kinds of cost have nothing in common, and add up.
    """
    kept: list[_Family] = []
    for family in sorted(families.values(), key=lambda each: -len(each)):
        like = next((each for each in kept if _share(each, family)), None)
        if like is None:
            kept.append(family)
            continue
        one, other = _pages(like), _pages(family)
        if not _agree(like, family):
            raise UsageError(
                f"{one} and {other} both tell of {day}, in other words and with other sums:"
                " give one of them, or reports that tell the same things apart"
            )
        found.once.append(f"{one} and {other} say the same of {day}: counted once.")
    return [figure for each in kept for told in each.values() for figure in told.figures]


def _share(one: _Family, other: _Family) -> bool:
    kinds, others = (
        {kind for (_, _, kind), told in family.items() if told.amount}
        for family in (one, other)
    )
    return ALL_KINDS in kinds | others or not kinds.isdisjoint(others)


def _pages(family: _Family) -> str:
    return ", ".join(sorted({told.page for told in family.values()}))


def _agree(one: _Family, other: _Family) -> bool:
    by_kind = all(key[2] != ALL_KINDS for family in (one, other) for key in family)
    sums: dict[str, list[Fraction]] = {}
    for sign, family in ((1, one), (-1, other)):
        for (_, _, kind), told in family.items():
            line = sums.setdefault(kind if by_kind else ALL_KINDS, [Fraction(0), Fraction(0)])
            line[0] += sign * told.amount
            line[1] += told.slack
    return all(_is_rounding(difference, slack) for difference, slack in sums.values())


def _is_rounding(difference: Fraction, slack: Fraction) -> bool:
    """Whether two prints of one amount may differ so; one of the last digit is a difference."""
    return not difference or abs(difference) < slack
