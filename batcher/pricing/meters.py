"""The kinds of billable quantity, in the one order that every tuple of meters has."""

from fractions import Fraction
from typing import Final

# The ledger has a quantity, an amount and a rate column per meter, in this order.
METERS: Final = (
    "input",
    "cache_write_5m",
    "cache_write_1h",
    "cache_read",
    "output",
    "web_search",
)

WEB_SEARCH: Final = METERS.index("web_search")

# Prices are published per million tokens, and per thousand searches.
PRICED_PER: Final = (1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000_000, 1_000)

MeterQuantities = tuple[int | None, int | None, int | None, int | None, int | None, int | None]
MeterAmounts = MeterQuantities
MeterRates = MeterQuantities
ExactRates = tuple[
    Fraction | None,
    Fraction | None,
    Fraction | None,
    Fraction | None,
    Fraction | None,
    Fraction | None,
]

NOT_REPORTED: Final[MeterQuantities] = (None, None, None, None, None, None)
NOTHING: Final[MeterAmounts] = (0, 0, 0, 0, 0, 0)
