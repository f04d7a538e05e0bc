"""Ours and theirs place by place: the lines that are compared.

Differences may make up for each other: the same amount stands in another place. Their figures
are read from saved files, or fetched from the provider's reports of the ledger's days.
"""

import codecs
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.finance.reconcile.cause import Line, is_settled
from batcher.finance.reconcile.ours import Amounts, Doubt, LedgerFigures, read_ours
from batcher.finance.reconcile.provider_files import read_csv, read_json
from batcher.finance.reconcile.theirs import BillPage, BillPlace, Measure, Theirs, together
from batcher.pricing.money import METERS

if TYPE_CHECKING:
    from batcher.transport.live.listings import Days

_OTHER: Final = {"cache_write_5m": "cache_write_1h", "cache_write_1h": "cache_write_5m"}
_DAY: Final = timedelta(days=1)


def relate(lines: Mapping[BillPlace, Line], workspaces: Sequence[str]) -> None:
    """Say of each line that does not agree where its opposite stands, if it does."""
    open_lines = [line for line in lines.values() if not is_settled(line)]
    for line in open_lines:
        line.elsewhere = next(
            (
                words
                for words, place in _places(line.place, lines)
                if place in lines and _opposite(line, lines[place])
            ),
            "",
        )
    ours = [line for line in lines.values() if line.ours_used or line.ours_cost]
    if workspaces and ours and all(_only_ours(line) for line in ours):
        for line in open_lines:
            line.elsewhere = f"workspace: theirs {', '.join(workspaces)}"


def _places(
    place: BillPlace, lines: Mapping[BillPlace, Line]
) -> Iterator[tuple[str, BillPlace]]:
    """Where the opposite may stand, the likeliest first."""
    if other := _OTHER.get(place.kind):
        yield f"lifetime: {other.replace('_', ' ')}", replace(place, kind=other)
    for name, word in (("tier", "tier"), ("geography", "geography")):
        for value in {getattr(each, name) for each in lines} - {getattr(place, name)}:
            yield f"{word}: {value or 'none'}", replace(place, **{name: value})
    for day in (place.day - _DAY, place.day + _DAY):
        yield f"midnight: {day}", replace(place, day=day)


def _opposite(one: Line, other: Line) -> bool:
    used = one.used_difference, other.used_difference
    if used[0] or used[1]:
        return used[0] == -used[1] != 0
    cost = one.cost_difference, other.cost_difference
    return cost[0] != 0 and abs(cost[0] + cost[1]) <= one.slack + other.slack


