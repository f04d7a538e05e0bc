"""The columns of a FOCUS file, in their order; what 1.3 renames."""

from enum import StrEnum
from typing import Final


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
