"""Money as integer pico-units (10^-12) of one currency, and the meters that it is counted by.

Text in and out is exact decimal. Twelve decimals hold every published rate per token, halved
for batches and raised by a tenth for a geography, as an integer. Nothing here rounds but
`format_usd` and its like, which are for people.
"""

import re
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


PICO: Final = 10**12
DECIMALS: Final = 12
LARGEST_AMOUNT: Final = 2**63 - 1  # a BIGINT column of pico-units

_DECIMAL: Final = re.compile(r"(-?)([0-9]{1,30})(?:\.([0-9]{1,30}))?", re.ASCII)
_SIGNIFICANT_DIGITS: Final = 3


def parse_decimal(text: str) -> Fraction:
    """The exact value of `text`: digits with at most one point, no exponent, no separators.

    Raises `ValueError` for anything else.
    """
    match = _DECIMAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r:.50} is not a decimal number such as 12.50")
    sign, whole, decimals = match[1], match[2], match[3] or ""
    return Fraction(int(f"{sign}{whole}{decimals}"), 10 ** len(decimals))


def decimal_text(value: Fraction | int) -> str:
    """The shortest exact decimal text of `value`, without exponent: `3/80` is `0.0375`.

    Raises `ValueError` when the value has no finite decimal form.
    """
    value = Fraction(value)
    places = 0
    while (10**places) % value.denominator:
        places += 1
        if places > 100:
            raise ValueError(f"{value} has no finite decimal form")
    digits = str(abs(value.numerator) * (10**places // value.denominator))
    digits = digits.rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}" if places else digits
    return f"-{text}" if value < 0 else text


def parse_usd(text: str) -> int:
    """Pico-USD from decimal text: `"12.50"` is 12,500,000,000,000.

    Raises `ValueError` for text that is no decimal number, is finer than 10^-12, or does not
    fit the ledger's 64 bits.
    """
    pico = parse_decimal(text) * PICO
    if pico.denominator != 1:
        raise ValueError(f"{text!r:.50} has more than {DECIMALS} decimals")
    if abs(pico) > LARGEST_AMOUNT:
        raise ValueError(f"{text!r:.50} is more than the ledger can hold, about 9.2 million")
    return int(pico)


def usd_text(pico: int) -> str:
    """The exact amount as decimal text, for programs: 3,400,000,000 is `"0.0034"`."""
    whole, rest = divmod(abs(pico), PICO)
    text = f"{whole}.{rest:012}".rstrip("0") if rest else str(whole)
    return f"-{text}" if pico < 0 else text


def format_usd(pico: int, places: int | None = None) -> str:
    """The amount for people: `$1,234.56`, `$0.0034`, `-$0.50`; `$0.00` only for exactly zero.

    From one dollar on two decimals, below three significant digits and at least two decimals;
    or as many decimals as `places` says.
    """
    return f"{'-' if pico < 0 else ''}${format_amount(abs(pico), places=places)}"


def format_amount(pico: int, currency: str | None = None, places: int | None = None) -> str:
    """Like `format_usd` without the dollar sign, followed by the currency if given."""
    least = 2 if places is None else places
    places = places_of(pico) if places is None else places
    units = round(Fraction(abs(pico) * 10**places, PICO))  # half to even
    whole, decimals = divmod(units, 10**places)
    shown = f"{decimals:0{places}d}".rstrip("0").ljust(least, "0")
    text = f"{'-' if pico < 0 else ''}{whole:,}.{shown}"
    return f"{text} {currency}" if currency else text


def format_currency(pico: int, currency: str, places: int | None = None) -> str:
    """`format_usd` for USD, else the amount followed by the name of its currency."""
    if currency == "USD":
        return format_usd(pico, places)
    return format_amount(pico, currency, places)


def parse_rate(text: str, meter: int) -> Fraction:
    """Pico-units per token (per search) from the published price per million (per thousand).

    `meter` is the index in `METERS`. The result is exact and may be no integer.
    """
    return exact_rate(parse_decimal(text), meter)


def exact_rate(price: Fraction, meter: int) -> Fraction:
    """See `parse_rate`, for a price that was read."""
    return price * PICO / PRICED_PER[meter]


def rate_text(rate: Fraction | int, meter: int) -> str:
    """The published price, per million tokens or thousand searches, of a rate in pico-units."""
    return decimal_text(Fraction(rate) * PRICED_PER[meter] / PICO)


def places_of(pico: int) -> int:
    """Decimals to show: two from one unit on, else enough for three significant digits.

    No more than say something: half a dollar has two.
    """
    places = _places(abs(pico))
    units = round(Fraction(abs(pico) * 10**places, PICO))
    while places > 2 and units % 10 == 0:
        places, units = places - 1, units // 10
    return places


def _places(pico: int) -> int:
    if pico >= PICO or pico == 0:
        return 2
    leading_zeros = DECIMALS - len(str(pico))
    return min(leading_zeros + _SIGNIFICANT_DIGITS, DECIMALS)
