"""Dated discounts: on which days, on which meters, and what they leave alone."""

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_shipped, parse_book
from batcher.pricing.book.layer import parse_toml
from batcher.pricing.book.text import render_layer
from batcher.pricing.money import METERS
from batcher.pricing.rate.rating import resolve

MODEL = "claude-opus-5-5"  # 4, 5, 8, 0.2, 20 USD per million
EPOCH = date(1970, 1, 1)
PLAIN = (4_000_000, 5_000_000, 8_000_000, 200_000, 20_000_000, 10**10)


def book(*discounts, more=""):
    blocks = "".join(f"[[discounts]]\n{each}\n" for each in discounts)
    return parse_book(
        f'version = "v"\nround = true\n[lists.acme]\nbased_on = "anthropic"\n{blocks}{more}'
    )


def block(start="2026-12-01", end=None, factor="0.5", meters=METERS, price_list="acme"):
    until = f"valid_until = {end}\n" if end else ""
    return (f'list = "{price_list}"\nfactor = "{factor}"\nvalid_from = {start}\n{until}'
            f"meters = {list(meters)!r}\n").replace("'", '"')  # fmt: skip


def rates(found, day, terms=(None, None, None), price_list="acme"):
    return resolve(found, price_list, MODEL, terms, (day - EPOCH).days).base.rates


def test_it_holds_from_its_first_day_to_its_last_on_its_meters():
    found = book(block(end="2027-02-28", meters=("input", "output")))
    half = (2_000_000, *PLAIN[1:4], 10_000_000, PLAIN[5])
    days = [date(2026, 11, 30), date(2026, 12, 1), date(2027, 2, 28), date(2027, 3, 1)]
    assert [rates(found, day) for day in days] == [PLAIN, half, half, PLAIN]
    assert rates(found, days[1], price_list="anthropic") == PLAIN


def test_batches_and_geographies_stand_on_the_discounted_price():
    found = book(block())
    terms = ("batch", None, "us")
    assert rates(found, date(2026, 12, 1), terms)[0] == 1_100_000


def test_the_shipped_list_itself_may_be_discounted_and_own_rates_are_not():
    own = f"""[[rates]]\nlist = "acme"\nmodel = "{MODEL}"\nvalid_from = 2026-01-01
input = "7"\noutput = "9"\n"""
    assert rates(book(block(), more=own), date(2026, 12, 1))[0] == 7_000_000
    assert rates(book(block(price_list="anthropic")), date(2026, 12, 1),
                 price_list="anthropic")[0] == 2_000_000  # fmt: skip


@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ((block(), block(start="2027-01-01")), "two discounts of price list acme"),
        ((block(meters=("tokens",)),), "meters are some of"),
        ((block(end="2026-01-01"),), "valid_until is before"),
        ((block(factor="0"),), "is not above zero"),
    ],
)
def test_what_cannot_be_meant_is_refused(blocks, said):
    with pytest.raises(ConfigurationError, match=said):
        book(*blocks)


def test_two_on_other_meters_or_days_stand_side_by_side():
    found = book(block(meters=("input",)), block(meters=("output",)),
                 block(start="2026-10-01", end="2026-11-30"))  # fmt: skip
    assert rates(found, date(2026, 12, 5))[:5:4] == (2_000_000, 10_000_000)


def test_a_file_with_discounts_is_written_and_read_as_the_same():
    layer = parse_toml(f'version = "v"\n[[discounts]]\n{block(end="2027-01-01")}', "x")
    assert parse_toml(render_layer(layer), "x") == layer


@given(st.integers(0, 800), st.integers(0, 400), st.integers(0, 900))
def test_every_day_has_the_price_that_the_discount_says(start, length, day):
    origin = date(2025, 6, 1)
    begin = origin + timedelta(days=start)
    end, moment = begin + timedelta(days=length), origin + timedelta(days=day)
    found = book(block(start=begin, end=end))
    terms, since = (None, None, None), (moment - EPOCH).days
    listed = resolve(load_shipped(), "anthropic", MODEL, terms, since)
    ours = resolve(found, "acme", MODEL, terms, since)
    if listed.base is None:
        assert ours.base is None
        return
    factor = 2 if begin <= moment <= end else 1
    assert [rate * factor for rate in ours.base.rates] == list(listed.base.rates)