def _only_ours(line: Line) -> bool:
    return not line.theirs_used and not (line.theirs_cost or Fraction(0))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A report that was fetched: where from, JSON, and what it counts, if it has no result."""

    name: str
    content: bytes
    measure: Measure


def read_theirs(names: Iterable[str], fetched: Iterable[Fetched] = ()) -> Theirs:
    """All of the files and what was fetched; what several have counts once.

    Raises `UsageError` for a file that is missing, is none of the known shapes, is wrong in a
    place that is named, is given twice, or differs from another about the same.
    """
    pages: list[BillPage] = []
    files: list[tuple[str, str]] = []
    known = dict[bytes, str]()
    for name in names:
        content = _content(name)
        if content in known:
            raise UsageError(f"{name} and {known[content]} are the same: each counts once")
        known[content] = name
        files.append((Path(name).name, hashlib.sha256(content).hexdigest()))
        text = _as_utf8(content)
        is_json = text.lstrip()[:1] in {b"{", b"["}
        pages += read_json(text, name) if is_json else [read_csv(text, name)]
    for report in fetched:
        for page in read_json(report.content, report.name):
            page.measure = page.measure or report.measure
            pages.append(page)
        files.append((report.name, hashlib.sha256(report.content).hexdigest()))
    found = together(pages)
    found.files = files
    return found


def _content(name: str) -> bytes:
    try:
        return Path(name).read_bytes()
    except FileNotFoundError as exc:
        raise UsageError(f"{name}: no such file") from exc
    except OSError as exc:
        raise UsageError(f"{name}: cannot be read: {exc.strerror}") from exc


def _as_utf8(content: bytes) -> bytes:
    """What shells of Windows save begins with a mark, or is UTF-16."""
    if not content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-16").encode()
    except UnicodeError:
        return content


@dataclass(frozen=True, slots=True)
class Comparison:
    """Both sides, and a line for each place that either has."""

    ours: LedgerFigures
    theirs: Theirs
    lines: tuple[Line, ...]

    @property
    def differing(self) -> tuple[Line, ...]:
        """The lines that do not agree."""
        return tuple(line for line in self.lines if not is_settled(line))

    @property
    def findings(self) -> int:
        """How many lines do not agree, and files that are not whole."""
        return len(self.differing) + len(self.theirs.unfinished)


def compare(
    engines: Sequence[Engine],
    names: Iterable[str],
    *,
    endpoint: str | None,
    fetch: Callable[[LedgerFigures], Iterable[Fetched]] = lambda _: (),
) -> Comparison:
    """Hold the ledgers against the provider's files; days that no file speaks of are left out.

    `fetch` gets what there is to compare, and gives reports beside the files. Raises
    `UsageError` for files and endpoints that will not do.
    """
    ours = read_ours(engines, endpoint)
    theirs = read_theirs(names, fetch(ours))
    return Comparison(ours, theirs, tuple(_lines(ours, theirs)))


def _lines(ours: LedgerFigures, theirs: Theirs) -> list[Line]:
    found: dict[BillPlace, Line] = {}
    for measure in Measure:
        mine = _ours_like(ours, theirs, measure)
        amounts, slack = _theirs_by_place(theirs, measure)
        for place in {*mine, *amounts}:
            line = found.setdefault(place, Line(place))
            line.take(measure, mine.get(place, Amounts()), amounts.get(place, Fraction(0)))
            if measure is Measure.COST:
                line.slack = slack.get(place) or theirs.rounded(measure, place.day)
            line.whole = line.whole and theirs.is_whole(measure, place.day)
    for place, amount in _recorded_like(ours, theirs).items():
        line = found.setdefault(
            place, Line(place, whole=theirs.is_whole(Measure.COST, place.day))
        )
        line.recorded = amount
        line.ours_cost, line.theirs_cost = line.ours_cost or 0, line.theirs_cost or Fraction(0)
    for place, line in found.items():
        line.doubt = _doubt(ours, place)
    relate(found, theirs.workspaces)
    return [found[place] for place in sorted(found, key=_order)]


def _theirs_by_place(
    theirs: Theirs, measure: Measure
) -> tuple[dict[BillPlace, Fraction], dict[BillPlace, Fraction]]:
    amounts: dict[BillPlace, Fraction] = {}
    slack: dict[BillPlace, Fraction] = {}
    for figure in theirs.figures:
        if figure.measure is measure:
            place = figure.place
            slack[place] = slack.get(place, Fraction(0)) + figure.slack
            if figure.amount:
                amounts[place] = amounts.get(place, Fraction(0)) + figure.amount
    return amounts, slack


def _ours_like(
    ours: LedgerFigures, theirs: Theirs, measure: Measure
) -> dict[BillPlace, Amounts]:
    """Ours of the days they speak of, told apart only as far as they do it for that kind."""
    days, like = theirs.days(measure), _Likeness(theirs, measure)
    found: dict[BillPlace, Amounts] = {}
    for place, amounts in ours.places.items():
        if place.day in days:
            found.setdefault(like.of(place), Amounts()).add(amounts)
    return found


def _recorded_like(ours: LedgerFigures, theirs: Theirs) -> dict[BillPlace, int]:
    """The adjustments of the days whose cost they speak of, told apart likewise."""
    days, like = theirs.days(Measure.COST), _Likeness(theirs, Measure.COST)
    found: dict[BillPlace, int] = {}
    for place, amount in ours.recorded.items():
        if place.day in days:
            at = like.of(place)
            found[at] = found.get(at, 0) + amount
    return {place: amount for place, amount in found.items() if amount}


class _Likeness:
    """Makes places as coarse as their files are."""

    def __init__(self, theirs: Theirs, measure: Measure) -> None:
        self._told = _told_apart(theirs, measure)
        self._everything = set().union(*self._told.values()) if self._told else set()

    def of(self, place: BillPlace) -> BillPlace:
        names = self._told.get(place.kind, self._everything)
        return BillPlace(
            place.day,
            place.model if "model" in names else None,
            place.tier if "tier" in names else None,
            place.geography if "geography" in names else None,
            place.kind,
        )


_TOLD: Final = ("model", "tier", "geography")


def _told_apart(theirs: Theirs, measure: Measure) -> dict[str, set[str]]:
    """By kind, which of model, tier and geography their files name."""
    found: dict[str, set[str]] = {}
    for figure in theirs.figures:
        if figure.measure is measure:
            names = {name for name in _TOLD if getattr(figure.place, name) is not None}
            found.setdefault(figure.place.kind, set()).update(names)
    return found


def _doubt(ours: LedgerFigures, place: BillPlace) -> Doubt | None:
    found = [
        doubt
        for (day, model), doubt in ours.doubts.items()
        if day == place.day and place.model in {None, model}
    ]
    if not found:
        return None
    highs = [doubt.high for doubt in found]
    return Doubt(
        sum(doubt.attempts for doubt in found),
        sum(doubt.low for doubt in found),
        None if None in highs else sum(filter(None, highs)),
    )


def _order(place: BillPlace) -> tuple[str, ...]:
    kinds = {kind: f"{number}" for number, kind in enumerate(METERS)}
    return (place.day.isoformat(), place.model or "~", place.tier or "~",
            place.geography or "~", kinds.get(place.kind, place.kind))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Fetcher:
    """Asks for the UTC days from `since` to before `until`, by default all of the ledger's.

    `config` names the config.toml that holds the endpoint; `say` is told of each wait.
    """

    since: str | None
    until: str | None
    config: str | None
    say: Callable[[str], object]

    def __call__(self, ours: LedgerFigures) -> Iterator[Fetched]:
        """Both reports. Raises `UsageError` where there is nothing to ask for."""
        from batcher.wiring.connecting import fetch_reports  # noqa: PLC0415 - saved files need none

        days = self._days(ours)
        if ours.endpoint is None:
            raise UsageError("this ledger holds nothing that was sent: there is nothing to ask")
        reports = fetch_reports(ours.endpoint, self.config, days, self.say)
        for (url, content), measure in zip(reports, Measure, strict=True):
            yield Fetched(url, content, measure)

    def _days(self, ours: LedgerFigures) -> "Days":
        from batcher.transport.live.listings import Days  # noqa: PLC0415 - as above

        known = {place.day for place in ours.places} | {day for day, _ in ours.doubts}
        first = _day(self.since) or min(known, default=None)
        until = _day(self.until) or max(known, default=date.min) + timedelta(days=1)
        if first is None or first >= until:
            raise UsageError("there is no day to ask for: check --since and --until")
        return Days(first, until)


def _day(text: str | None) -> date | None:
    try:
        return None if text is None else date.fromisoformat(text)
    except ValueError as exc:
        raise UsageError(f"{text!r:.40} is no day: write 2026-01-31") from exc
