"""From charges to FOCUS rows: one per meter used; exact, in the order of time."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any, Final

import msgspec

from batcher.clock import moment_of
from batcher.finance.focus import columns
from batcher.finance.focus.columns import Grain
from batcher.ledger.money.adjustments import Adjustment
from batcher.pricing.money import PRICED_PER, decimal_text, rate_text, usd_text
from batcher.pricing.rate.public_prices import public_rates
from batcher.pricing.rate.rates import RateSet
from batcher.pricing.rate.rating import ChargeStatus
from batcher.report.figures import USD
from batcher.report.ledgers import Ledgers, OpenLedger
from batcher.report.views.meters import HOUR, OWN_KEY, USAGE_LINE, read_meters

_HOUR_US: Final = 3_600_000_000
_HOURS_PER_DAY: Final = 24
FocusRow = dict[str, str | None]


@dataclass(slots=True)
class LeftOut:
    """Charges that have no amount, and so no row: unpriced ones, and those that are free."""

    unpriced: int = 0
    unbilled: int = 0


@dataclass(slots=True, kw_only=True)
class Charged:
    """What becomes up to six rows, of which the bill may be `above` more.

    `hours` is the length of its period from hour `start`. With `own_key` a gateway got the
    answer with our key at the provider, which bills it.
    """

    start: int
    hours: int
    endpoint: str
    run: int
    job: str | None
    tags: Mapping[str, str]
    place: str
    workspace: str | None
    key: str | None
    own_key: bool
    rates: RateSet
    status: str
    book: str
    rating_id: int
    quantities: list[int]
    amounts: list[int]
    above: int
    request: Mapping[str, Any] = field(default_factory=dict)

    @property
    def order(self) -> tuple[Any, ...]:
        """Time first, then everything that tells two apart."""
        return (self.start, *self.identity)

    @property
    def identity(self) -> tuple[Any, ...]:
        """Equal for charges that are one row."""
        rates, tags = self.rates, tuple(sorted(self.tags.items()))
        return (self.place, self.endpoint, self.workspace or "", self.key or "", self.own_key,
                self.run, tags,
                rates.model, rates.terms,
                rates.price_list, rates.valid_from, rates.rates, rates.currency, self.status,
                self.book, self.rating_id)  # fmt: skip


def focus_rows(
    ledgers: Ledgers, grain: Grain, account: str | None, left_out: LeftOut
) -> Iterator[FocusRow]:
    """The rows, all values as text, `None` for null. `left_out` counts what has no row.

    At the grain of requests they come as they are read, at the others they are few.
    """
    if grain is Grain.REQUEST:
        for ledger in ledgers.each:
            for charged in _charged(ledger, grain, left_out):
                yield from _rows(charged, account)
        return
    sums: dict[tuple[Any, ...], Charged] = {}
    for ledger in ledgers.each:
        for charged in _charged(ledger, grain, left_out):
            _add(sums.setdefault(charged.order, charged), charged)
    for order in sorted(sums, key=lambda order: (order[0], *map(str, order[1:]))):
        yield from _rows(sums[order], account)


def adjustment_rows(ledgers: Ledgers, account: str | None) -> Iterator[FocusRow]:
    """What was billed beside the charges, a row an entry: so the file adds up to the bill."""
    for entry in ledgers.entries():
        at = entry.residual.place
        start = datetime.fromisoformat(f"{at.day}T00:00:00+00:00")
        cost = _number(usd_text(entry.amount))
        kind, model = at.kind.replace("_", " "), at.model or "all models"
        yield {
            **_period(start, _HOURS_PER_DAY),
            **_parties(entry.endpoint, account, USD, own_key=False),
            **dict.fromkeys(
                ("BilledCost", "ContractedCost", "EffectiveCost", "ListCost"), cost
            ),
            "ChargeCategory": "Credit" if at.kind == "credit" else "Adjustment",
            "ChargeDescription": f"{kind} of {model}: {entry.residual.cause}",
            "ChargeFrequency": "One-Time",
            "PricingCurrencyEffectiveCost": cost,
            **_metered_elsewhere(entry),
        }


def _metered_elsewhere(entry: Adjustment) -> FocusRow:
    """Use that no answer tells of and the provider bills by the hour: hours of containers."""
    if entry.residual.place.kind != columns.CODE_EXECUTION or entry.amount <= 0:
        return {}
    hours = _number(decimal_text(Fraction(entry.amount, columns.CONTAINER_HOUR)))
    price = _number(usd_text(columns.CONTAINER_HOUR))
    return {
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "ConsumedQuantity": hours,
        "ConsumedUnit": "Hours",
        **dict.fromkeys(
            ("ContractedUnitPrice", "ListUnitPrice", "PricingCurrencyContractedUnitPrice",
             "PricingCurrencyListUnitPrice"), price,
        ),
        "PricingCategory": "Standard",
        "PricingQuantity": hours,
        "PricingUnit": "Hours",
        "SkuId": f"{entry.endpoint}:{columns.CODE_EXECUTION}",
        "SkuMeter": "Code Execution",
        "SkuPriceId": f"{entry.endpoint}:{columns.CODE_EXECUTION}:hour",
        "x_CostStatus": "recorded",
    }  # fmt: skip


def _parties(endpoint: str, account: str | None, currency: str, *, own_key: bool) -> FocusRow:
    """Who is paid for what service, by whom, in which currency."""
    seller = columns.seller(endpoint)
    who = f"{seller} (own key)" if own_key else seller
    return {
        "BillingAccountId": account or endpoint,
        "BillingAccountName": account or seller,
        "BillingAccountType": "Organization",
        "BillingCurrency": currency,
        "InvoiceIssuerName": who,
        "PricingCurrency": currency,
        "ProviderName": who,
        "ServiceProviderName": who,
        "HostProviderName": who,
        "PublisherName": seller,
        "ServiceCategory": "AI and Machine Learning",
        "ServiceName": "Claude API" if seller == "Anthropic" else f"{seller} Messages API",
        "ServiceSubcategory": "Generative AI",
        "x_Endpoint": endpoint,
    }


def _period(start: datetime, hours: int) -> FocusRow:
    month = start.replace(day=1, hour=0)
    return {
        "BillingPeriodStart": _time(month),
        "BillingPeriodEnd": _time((month + timedelta(days=31)).replace(day=1)),
        "ChargePeriodStart": _time(start),
        "ChargePeriodEnd": _time(start + timedelta(hours=hours)),
        "InvoiceId": f"provisional-{month:%Y-%m}",
    }


def _add(sums: Charged, other: Charged) -> None:
    if sums is other:
        return
    for meter, (quantity, amount) in enumerate(
        zip(other.quantities, other.amounts, strict=True)
    ):
        sums.quantities[meter] += quantity
        sums.amounts[meter] += amount
    sums.above += other.above


def _charged(ledger: OpenLedger, grain: Grain, left_out: LeftOut) -> Iterator[Charged]:
    one_by_one = grain is Grain.REQUEST
    groups = read_meters(
        ledger,
        {**HOUR, **OWN_KEY, **(USAGE_LINE if one_by_one else {})},
        order=("attempt_id", "line") if one_by_one else (),
    )
    hours = _HOURS_PER_DAY if grain is Grain.DAY else 1
    for group in groups:
        if group.rates is None or group.rating_id is None:
            left_out.unbilled += group.charges if group.status == "unbilled" else 0
            left_out.unpriced += group.charges if group.status != "unbilled" else 0
            continue
        hour = int(group.row["hour"])
        about = ledger.names.invocations[group.row["invocation_id"]]
        yield Charged(
            start=hour - hour % hours,
            hours=hours,
            endpoint=about.endpoint,
            run=about.run,
            job=about.job,
            tags=about.tags,
            place=ledger.place,
            workspace=None if group.key[0] is None else str(group.key[0]),
            key=about.key_fingerprint,
            own_key=bool(group.row["own_key"]),
            rates=group.rates,
            status=group.status or "",
            book=ledger.names.price_books[group.rating_id],
            rating_id=group.rating_id,
            quantities=list(group.quantities),
            amounts=list(group.amounts),
            above=group.above,
            request=dict(group.row) if one_by_one else {},
        )


def _rows(charged: Charged, account: str | None) -> Iterator[FocusRow]:
    """The first tells what the charge may be above all of them; there is one if that is so."""
    about = _about(charged, account)
    used = [meter for meter, quantity in enumerate(charged.quantities) if quantity]
    assumed = charged.status == ChargeStatus.ASSUMED
    for number, meter in enumerate(used or ([0] if charged.above else [])):
        row = {**about, **_meter(charged, meter, charged.quantities[meter])}
        if assumed:
            row["x_AssumedAbove"] = _number(usd_text(0 if number else charged.above))
        yield row


def _about(charged: Charged, account: str | None) -> FocusRow:
    """What all meters of a charge have in common."""
    start = moment_of(charged.start * _HOUR_US)
    rates = charged.rates
    terms = columns.terms_of(rates)
    parties = _parties(charged.endpoint, account, rates.currency, own_key=charged.own_key)
    return {
        **_period(start, charged.hours),
        **parties,
        "ChargeCategory": "Usage",
        "ChargeFrequency": "Usage-Based",
        "PricingCategory": "Standard",
        "PublisherName": columns.publisher(rates.model) or parties["PublisherName"],
        "RegionId": terms.place,
        "RegionName": terms.place and terms.place.upper(),
        **_sub_account(charged),
        "Tags": _tags(charged),
        "x_CostStatus": charged.status,
        "x_Job": charged.job,
        "x_PriceBookVersion": charged.book,
        "x_RatingId": str(charged.rating_id),
        "x_RunId": str(charged.run),
        "x_ServiceTier": terms.service_tier,
        **_request(charged.request),
    }


def _sub_account(charged: Charged) -> FocusRow:
    """The workspace that the provider named, else the key, as the salted hash of it."""
    account = charged.workspace or charged.key
    kind = "Workspace" if charged.workspace else "API Key"
    return {
        "SubAccountId": account,
        "SubAccountName": account,
        "SubAccountType": kind if account else None,
        "x_KeyFingerprint": charged.key,
    }


def _request(row: Mapping[str, Any]) -> FocusRow:
    if not row:
        return {}
    return {
        "x_CustomId": row["custom_id"],
        "x_MessageId": row["message_id"],
        "x_SentAt": moment_of(row["sent_at"]).isoformat().replace("+00:00", "Z"),
        "x_StopReason": row["end_reason"],
        "x_ReportedByProvider": row["reported_cost"],
        "x_UsageLine": str(row["line"]),
    }


def _meter(charged: Charged, meter: int, quantity: int) -> FocusRow:
    rates, endpoint = charged.rates, charged.endpoint
    rate = rates.rates[meter] or 0
    listed, standard = _list_rates(rates, meter, charged.start // _HOURS_PER_DAY)
    price, cost = _number(rate_text(rate, meter)), _number(usd_text(charged.amounts[meter]))
    list_price = _number(rate_text(listed, meter))
    name = columns.meter_name(meter)
    return {
        "BilledCost": cost,
        "ChargeDescription": f"{name} of {rates.model}, {rates.terms}",
        "ConsumedQuantity": _number(str(quantity)),
        "ConsumedUnit": columns.consumed_unit(meter),
        "ContractedCost": cost,
        "ContractedUnitPrice": price,
        "EffectiveCost": cost,
        "ListCost": _number(usd_text(listed * quantity)),
        "ListUnitPrice": list_price,
        "PricingCurrencyContractedUnitPrice": price,
        "PricingCurrencyEffectiveCost": cost,
        "PricingCurrencyListUnitPrice": list_price,
        "PricingQuantity": _number(decimal_text(Fraction(quantity, PRICED_PER[meter]))),
        "PricingUnit": columns.pricing_unit(meter),
        "SkuId": columns.sku_id(endpoint, rates, meter),
        "SkuMeter": name,
        "SkuPriceDetails": columns.sku_price_details(rates, meter),
        "SkuPriceId": columns.sku_price_id(endpoint, rates, meter),
        "x_StandardListCost": _number(usd_text(standard * quantity)),
    }


def _list_rates(rates: RateSet, meter: int, day: int) -> tuple[int, int]:
    """The public price on that day under the same terms, and at standard processing.

    What we paid stands in for both where there is no public price in the currency.
    """
    own = rates.rates[meter] or 0
    found = []
    for at_standard in (False, True):
        public = public_rates(rates, day, at_standard=at_standard)
        listed = None if public is None else public.rates[meter]
        found.append(own if listed is None else listed)
    return found[0], found[1]


def _tags(of: Charged) -> str:
    tags = {"run": str(of.run), **({"job": of.job} if of.job else {}), **of.tags}
    return msgspec.json.encode(dict(sorted(tags.items()))).decode()


def _time(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _number(text: str) -> str:
    """With a decimal point always, by which readers of CSV know a decimal column."""
    return text if "." in text else f"{text}.0"
