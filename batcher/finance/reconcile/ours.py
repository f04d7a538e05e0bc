"""The ledger's figures by day, model, tier, geography and kind, as the provider counts them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Final

from sqlalchemy import Engine

from batcher.errors import UsageError
from batcher.finance.reconcile.theirs import (
    BillPlace,
    canonical_model,
    canonical_place,
)
from batcher.ledger.money.adjustments import Adjustment, read_adjustments
from batcher.pricing.money import METERS
from batcher.pricing.rate.rates import calendar_day
from batcher.report.figures import USD
from batcher.report.ledgers import Ledgers, open_ledgers
from batcher.report.query import Dimension, Kind, ReportQuery
from batcher.report.summary import summarise
from batcher.report.views.meters import HOUR, TERMS, MeterGroup, read_meters

_HOURS_PER_DAY: Final = 24


@dataclass(slots=True)
class Amounts:
    """What the ledger has for one place. Amounts are pico-USD, `rates` per unit.

    `unbilled` is the usage of refusals before output, which is in `used` neither; `unpriced`
    is usage without an amount, which is in `used`.
    """

    used: int = 0
    unbilled: int = 0
    unpriced: int = 0
    amount: int = 0
    rates: set[int] = field(default_factory=set)

    def add(self, other: "Amounts") -> None:
        """Take up another place's."""
        self.used += other.used
        self.unbilled += other.unbilled
        self.unpriced += other.unpriced
        self.amount += other.amount
        self.rates |= other.rates


@dataclass(frozen=True, slots=True)
class Doubt:
    """Attempts in doubt of a day and model; `high` is `None` when unbounded."""

    attempts: int
    low: int
    high: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFigures:
    """All of the ledger: by place, what is in doubt by day and model, whose it is.

    `recorded` are the adjustments so far, in pico-USD; `newest` is the newest of each ledger.
    """

    places: dict[BillPlace, Amounts]
    recorded: dict[BillPlace, int]
    newest: tuple[int, ...]
    doubts: dict[tuple[date, str | None], Doubt]
    endpoint: str | None
    simulated: bool


def read_ours(engines: Sequence[Engine], endpoint: str | None) -> LedgerFigures:
    """Everything sent to `endpoint`, `None` for the only one there is.

    Raises `UsageError` when there are several, or none of that name.
    """
    with open_ledgers(engines, ReportQuery(by=(Dimension(Kind.ENDPOINT),))) as ledgers:
        places: dict[str, dict[BillPlace, Amounts]] = {}
        for ledger in ledgers.each:
            for group in read_meters(ledger, {**HOUR, **TERMS}):
                _add(places.setdefault(str(group.key[0]), {}), group)
        chosen = _chosen(ledgers, endpoint)
        entries = [read_adjustments(each.connection) for each in ledgers.opened]
    return LedgerFigures(
        places=places.get(chosen or "", {}),
        recorded=_recorded(entries, chosen, simulated=ledgers.simulated_only),
        newest=tuple(max((e.adjustment_id for e in each), default=0) for each in entries),
        doubts=_doubts(engines, chosen),
        endpoint=chosen,
        simulated=ledgers.simulated_only,
    )


def _chosen(ledgers: Ledgers, endpoint: str | None) -> str | None:
    names = {
        each.endpoint
        for ledger in ledgers.each
        for each in ledger.names.invocations.values()
        if ledgers.simulated_only or not each.simulated
    }
    known = ", ".join(sorted(names))
    if endpoint is not None and endpoint not in names:
        raise UsageError(
            f"nothing was sent to endpoint {endpoint!r}: there are {known or 'none'}"
        )
    if endpoint is None and len(names) > 1:
        raise UsageError(f"there are several endpoints: choose one with --endpoint, of {known}")
    return endpoint or next(iter(names), None)


def _recorded(
    entries: Sequence[Sequence[Adjustment]], endpoint: str | None, *, simulated: bool
) -> dict[BillPlace, int]:
    found: dict[BillPlace, int] = {}
    for entry in (entry for each in entries for entry in each):
        if entry.endpoint == endpoint and entry.simulated == simulated:
            at = entry.residual.place
            day = date.fromisoformat(at.day)
            place = BillPlace(day, at.model, at.tier, at.geography, at.kind)
            found[place] = found.get(place, 0) + entry.amount
    return {place: amount for place, amount in found.items() if amount}


def _add(places: dict[BillPlace, Amounts], group: MeterGroup) -> None:
    if group.currency not in {None, USD}:
        return
    row = group.row
    for meter, quantity in enumerate(group.quantities):
        if not quantity:
            continue
        place = BillPlace(
            calendar_day(int(row["hour"]) // _HOURS_PER_DAY),
            canonical_model(group.rates.model if group.rates else group.model),
            row["service_tier"] or "standard",
            canonical_place(row["inference_geo"]) or "global",
            METERS[meter],
        )
        places.setdefault(place, Amounts()).add(_amounts(group, meter))


def _amounts(group: MeterGroup, meter: int) -> Amounts:
    quantity = group.quantities[meter]
    if group.status == "unbilled":
        return Amounts(unbilled=quantity)
    if group.rates is None:
        return Amounts(used=quantity, unpriced=quantity)
    rate = group.rates.rates[meter]
    return Amounts(quantity, 0, 0, group.amounts[meter], set() if rate is None else {rate})


def _doubts(
    engines: Sequence[Engine], endpoint: str | None
) -> dict[tuple[date, str | None], Doubt]:
    by = (Dimension(Kind.DAY), Dimension(Kind.MODEL), Dimension(Kind.ENDPOINT))
    found: dict[tuple[date, str | None], Doubt] = {}
    for line in summarise(engines, ReportQuery(by=by)).lines:
        counts, (day, model, where) = line.counts, line.key
        if counts.in_doubt_attempts and where == endpoint:
            key = (date.fromisoformat(str(day)), canonical_model(str(model or "")))
            high = None if counts.in_doubt_unbounded else counts.in_doubt_high
            found[key] = Doubt(counts.in_doubt_attempts, counts.in_doubt_low, high)
    return found
