"""The words of FOCUS: the columns of a file in their order, what 1.3 renames, and the SKUs.

There is one SKU per seller, model and meter.
"""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import msgspec

from batcher.pricing.money import METERS, PRICED_PER, WEB_SEARCH
from batcher.pricing.rate.rates import BATCH, FAST, STANDARD, RateSet


class Version(StrEnum):
    """The version of FOCUS whose names a file has."""

    V1_2 = "1.2"
    V1_3 = "1.3"


class Grain(StrEnum):
    """What one row sums up, for each meter: a usage line of an answer, an hour, a day."""

    REQUEST = "request"
    HOUR = "hour"
    DAY = "day"


# What FOCUS 1.2 requires of every cost and usage file.
MANDATORY: Final = (
    "BilledCost", "EffectiveCost", "ListCost", "ContractedCost", "BillingAccountId",
    "BillingAccountName", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd",
    "ChargePeriodStart", "ChargePeriodEnd", "ChargeCategory", "ChargeClass",
    "ChargeDescription", "InvoiceIssuerName", "ProviderName", "PublisherName",
    "ServiceCategory", "ServiceName", "PricingQuantity", "PricingUnit",
)  # fmt: skip

_COLUMNS: Final = (
    "BilledCost", "BillingAccountId", "BillingAccountName", "BillingAccountType",
    "BillingCurrency", "BillingPeriodEnd", "BillingPeriodStart", "ChargeCategory",
    "ChargeClass", "ChargeDescription", "ChargeFrequency", "ChargePeriodEnd",
    "ChargePeriodStart", "CommitmentDiscountStatus", "ConsumedQuantity", "ConsumedUnit",
    "ContractedCost", "ContractedUnitPrice", "EffectiveCost", "InvoiceId",
    "InvoiceIssuerName", "ListCost", "ListUnitPrice", "PricingCategory", "PricingCurrency",
    "PricingCurrencyContractedUnitPrice", "PricingCurrencyEffectiveCost",
    "PricingCurrencyListUnitPrice", "PricingQuantity", "PricingUnit", "ProviderName",
    "PublisherName", "RegionId", "RegionName", "ResourceId", "ServiceCategory",
    "ServiceName", "ServiceSubcategory", "SkuId", "SkuMeter", "SkuPriceDetails", "SkuPriceId",
    "SubAccountId", "SubAccountName", "SubAccountType", "Tags",
)  # fmt: skip
_OWN: Final = (
    "x_AssumedAbove", "x_CostStatus", "x_CustomId", "x_Endpoint", "x_Job", "x_KeyFingerprint",
    "x_MessageId", "x_PriceBookVersion", "x_RatingId", "x_ReportedByProvider", "x_RunId",
    "x_SentAt", "x_ServiceTier", "x_StandardListCost", "x_StopReason", "x_UsageLine",
)  # fmt: skip
# 1.3 splits the provider into who is paid and who runs the machines.
_RENAMED: Final = {"ProviderName": ("HostProviderName", "ServiceProviderName")}


def columns_of(version: Version) -> tuple[str, ...]:
    """The header of a file of that version."""
    if version is Version.V1_2:
        return (*_COLUMNS, *_OWN)
    named = [new for name in _COLUMNS for new in _RENAMED.get(name, (name,))]
    return (*sorted(named), *_OWN)


TOKENS: Final = "Tokens"
REQUESTS: Final = "Requests"
_NAMES: Final = (
    "Input Tokens",
    "Cache Write 5m Input Tokens",
    "Cache Write 1h Input Tokens",
    "Cache Read Input Tokens",
    "Output Tokens",
    "Web Searches",
)
# What the provider bills beside tokens, by the hour, and usage does not tell: pico-USD an hour.
CODE_EXECUTION: Final = "code_execution"
CONTAINER_HOUR: Final = 50_000_000_000
_CACHE_ACTIONS: Final = ("Uncached", "Write", "Write", "Read", None, None)
_LIFETIMES: Final = (None, "5m", "1h", None, None, None)
_CLAUDE: Final = re.compile(r"claude-([a-z]+)-(\d+)(?:-(\d+))?")
_SELLERS: Final = {"anthropic": "Anthropic", "crun": "CRUN", "sunra": "Sunra",
                   "openrouter": "OpenRouter"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Terms:
    """The parts of a rate set's terms: `batch/us/>100000`."""

    processing: str
    speed: str
    place: str | None
    tier: str

    @property
    def service_tier(self) -> str:
        """Standard, batch or fast, as the price book says it."""
        return FAST if self.speed == FAST else self.processing


def terms_of(rates: RateSet) -> Terms:
    """What the rates hold for."""
    kind, *rest = rates.terms.split("/")
    place = next((part for part in rest if not part.startswith(">")), None)
    above = next((part[1:] for part in rest if part.startswith(">")), None)
    return Terms(
        BATCH if kind == BATCH else STANDARD,
        FAST if kind == FAST else STANDARD,
        place,
        f"above-{above}" if above else "base",
    )


def meter_name(meter: int) -> str:
    """The SkuMeter of a meter."""
    return _NAMES[meter]


def consumed_unit(meter: int) -> str:
    """What is counted."""
    return REQUESTS if meter == WEB_SEARCH else TOKENS


def pricing_unit(meter: int) -> str:
    """What a unit price is for: `1000000 Tokens`."""
    return f"{PRICED_PER[meter]} {consumed_unit(meter)}"


def sku_id(endpoint: str, rates: RateSet, meter: int) -> str:
    """Stable across prices."""
    return f"{endpoint}:{rates.model}:{METERS[meter]}"


def sku_price_id(endpoint: str, rates: RateSet, meter: int) -> str:
    """Stable across dates: one for each price that holds at a time."""
    terms = terms_of(rates)
    parts = (terms.processing, terms.speed, terms.place or "global", terms.tier)
    return ":".join((sku_id(endpoint, rates, meter), *parts))


def sku_price_details(rates: RateSet, meter: int) -> str:
    """JSON; no key is defined by FOCUS 1.2 to 1.4, so that each starts with x_."""
    terms, claude = terms_of(rates), _CLAUDE.match(rates.model)
    details = {
        "x_ModelDeveloper": publisher(rates.model),
        "x_ModelFamily": claude[1].capitalize() if claude else None,
        "x_ModelId": rates.model,
        "x_ModelVersion": ".".join(filter(None, claude.groups()[1:])) if claude else None,
        "x_TokenDirection": _direction(meter),
        "x_TokenCacheAction": _CACHE_ACTIONS[meter],
        "x_CacheTtl": _LIFETIMES[meter],
        "x_ServiceTier": terms.processing,
        "x_Speed": terms.speed,
        "x_InferenceGeo": terms.place or "global",
        "x_PromptTier": terms.tier,
    }
    return msgspec.json.encode({k: v for k, v in details.items() if v}).decode()


def seller(endpoint: str) -> str:
    """Who is paid."""
    return _SELLERS.get(endpoint, endpoint)


def publisher(model: str) -> str | None:
    """Who made the model, where its name says so."""
    return "Anthropic" if _CLAUDE.match(model) else None


def _direction(meter: int) -> str | None:
    if meter == WEB_SEARCH:
        return None
    return "Output" if METERS[meter] == "output" else "Input"
