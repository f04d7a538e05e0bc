"""The shipped book against a second copy of the published table, typed by hand."""

from datetime import date
from fractions import Fraction

import pytest

from batcher.pricing.book.book import load_shipped
from batcher.pricing.book.differences import rates_on
from batcher.pricing.money import parse_rate

NOVEMBER_2026 = date(2026, 11, 21)

# input, 5-minute write, 1-hour write, cache read, output; batch in and out; fast in and out
PUBLISHED = """
claude-fable-5-2      8     10    16   0.20  40    4     20    16 80
claude-mythos-5-2     8     10    16   0.20  40    4     20    16 80
claude-fable-5-1      10    12.5  20   0.25  50    5     25    -  -
claude-mythos-5-1     10    12.5  20   0.25  50    5     25    -  -
claude-fable-5        10    12.5  20   1     50    5     25    -  -
claude-mythos-5       10    12.5  20   1     50    5     25    -  -
claude-opus-5-5       4     5     8    0.20  20    2     10    8  40
claude-opus-5         5     6.25  10   0.50  25    2.5   12.5  10 50
claude-opus-4-8       5     6.25  10   0.50  25    2.5   12.5  10 50
claude-opus-4-7       5     6.25  10   0.50  25    2.5   12.5  -  -
claude-opus-4-6       5     6.25  10   0.50  25    2.5   12.5  -  -
claude-opus-4-5       5     6.25  10   0.50  25    2.5   12.5  -  -
claude-sonnet-5-5     2     2.5   4    0.10  10    1     5     -  -
claude-sonnet-5       2     2.5   4    0.20  10    1     5     -  -
claude-sonnet-4-6     3     3.75  6    0.30  15    1.5   7.5   -  -
claude-sonnet-4-5     3     3.75  6    0.30  15    1.5   7.5   -  -
claude-haiku-5-5      0.10  0.125 0.20 0.01  0.50  0.05  0.25  -  -
claude-haiku-4-5      1     1.25  2    0.10  5     0.5   2.5   -  -
claude-opus-4-1       15    18.75 30   1.50  75    7.5   37.5  -  -
claude-opus-4         15    18.75 30   1.50  75    7.5   37.5  -  -
claude-sonnet-4       3     3.75  6    0.30  15    1.5   7.5   -  -
claude-3-7-sonnet     3     3.75  6    0.30  15    1.5   7.5   -  -
claude-3-5-haiku      0.80  1     1.60 0.08  4     0.4   2     -  -
claude-3-haiku        0.25  0.30  0.50 0.03  1.25  0.125 0.625 -  -
claude-3-opus         15    18.75 30   1.50  75    7.5   37.5  -  -
"""

HISTORY = [
    # model, terms, prompt above, day, input, output, cache read
    ("claude-opus-4-6", "standard", 200_000, date(2026, 3, 12), "10", "37.5", "1"),
    ("claude-opus-4-6", "standard", 200_000, date(2026, 3, 13), "5", "25", "0.5"),
    ("claude-sonnet-4-6", "standard", 200_000, date(2026, 3, 12), "6", "22.5", "0.6"),
    ("claude-sonnet-4-6", "standard", 200_000, date(2026, 3, 13), "3", "15", "0.3"),
    ("claude-sonnet-4-5", "standard", 200_000, date(2026, 4, 30), "6", "22.5", "0.6"),
    ("claude-sonnet-5-5", "standard", 0, date(2026, 10, 6), "2", "10", "0.2"),
    ("claude-sonnet-5-5", "standard", 0, date(2026, 10, 7), "2", "10", "0.1"),
    ("claude-opus-4-7", "fast", 0, date(2026, 7, 24), "30", "150", "3"),
    ("claude-opus-4-6", "fast", 0, date(2026, 6, 29), "30", "150", "3"),
    ("claude-opus-4-6", "fast", 200_000, date(2026, 3, 12), "60", "225", "6"),
    ("claude-opus-4-8", "fast", 0, date(2026, 11, 30), "10", "50", "1"),
    ("claude-haiku-5-5", "standard", 100_000, date(2026, 10, 7), "0.5", "2.5", "0.05"),
    ("claude-haiku-5-5", "batch", 100_000, date(2026, 10, 7), "0.25", "1.25", "0.025"),
]

FAST_ENDED = [
    ("claude-opus-4-8", date(2026, 12, 1)),
    ("claude-opus-4-7", date(2026, 7, 25)),
    ("claude-opus-4-6", date(2026, 6, 30)),
]


def rates(model, terms="standard", above=0, day=NOVEMBER_2026, place=""):
    found = rates_on(load_shipped().lists["anthropic"], model, (terms, place, above), day)
    return found and found.rates


def pico(text, meter=0):
    return None if text == "-" else parse_rate(text, meter)


@pytest.mark.parametrize("line", PUBLISHED.split("\n")[1:-1])
def test_the_book_holds_the_published_prices(line):
    model, *prices = line.split()
    assert rates(model)[:5] == tuple(pico(text) for text in prices[:5])
    batch, fast = rates(model, "batch"), rates(model, "fast")
    assert (batch[0], batch[4]) == (pico(prices[5]), pico(prices[6]))
    assert (fast and fast[0], fast and fast[4]) == (pico(prices[7]), pico(prices[8]))


@pytest.mark.parametrize(("model", "terms", "above", "day", "into", "out", "read"), HISTORY)
def test_the_book_remembers_earlier_prices(model, terms, above, day, into, out, read):
    found = rates(model, terms, above, day)
    assert (found[0], found[4], found[3]) == (pico(into), pico(out), pico(read))


@pytest.mark.parametrize(("model", "day"), FAST_ENDED)
def test_fast_mode_that_ended_has_no_price(model, day):
    assert rates(model, "fast", day=day) is None


def test_inference_in_the_us_costs_a_tenth_more_for_claude_4_6_and_later():
    prices = load_shipped().lists["anthropic"]
    with_us = {p.model for p in prices.periods if "us" in dict(p.geographies)}
    older = {"claude-opus-4-5", "claude-sonnet-4-5", "claude-haiku-4-5"}
    assert with_us.isdisjoint(older)
    assert {"claude-opus-4-6", "claude-sonnet-4-6", "claude-haiku-5-5"} <= with_us
    assert {f for p in prices.periods for _, f in p.geographies} == {Fraction(11, 10)}
    assert rates("claude-haiku-5-5", "batch", place="us")[3] == 5_500


def test_searches_cost_ten_dollars_per_thousand_whatever_the_terms():
    for terms, place in (("standard", ""), ("batch", "us"), ("fast", "")):
        assert rates("claude-opus-5", terms, place=place)[5] == 10_000_000_000


def test_every_block_says_since_when_and_from_where():
    for period in load_shipped().lists["anthropic"].periods:
        assert period.source
        assert period.rates[3] is not None, "cache reads are stored, never derived"
    assert load_shipped().published == date(2026, 11, 30)


def test_every_model_has_a_context_window():
    book = load_shipped()
    assert all(book.context_window(model) for model in book.lists["anthropic"].models())


def test_the_simulator_bills_in_the_same_prices():
    lists = load_shipped().lists
    assert lists["simulator"].models() == lists["anthropic"].models()
