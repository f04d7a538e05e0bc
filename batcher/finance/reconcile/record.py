"""What is left over after reconciling, put into the ledger as adjustments; what is there."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Engine

from batcher.clock import moment_of
from batcher.errors import UsageError
from batcher.finance.reconcile.cause import Line, cause_of
from batcher.finance.reconcile.lines import Comparison
from batcher.finance.reconcile.theirs import Measure
from batcher.ledger.connect import reading
from batcher.ledger.money import adjustments as ledger
from batcher.ledger.money.adjustments import (
    Adjustment,
    Author,
    Reconciliation,
    Residual,
)
from batcher.pricing.money import LARGEST_AMOUNT, format_usd
from batcher.report.figures import USD
from batcher.report.ledgers import open_ledgers, shown
from batcher.report.query import ReportQuery
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.words import count_of, moment_text, safe_text

_FIELDS: Final = (
    Field("adjustment", "Number", Unit.COUNT),
    Field("day", "Day", Unit.TEXT),
    Field("model", "Model", Unit.TEXT),
    Field("tier", "Tier", Unit.TEXT, in_narrow=False),
    Field("geography", "Geography", Unit.TEXT, in_narrow=False),
    Field("kind", "Kind", Unit.TEXT),
    currency_field(),
    Field("amount", "Amount", Unit.MONEY),
    Field("cause", "Cause", Unit.TEXT),
    Field("recorded_at", "Recorded", Unit.TEXT, in_narrow=False),
    Field("recorded_by", "By", Unit.TEXT, in_narrow=False),
    Field("undoes", "Takes back", Unit.COUNT, in_narrow=False),
    Field("endpoint", "Endpoint", Unit.TEXT, in_narrow=False),
    Field("files_sha256", "Files (sha256)", Unit.TEXT, in_narrow=False),
)
_NONE_RECORDED: Final = "No adjustment was ever recorded here."


@dataclass(frozen=True, slots=True)
class Recorded:
    """Sentences about it, and how many differing lines there are still."""

    sentences: tuple[str, ...]
    differing: int


def record_residuals(engine: Engine, found: Comparison, author: Author) -> Recorded:
    """Put what costs differ by into the ledger of `engine`, which `found` was made from first.

    Lines are left out whose day is not over or not whole in the files, which look like another
    unit, or whose cost was not compared or agrees. Raises `UsageError` for files without costs,
    and `Busy` when somebody else recorded adjustments meanwhile.
    """
    days = _whole_days(found, author.at)
    if not found.theirs.days(Measure.COST):
        raise UsageError(
            "--record needs the provider's costs: give a cost report too, as JSON or CSV"
        )
    lines = [line for line in found.differing if _is_residual(line, days)]
    residuals = [_residual(line) for line in lines]
    ours = found.ours
    about = Reconciliation(
        author=author,
        endpoint=ours.endpoint or "",
        simulated=ours.simulated,
        days=days,
        files=tuple(found.theirs.files),
    )
    left = len(found.differing) - len(lines)
    if not days or (not residuals and _is_known(engine, about)):
        return Recorded((_NOTHING if not days else _NOTHING_NEW, *_left_out(left)), left)
    numbers = ledger.record(engine, about, residuals, newest=ours.newest[0])
    said = _recorded(residuals, numbers, days, shown(engine))
    return Recorded((said, *_left_out(left)), left)


def undo(engine: Engine, number: int, author: Author) -> str:
    """Take an entry back by a counter entry; what to say of it. Raises like `ledger.undo`."""
    entry = ledger.undo(engine, number, author)
    place = entry.residual.place
    return safe_text(
        f"Taken back: adjustment {entry.undoes}, {format_usd(-entry.amount)} of {place.day}"
        f" {place.model or 'all'} {_kind(place.kind)}, by adjustment {entry.adjustment_id}."
    )


def adjustments_table(engines: Sequence[Engine]) -> Table:
    """Every entry ever recorded, also those that were taken back; `undoes` says which."""
    with open_ledgers(engines, ReportQuery()) as ledgers:
        found = [e for each in ledgers.opened for e in ledger.read_adjustments(each.connection)]
    total = sum(entry.amount for entry in found)
    blanks: tuple[Cell, ...] = (
        None,
        "Total",
        "",
        "",
        "",
        "",
        USD,
        total,
        "",
        "",
        "",
        None,
        "",
        "",
    )
    return Table(
        name="adjustments",
        fields=_FIELDS,
        rows=tuple(map(_row, found)),
        totals=(blanks,) if found else (),
        sentences=() if found else (_NONE_RECORDED,),
    )


_NOTHING: Final = "Nothing was recorded: the files hold no whole day of costs that is over."
_NOTHING_NEW: Final = "Nothing was recorded: these files are known, and nothing is left over."


def _whole_days(found: Comparison, now_us: int) -> tuple[str, ...]:
    """The days that are over and that the files hold whole."""
    theirs, today = found.theirs, moment_of(now_us).date()
    return tuple(
        day.isoformat()
        for day in sorted(theirs.days(Measure.COST))
        if day < today and theirs.is_whole(Measure.COST, day)
    )


def _is_residual(line: Line, days: Sequence[str]) -> bool:
    """Whether money is left over that the files of a whole day speak of."""
    is_whole = line.whole and line.place.day.isoformat() in days
    return bool(line.cost_difference and is_whole and not cause_of(line).startswith("units"))


def _residual(line: Line) -> Residual:
    amount = round(line.cost_difference)
    if abs(amount) > LARGEST_AMOUNT:
        raise UsageError(
            f"{format_usd(amount)} of {line.place.day} is more than can be recorded"
        )
    at = line.place
    place = ledger.Place(at.day.isoformat(), at.model, at.tier, at.geography, at.kind)
    return Residual(place, amount, cause_of(line))


def _is_known(engine: Engine, about: Reconciliation) -> bool:
    with reading(engine) as connection:
        known = ledger.read_reconciliations(connection)
    return any(
        (each.endpoint, each.days, set(each.files))
        == (about.endpoint, about.days, set(about.files))
        for each in known
    )


def _recorded(
    residuals: Sequence[Residual], numbers: Sequence[int], days: Sequence[str], where: str
) -> str:
    total = format_usd(sum(each.amount for each in residuals))
    what = f"{count_of(len(residuals), 'adjustment')}, {total}, over" if residuals else "over"
    back = (
        f" `batcher reconcile --undo {numbers[0]}` takes the first one back." if numbers else ""
    )
    agree = "" if residuals else " the costs agree,"
    return safe_text(
        f"Recorded in {where}:{agree} {what} {count_of(len(days), 'whole day')} of costs.{back}"
    )


def _left_out(count: int) -> tuple[str, ...]:
    if not count:
        return ()
    return (
        f"Not recorded: {count_of(count, 'line')} of a day that is not over or not whole, in"
        " other units, or with a difference in tokens only.",
    )


def _kind(kind: str) -> str:
    return kind.replace("_", " ")


def _row(entry: Adjustment) -> tuple[Cell, ...]:
    at = entry.residual.place
    hashes = " ".join(sha256 for _, sha256 in entry.files)
    return (
        entry.adjustment_id, at.day, at.model or "all", at.tier or "all",
        at.geography or "all", _kind(at.kind), USD, entry.amount, entry.residual.cause,
        moment_text(entry.author.at), entry.author.name, entry.undoes, entry.endpoint, hashes,
    )  # fmt: skip
