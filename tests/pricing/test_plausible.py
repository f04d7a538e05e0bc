"""Slips in price files that no syntax shows: `prices check` tells each, and caps refuse it."""

from datetime import date

import pytest

from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_shipped, parse_book
from batcher.pricing.book.differences import implausible
from tests.cli.test_estimate import invoke, refused, simulator, typed  # noqa: F401

TODAY = date(2026, 11, 30)
BLOCK = {
    "model": '"claude-haiku-4-5"',
    "valid_from": "2026-01-01",
    "input": '"1"',
    "output": '"5"',
}


GIVEN = '[[discounts]]\nfactor = "0.85"\nvalid_from = 2026-12-01\n'
DISCOUNT = f'version = "w"\nround = true\n{GIVEN}'
FOR_C = GIVEN.replace("factor", 'list = "c"\nfactor')


def text(head="", **fields):
    block = "".join(f"{k} = {v}\n" for k, v in (BLOCK | fields).items() if v is not None)
    return f'version = "w"\nround = true\n{head}[[rates]]\n{block}'


def slips(content):
    return implausible(parse_book(content), load_shipped(), TODAY)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (text(input='"0.000001"', output='"0.000005"'), "is it per token, not per million"),
        (text(input='"0.0000001"', output='"0.0000005"'), "rounds to 0"),
        (text(input='"1000"', output='"5000"'), "input 1000 is not near the provider's 1"),
        (text(input='"0.001"', output='"0.005"'), "output 0.005 is not near the provider's 5"),
        (text(model='"mine"', input='"0.000002"'), "input 0.000002 is next to nothing"),
        (text(model='"mine"', input='"900000"', output='"900000"'), "more than any costs"),
        (text(output=None), "no output price"),
        (text(input=None), "no input price"),
        (DISCOUNT.replace("0.85", "15"), "anthropic: a discount makes prices dearer"),
        (DISCOUNT.replace(GIVEN, FOR_C), "c: a discount touches no price"),
        (text(FOR_C, list='"c"'), "c: a discount touches no price"),
        (text(input='"5"', output='"1"'), "output costs less than input"),
        (text(cache_read='"50"'), "reading from a cache costs more"),
        (text('published = 2030-01-01\n'), "published is 2030-01-01, which is in the future"),
        (text('[aliases]\n"claude-x" = "claude-none"\n'), "alias claude-x names claude-none"),
        (text('[lists.anthropic]\nfactor = "50"\n'), "is not near the provider's"),
    ],
)  # fmt: skip
def test_a_slip_is_told(content, words):
    assert any(words in each for each in slips(content)), slips(content)


@pytest.mark.parametrize(
    "content",
    [
        text(),
        text(input='"0.85"', output='"4.25"', batch_factor='"0.5"'),
        text(model='"qwen"', input='"0"', output='"0"'),
        text('[lists.acme]\nbased_on = "anthropic"\nfactor = "0.85"\n'),
        DISCOUNT,
        text('[lists.c]\ncurrency = "CREDIT"\n', list='"c"', input='"90000"', output='"90000"'),
        load_shipped().content,
    ],
    ids=[
        "list price",
        "factor",
        "free",
        "list with a factor",
        "discount",
        "credits",
        "shipped",
    ],
)
def test_a_price_that_can_be_meant_is_not_told(content):
    assert slips(content) == ()


def test_check_ends_with_1_and_a_cap_is_refused_without_yes(typed, tmp_path):  # noqa: F811
    (tmp_path / "p.toml").write_text(text(input='"0.001"', output='"0.005"'))
    assert "not plausible: anthropic" in invoke("prices", "check", "p.toml", code=1).stdout
    words = ("run", *typed, "--prices", "p.toml")
    refusal = refused(*words, "--max-cost", "5")
    assert isinstance(refusal, ConfigurationError)
    assert "a cap kept with such prices caps nothing" in str(refusal)
    assert isinstance(refused(*words, "--max-cost", "5", "--pilot", "5"), ConfigurationError)
    assert "warning: " in invoke(*words, "--limit", "1").stderr
