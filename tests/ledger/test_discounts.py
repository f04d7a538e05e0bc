"""Dated discounts: on which days, on which meters, and what they leave alone."""

from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.ledger.rate.months import settled, tiers_of
from batcher.pricing.book.book import SEPARATOR, load_shipped, parse_book
from batcher.pricing.book.differences import implausible
from batcher.pricing.book.layer import parse_toml
from batcher.pricing.book.merge import render_layer
from batcher.pricing.money import METERS, PICO
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


TIERS = '{ above = "10", factor = "0.9" }, { above = "100.5", factor = "0.5" }'


def tiered(start="2026-11-15", more="", tiers=TIERS):
    return f'list = "acme"\nvalid_from = {start}\ntiers = [{tiers}]\n{more}'


def month(day, **amounts):
    """What a day cost, in whole dollars by meter."""
    return {("acme", day): [amounts.get(meter, 0) * PICO for meter in METERS]}


def test_tiers_change_nothing_before_the_month_is_over():
    found = book(tiered())
    assert rates(found, date(2026, 12, 1)) == PLAIN
    spent = month(date(2026, 12, 3), input=1000)
    early = settled(found, spent, date(2026, 12, 31))
    assert rates(early, date(2026, 12, 1)) == PLAIN
    assert [each.valid_from for each in tiers_of(early.content)] == [date(2026, 12, 1)]
    assert settled(early, spent, date(2026, 12, 31)) is early
    plain = book(block())
    assert settled(plain, spent, date(2027, 12, 31)) is plain


@pytest.mark.parametrize(
    ("dollars", "factor"),
    [(10, 1), (11, Fraction(9, 10)), (100, Fraction(9, 10)), (101, Fraction(1, 2))],
)
def test_a_whole_month_has_the_tier_that_its_cost_is_above(dollars, factor):
    before = month(date(2026, 11, 14), output=10**6)  # of a day without the discount
    spent = before | month(date(2026, 11, 15), input=dollars - 10, output=10)
    found = settled(book(tiered()), spent, date(2026, 12, 1))
    expected = tuple(rate * factor for rate in PLAIN)
    days = [date(2026, 11, 14), date(2026, 11, 15), date(2026, 11, 30), date(2026, 12, 1)]
    assert [rates(found, day) for day in days] == [PLAIN, expected, expected, PLAIN]
    assert parse_book(found.content) == found


@pytest.mark.parametrize(
    ("dollars", "cost"), [(10, "10"), (11, "10.9"), (101, "91.7"), (200, "141.2")]
)
def test_a_marginal_tier_is_for_the_part_above_it_alone(dollars, cost):
    """10 in full, then nine tenths, from 100.50 on a half: as one factor of the month."""
    spent = month(date(2026, 12, 5), input=dollars)
    found = settled(book(tiered(more="marginal = true\n")), spent, date(2027, 1, 1))
    wanted = Fraction(cost) / dollars
    expected = tuple(round(rate * Fraction(round(wanted * PICO), PICO)) for rate in PLAIN)
    assert rates(found, date(2026, 12, 5)) == expected
    assert parse_book(found.content) == found
    assert [each.marginal for each in tiers_of(found.content)] == [True]


@given(st.integers(1, 10**18), st.lists(st.integers(1, 10**6), min_size=1, max_size=4,
                                        unique=True))  # fmt: skip
def test_marginal_tiers_come_to_what_each_dollar_costs_by_itself(volume, edges):
    steps = [(edge, Fraction(9 - n, 10)) for n, edge in enumerate(sorted(edges))]
    tiers = ", ".join(f'{{ above = "{e}", factor = "{float(f)}" }}' for e, f in steps)
    given_ = tiered(start="2026-12-01", more="marginal = true\n", tiers=tiers)
    spent = {("acme", date(2026, 12, 5)): [volume, 0, 0, 0, 0, 0]}
    content = settled(book(given_), spent, date(2027, 1, 1)).content
    found = parse_toml(content.partition(SEPARATOR)[0], "x")
    left, cost = volume, Fraction(0)
    for edge, factor in reversed(steps):
        cost += max(left - edge * PICO, 0) * factor
        left = min(left, edge * PICO)
    cost += left
    (factor,) = [d.factor for d in found.discounts if d.factor] or [Fraction(1)]
    assert abs(cost - volume * factor) <= Fraction(volume, 2 * PICO)


def test_only_the_meters_that_it_touches_count_and_change():
    spent = month(date(2026, 12, 5), input=5, output=50)
    given = tiered(more='meters = ["input"]\n')
    assert rates(settled(book(given), spent, date(2027, 1, 1)), date(2026, 12, 5)) == PLAIN
    dearer = month(date(2026, 12, 5), input=50)
    found = rates(settled(book(given), dearer, date(2027, 1, 1)), date(2026, 12, 5))
    assert found == (3_600_000, *PLAIN[1:])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (tiered(more='factor = "0.9"\n'), "give a factor, or tiers"),
        ('list = "acme"\nvalid_from = 2026-12-01\n', "give a factor, or tiers"),
        (block() + "marginal = true\n", "marginal says how tiers are meant"),
        (
            tiered(tiers='{ above = "5", factor = "1" }, { above = "5", factor = "1" }'),
            "larger",
        ),
        (tiered(tiers='{ above = "5", factor = "0" }'), "is not above zero"),
        (tiered(tiers='{ above = "-5", factor = "1" }'), "is below zero"),
        (tiered(tiers='{ above = 5, factor = "1" }'), "in quotes"),
    ],
)
def test_tiers_that_cannot_be_meant_are_refused(given, said):
    with pytest.raises(ConfigurationError, match=said):
        book(given)


def test_marginal_tiers_say_that_prices_are_rounded():
    text = f'version = "v"\n[[discounts]]\n{tiered(more="marginal = true")}'
    with pytest.raises(ConfigurationError, match="marginal tiers need round = true"):
        parse_book(text)


def test_a_tier_that_no_price_can_have_is_refused_when_the_file_is_read():
    text = (
        f'version = "v"\n[[discounts]]\n{tiered(tiers=TIERS.replace("0.5", "0.12345678901"))}'
    )
    with pytest.raises(ConfigurationError, match="round = true"):
        parse_book(text.replace('"acme"', '"anthropic"'))


def test_a_tier_that_is_dearer_than_the_one_below_is_not_plausible():
    dearer = '{ above = "1", factor = "0.8" }, { above = "2", factor = "0.9" }'
    found = implausible(book(tiered(tiers=dearer)), load_shipped(), date(2027, 1, 1))
    assert any("a tier of more volume has dearer prices" in each for each in found)
    assert implausible(book(tiered()), load_shipped(), date(2027, 1, 1)) == ()


def test_two_on_other_meters_or_days_stand_side_by_side():
    found = book(block(meters=("input",)), block(meters=("output",)),
                 block(start="2026-10-01", end="2026-11-30"))  # fmt: skip
    assert rates(found, date(2026, 12, 5))[:5:4] == (2_000_000, 10_000_000)


def test_a_file_with_discounts_is_written_and_read_as_the_same():
    for written in (block(end="2027-01-01"), tiered(), tiered(more="marginal = true\n")):
        layer = parse_toml(f'version = "v"\nround = true\n[[discounts]]\n{written}', "x")
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
