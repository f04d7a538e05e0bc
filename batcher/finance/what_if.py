"""The same tokens at other prices: another model, or the other lane."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from fractions import Fraction
from typing import Final

from sqlalchemy import Engine, select

from batcher.errors import UsageError
from batcher.ledger.schema import price_books, ratings
from batcher.pricing.book.book import PriceBook, parse_book
from batcher.pricing.rate.public_prices import amount_at
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, RateSet
from batcher.pricing.rate.rating import resolve
from batcher.report.figures import Key
from batcher.report.ledgers import Ledgers, OpenLedger, open_ledgers
from batcher.report.query import ReportQuery
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import table_by_currency
from batcher.report.views.meters import HOUR, MeterGroup, prompt_above, read_meters
from batcher.report.words import count_of

_LANES: Final = {"batch": BATCH, "live": STANDARD}
_HOURS_PER_DAY: Final = 24
_EPOCH: Final = date(1970, 1, 1)
_FIELDS: Final = (
    Field("charges", "Charges", Unit.COUNT, in_narrow=False),
    currency_field(),
    Field("cost", "Cost", Unit.MONEY),
    Field("cost_then", "Then", Unit.MONEY),
    Field("difference", "Difference", Unit.MONEY),
    Field("change", "Change", Unit.SHARE),
)


@dataclass(frozen=True, slots=True)
class Supposition:
    """What is to be different: the model, the lane ("batch" or "live"), or both."""

    model: str | None = None
    lane: str | None = None


@dataclass(slots=True)
class Supposed:
    """One group: what it cost and what it would have, of charges that have both prices."""

    charges: int = 0
    cost: int = 0
    then: int = 0

    def join(self, other: "Supposed") -> None:
        """Take up all of another group."""
        self.charges += other.charges
        self.cost += other.cost
        self.then += other.then


def parse_supposition(words: Sequence[str]) -> Supposition:
    """`model=NAME` and `lane=batch|live`; raises `UsageError` for anything else."""
    found: dict[str, str] = {}
    for word in words:
        name, sign, value = word.partition("=")
        if name in found:
            raise UsageError(f"--what-if {name}= is there twice: a charge has one {name}")
        wrong = name not in {"model", "lane"} or not sign or not value
        if wrong or (name == "lane" and value not in _LANES):
            raise UsageError(
                f"--what-if {word!r} is not known: write model=NAME, lane=batch or lane=live"
            )
        found[name] = value
    return Supposition(**found)


def what_if_table(engines: Sequence[Engine], query: ReportQuery, then: Supposition) -> Table:
    """What the same tokens would have cost, beside what they did cost, by the query's groups.

    Prices are those of the newest price book in each ledger, on the day of sending; a model
    that had none yet gets its first one. Only charges with both prices are compared; the others
    are told. Raises `UsageError` like `summarise`, and for a model that no price list has.
    """
    with open_ledgers(engines, query) as ledgers:
        return _table(ledgers, then)


def _table(ledgers: Ledgers, then: Supposition) -> Table:
    found: dict[tuple[Key, str], Supposed] = {}
    left_out = later = 0
    for ledger in ledgers.each:
        for group, amount, is_later in _supposed(ledger, then):
            later += group.charges if is_later else 0
            if amount is None or group.currency is None:
                left_out += group.charges
                continue
            sums = found.setdefault((group.key, group.currency), Supposed())
            sums.join(Supposed(group.charges, group.amount, amount))
    said = _said(then, left_out, later)
    table = table_by_currency(ledgers, "what_if", _FIELDS, found, _cells, said)
    supposed = (("what_if_model", then.model), ("what_if_lane", then.lane))
    return replace(table, query=(*table.query, *supposed))


def _supposed(
    ledger: OpenLedger, then: Supposition
) -> Iterator[tuple[MeterGroup, int | None, bool]]:
    """Each group with what it would have cost, and whether that price is of a later day."""
    book = _newest_book(ledger)
    if book is None:
        return
    if then.model is not None:
        _require_known(book, then.model)
    for group in read_meters(ledger, {**HOUR, "prompt_above": prompt_above(book)}):
        if group.status == "unbilled":
            continue
        if group.rates is None:
            yield group, None, False
            continue
        rates, is_later = _rates_then(book, group, group.rates, then)
        yield group, amount_at(rates, group.quantities), is_later


def _newest_book(ledger: OpenLedger) -> PriceBook | None:
    statement = (
        select(price_books.c.content, price_books.c.version)
        .join(ratings, ratings.c.price_book_id == price_books.c.price_book_id)
        .order_by(ratings.c.rating_id.desc())
        .limit(1)
    )
    row = ledger.connection.execute(statement).first()
    return None if row is None else parse_book(row.content, row.version)


def _require_known(book: PriceBook, model: str) -> None:
    if all(book.priced_model(name, model)[0] is None for name in book.lists):
        raise UsageError(
            f"--what-if model={model}: no price list of {book.version} has it; `batcher prices"
            " list` shows all"
        )


def _rates_then(
    book: PriceBook, group: MeterGroup, rates: RateSet, then: Supposition
) -> tuple[RateSet | None, bool]:
    terms, *rest = rates.terms.split("/")
    place = next((part for part in rest if not part.startswith(">")), None)
    if then.lane is not None and not (then.lane == "live" and terms == FAST):
        terms = _LANES[then.lane]
    variant = (BATCH, None, place) if terms == BATCH else (STANDARD, terms, place)
    model = then.model or rates.model
    day = int(group.row["hour"]) // _HOURS_PER_DAY
    found = resolve(book, rates.price_list, model, variant, day)
    is_later = found.reason == "no_price_on_day"
    if is_later:
        found = resolve(
            book,
            rates.price_list,
            model,
            variant,
            _first_day(book, rates.price_list, model, day),
        )
    for above, dearer in found.tiers:
        if int(group.row["prompt_above"]) >= above:
            return dearer, is_later
    return found.base, is_later and found.base is not None


def _first_day(book: PriceBook, price_list: str, model: str, day: int) -> int:
    """The next day after `day` on which the model has a price, `day` when there is none."""
    priced, _ = book.priced_model(price_list, model)
    starts = [
        (period.valid_from - _EPOCH).days
        for period in book.lists[price_list].periods
        if period.model == priced
    ]
    return min((start for start in starts if start > day), default=day)


def _cells(sums: Supposed, currency: str) -> tuple[Cell, ...]:
    difference = sums.then - sums.cost
    change = Fraction(difference, sums.cost) if sums.cost else None
    return (sums.charges, currency, sums.cost, sums.then, difference, change)


def _said(then: Supposition, left_out: int, later: int) -> tuple[str, ...]:
    supposed = ", ".join(
        f"{name}={value}"
        for name, value in (("model", then.model), ("lane", then.lane))
        if value
    )
    said = [f"Supposed: {supposed}, with the same tokens, at the prices of the day of sending."]
    if then.model:
        said.append(
            "Another model may cut the same text into other tokens and answer at other length."
        )
    if later:
        said.append(
            f"The model had no price yet when {count_of(later, 'charge')} arose: its first one"
            " was taken."
        )
    if left_out:
        said.append(f"Left out: {count_of(left_out, 'charge')} without a price on both sides.")
    return tuple(said)
