"""Three costs beside each other: the public price, what was charged, what providers stated."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, Final

from sqlalchemy import RowMapping, Select, and_, case, func

from batcher.ledger.schema import answers, charges
from batcher.messages.evidence import own_key
from batcher.pricing.money import PICO
from batcher.pricing.rate.public_prices import (
    amount_at,
    public_book,
    public_rates,
)
from batcher.report.figures import USD, Key
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.scope import answer_keys, answers_with_charges
from batcher.report.table import Cell, Field, Table, Unit, currency_field
from batcher.report.views.frame import table_by_currency
from batcher.report.views.meters import HOUR, MeterGroup, prompt_above, read_meters
from batcher.report.words import count_of

_HOURS_PER_DAY: Final = 24
_FIELDS: Final = (
    currency_field(),
    Field("list_cost", "List", Unit.MONEY),
    Field("cost", "Charged", Unit.MONEY),
    Field("cost_at_most", "At most", Unit.MONEY, in_narrow=False),
    Field("cost_less_list", "Charged less list", Unit.MONEY),
    Field("cost_less_list_share", "Of list", Unit.SHARE, in_narrow=False),
    Field("reported_answers", "Reported for", Unit.COUNT, in_narrow=False),
    Field("reported_cost", "Reported", Unit.MONEY),
    Field("cost_of_reported", "Charged for these", Unit.MONEY, in_narrow=False),
    Field("reported_less_cost", "Reported less charged", Unit.MONEY),
    Field("own_key_answers", "By own key", Unit.COUNT, in_narrow=False),
    Field("own_key_cost", "Billed by provider", Unit.MONEY, in_narrow=False),
)


@dataclass(slots=True)
class Costs:
    """Sums of one group and currency, in pico-units; differences are of what has both sides.

    `charged` is everything, `above` by how much what is assumed
    of it may be more, `charged_with_list` what also has a public price, `listed` that
    price. `reported` is what providers stated for `answers`; `reported_with_charge` and
    `charged_with_report` are of those answers whose every charge has a price in USD. Of
    `own_key` answers of a gateway `upstream` is what their providers bill, part of `reported`.
    """

    charged: int = 0
    above: int = 0
    listed: int = 0
    charged_with_list: int = 0
    charges_with_list: int = 0
    charges_without_list: int = 0
    answers: int = 0
    reported: Fraction = Fraction(0)
    reported_with_charge: Fraction = Fraction(0)
    charged_with_report: int = 0
    compared: int = 0
    own_key: int = 0
    upstream: Fraction = Fraction(0)

    def join(self, other: "Costs") -> None:
        """Take up all of another group."""
        for name in Costs.__slots__:
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass(slots=True)
class CostsFound:
    """The sums by key and currency, and what is in none of them.

    `fee_only` answers by an own key whose provider's bill the gateway does not tell; `zero`
    ones that it states as 0, and that have another cost or none here.
    """

    groups: dict[tuple[Key, str], Costs]
    unpriced: int = 0
    unreadable: int = 0
    fee_only: int = 0
    zero: int = 0

    def at(self, key: Key, currency: str) -> Costs:
        """The sums of a group."""
        return self.groups.setdefault((key, currency), Costs())


def costs_table(ledgers: Ledgers) -> Table:
    """A row per group and currency."""
    found = read_costs(ledgers)
    return table_by_currency(ledgers, "costs", _FIELDS, found.groups, _cells, _said(found))


def read_costs(ledgers: Ledgers) -> CostsFound:
    """All three costs; what providers reported is read answer by answer, as exact decimals."""
    found = CostsFound({})
    sizes = prompt_above(public_book())
    for ledger in ledgers.each:
        for group in read_meters(ledger, {**HOUR, "prompt_above": sizes}):
            _take_charged(found, group)
        for key, row in _reported(ledger):
            _take_reported(found, key, row)
    return found


def _take_charged(found: CostsFound, group: MeterGroup) -> None:
    if group.currency is None:
        found.unpriced += 0 if group.status == "unbilled" else group.charges
        return
    listed = _listed(group)
    costs = found.at(group.key, group.currency)
    costs.charged += group.amount
    costs.above += group.above
    if listed is None:
        costs.charges_without_list += group.charges
        return
    costs.charges_with_list += group.charges
    costs.charged_with_list += group.amount
    costs.listed += listed


def _listed(group: MeterGroup) -> int | None:
    """What the group costs in public, `None` where nobody knows."""
    if group.rates is None:
        return None
    day, above = int(group.row["hour"]) // _HOURS_PER_DAY, int(group.row["prompt_above"])
    return amount_at(public_rates(group.rates, day, above), group.quantities)


def _take_reported(found: CostsFound, key: Key, row: RowMapping) -> None:
    stated = exact_usd(row["provider_reported_cost"])
    if stated is None:
        found.unreadable += 1
        return
    costs, own = found.at(key, USD), own_key(row["raw_usage"])
    if own is not None:
        costs.own_key += 1
        upstream = exact_usd(own.upstream or "")
        if upstream is None:  # the fee of a gateway is not what an answer cost
            found.fee_only += 1
            return
        costs.upstream += upstream
        stated += upstream
    elif not stated and (row["others"] or row["charged"]):
        found.zero += 1  # what a gateway bills, or knows no price of, is not free of charge
        return
    costs.answers += 1
    costs.reported += stated
    if not row["others"]:
        costs.compared += 1
        costs.reported_with_charge += stated
        costs.charged_with_report += int(row["charged"] or 0)


def exact_usd(text: str) -> Fraction | None:
    """Pico-USD of a cost as a provider wrote it, `1.5e-05` too; `None` for what is no cost."""
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    # An exponent of a thousand digits is no price, and must not fill the memory.
    if not number.is_finite() or number < 0 or not -_DIGITS <= number.adjusted() <= _DIGITS:
        return None
    return Fraction(number) * PICO


_DIGITS: Final = 30


def _reported(ledger: OpenLedger) -> Iterator[tuple[Key, RowMapping]]:
    for row in ledger.rows(_answers_with_report(ledger)):
        yield ledger.key(row), row


def _answers_with_report(ledger: OpenLedger) -> Select[Any]:
    """By answer: what was reported and charged, and how many of its charges are not USD."""
    query = ledger.scope.query
    keys = {
        **answer_keys(query),
        "answer": answers.c.attempt_id,
        "provider_reported_cost": answers.c.provider_reported_cost,
    }
    free = charges.c.status == "unbilled"
    in_usd = and_(charges.c.currency == USD, charges.c.total_amount.is_not(None))
    others = case((free, 0), (in_usd, 0), else_=1)
    return (
        answers_with_charges(ledger.scope)
        .where(answers.c.provider_reported_cost.is_not(None))
        .add_columns(
            *(column.label(name) for name, column in keys.items()),
            func.sum(others).label("others"),
            func.sum(charges.c.total_amount).label("charged"),
            func.max(answers.c.usage).label("raw_usage"),
        )
        .group_by(*keys.values())
    )


def _cells(costs: Costs, currency: str) -> tuple[Cell, ...]:
    less = costs.charged_with_list - costs.listed
    listed = costs.listed if costs.charges_with_list else None
    compared = costs.charged_with_report if costs.compared else None
    return (
        currency,
        listed,
        costs.charged,
        costs.charged + costs.above,
        None if listed is None else less,
        Fraction(less, listed) if listed else None,
        costs.answers or None,
        costs.reported if costs.answers else None,
        compared,
        None if compared is None else costs.reported_with_charge - compared,
        costs.own_key or None,
        costs.upstream if costs.upstream else None,
    )


def _said(found: CostsFound) -> tuple[str, ...]:
    without = sum(costs.charges_without_list for costs in found.groups.values())
    answered = sum(costs.answers for costs in found.groups.values())
    alone = answered - sum(costs.compared for costs in found.groups.values())
    said = [
        f"List is the public price ({public_book().version}) of the day, terms, geography and"
        " prompt size; charged is what the prices of this ledger made, at"
        " least and, where something is assumed, at most; reported is what"
        " providers stated with their answers, read as USD. Differences are of what has both.",
        "" if answered or found.fee_only or found.zero else "No provider reported a cost.",
        *_of_gateways(found),
        f"Without a public price: {count_of(without, 'charge')}." if without else "",
        f"Reported and not compared: {count_of(alone, 'answer')} without a price in USD here."
        if alone
        else "",
        f"Reported, and no amount: {count_of(found.unreadable, 'answer')}."
        if found.unreadable
        else "",
        f"Without a price here: {count_of(found.unpriced, 'charge')}."
        if found.unpriced
        else "",
    ]
    return tuple(sentence for sentence in said if sentence)


def _of_gateways(found: CostsFound) -> tuple[str, ...]:
    """What a cost means that is not all that is to be paid."""
    own = sum(costs.own_key for costs in found.groups.values())
    said = (
        (own, "By an own key at the provider: {}. The gateway states its fee and, beside it,"
              " what the provider bills; reported is both."),
        (found.fee_only, "By an own key, and the provider's bill not stated: {}, not in what is"
                         " reported."),
        (found.zero, "Reported as 0: {} with another cost here, or none. It is not taken as"
                     " free of charge, and is not in what is reported."),
    )  # fmt: skip
    return tuple(text.format(count_of(n, "answer")) for n, text in said if n)
