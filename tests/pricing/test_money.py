"""Money: exact in, exact out, readable for people."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.pricing.money import (
    LARGEST_AMOUNT,
    decimal_text,
    format_amount,
    format_currency,
    format_usd,
    parse_decimal,
    parse_rate,
    parse_usd,
    rate_text,
    usd_text,
)

amounts = st.integers(-LARGEST_AMOUNT, LARGEST_AMOUNT)
meters = st.integers(0, 5)


def test_dollars_become_pico_dollars():
    assert parse_usd("12.50") == 12_500_000_000_000
    assert parse_usd("0.000000000001") == 1
    assert parse_usd("-3") == -3_000_000_000_000


@pytest.mark.parametrize(
    "text", ["", "1e3", "1,000", "$5", "1.", ".5", " 1", "1 ", "+1", "nan", "1_0", "٣", "1\n"]
)
def test_text_that_is_no_plain_decimal_is_refused(text):
    with pytest.raises(ValueError, match="not a decimal number"):
        parse_usd(text)


def test_an_amount_finer_than_a_pico_dollar_is_refused():
    with pytest.raises(ValueError, match="more than 12 decimals"):
        parse_usd("0.0000000000001")


def test_an_amount_beyond_64_bits_is_refused():
    with pytest.raises(ValueError, match="more than the ledger can hold"):
        parse_usd("9223372.036854775808")
    assert parse_usd("9223372.036854775807") == LARGEST_AMOUNT


@pytest.mark.parametrize(
    ("pico", "shown"),
    [
        (0, "$0.00"),
        (1, "$0.000000000001"),
        (3_400_000_000, "$0.0034"),
        (3_412_000_000, "$0.00341"),
        (500_000_000_000, "$0.50"),
        (123_456_000_000, "$0.123"),
        (999_900_000_000, "$1.00"),
        (12_410_000_000_000, "$12.41"),
        (1_234_560_000_000_000, "$1,234.56"),
        (2_005_000_000_000, "$2.00"),  # half to even
        (2_015_000_000_000, "$2.02"),
        (-500_000_000_000, "-$0.50"),
        (-3_400_000_000, "-$0.0034"),
    ],
)
def test_people_see_significant_digits(pico, shown):
    assert format_usd(pico) == shown


def test_other_currencies_carry_their_name():
    assert format_currency(12_410_000_000_000, "CRUN_CREDIT") == "12.41 CRUN_CREDIT"
    assert format_currency(12_410_000_000_000, "USD") == "$12.41"
    assert format_amount(-1_500_000_000_000) == "-1.50"


@given(amounts)
def test_exact_text_reads_back_as_the_same_amount(pico):
    text = usd_text(pico)
    assert "e" not in text
    assert parse_usd(text) == pico


@given(amounts.filter(bool))
def test_a_real_amount_is_never_shown_as_zero(pico):
    assert any(digit in format_usd(pico) for digit in "123456789")


@given(amounts)
def test_what_people_see_is_within_one_percent_of_the_amount(pico):
    shown = parse_decimal(format_usd(pico).replace("$", "").replace(",", ""))
    exact = Fraction(pico, 10**12)
    assert abs(shown - exact) <= abs(exact) / 100


@given(st.fractions(0, 1000, max_denominator=10**6), meters)
def test_rates_read_back_as_published(value, meter):
    try:
        text = decimal_text(value)
    except ValueError:
        return  # a third has no decimal form
    assert parse_decimal(rate_text(parse_rate(text, meter), meter)) == value


def test_published_prices_become_pico_dollars_per_unit():
    assert parse_rate("0.125", 1) == 125_000  # per million tokens
    assert parse_rate("10", 5) == 10_000_000_000  # per thousand searches
    assert rate_text(5_500, 3) == "0.0055"


def test_a_third_has_no_decimal_text():
    with pytest.raises(ValueError, match="no finite decimal form"):
        decimal_text(Fraction(1, 3))
