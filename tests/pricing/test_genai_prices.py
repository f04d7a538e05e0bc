"""The shipped book against genai-prices, an independent collection of prices."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from genai_prices import Usage, calc_price
from genai_prices.data_snapshot import get_snapshot

from batcher.errors import ConfigurationError
from batcher.pricing.book.book import load_shipped, parse_book
from batcher.pricing.book.differences import compare_lists
from batcher.pricing.book.genai import KNOWN_DIFFERENCES, genai_differences, genai_layer
from batcher.pricing.book.merge import render_layer
from batcher.pricing.rate.rating import rate
from tests.pricing.answers import NOVEMBER, answer, tokens

BOOK = load_shipped()
SHARED = [
    model.id
    for provider in get_snapshot().providers
    if provider.id == "anthropic"
    for model in provider.models
    if model.id in BOOK.lists["anthropic"].models()
]
RETIRED = {"claude-opus-4-1", "claude-3-haiku", "claude-3-5-sonnet"}


def test_every_difference_is_known_and_has_a_reason():
    unknown = [difference for difference, why in genai_differences(BOOK) if why is None]
    assert not unknown


@pytest.mark.parametrize("known", KNOWN_DIFFERENCES, ids=lambda known: known.why)
def test_every_known_difference_still_exists(known):
    assert any(known.explains(difference) for difference, _ in genai_differences(BOOK))


def test_a_new_difference_is_not_taken_for_a_known_one():
    text = BOOK.content.replace('input = "0.10"', 'input = "0.11"')
    found = genai_differences(parse_book(text))
    (new,) = [d for d, why in found if why is None and d.terms == "standard"]
    assert (new.model, new.meter, new.before, new.after) == (
        "claude-haiku-5-5",
        "input",
        "0.11",
        "0.1",
    )


@pytest.mark.parametrize("model", SHARED)
@pytest.mark.parametrize("terms", [{}, {"service_tier": "batch"}, {"speed": "fast"}])
@pytest.mark.parametrize("prompt", [1_000, 100_000, 100_001])
def test_the_same_usage_costs_the_same_by_their_own_arithmetic(model, terms, prompt):
    split = {"ephemeral_5m_input_tokens": 10, "ephemeral_1h_input_tokens": 20}
    writes = {"cache_creation_input_tokens": 30, "cache_creation": split}
    usage = tokens(prompt - 60, 70, cache_read_input_tokens=30, **writes, **terms)
    (ours,) = rate(answer(usage, model), requested_model=model, price_list="anthropic",
                   sent_at=NOVEMBER, book=BOOK)  # fmt: skip
    if ours.reason == "no_price_for_fast":
        assert model not in {"claude-opus-5", "claude-opus-5-5", "claude-fable-5-2"}
    elif not (terms and model in RETIRED):  # known: they charge retired batches in full
        assert Decimal(ours.total) == their_price(model, terms, prompt) * 10**12


def their_price(model, terms, prompt):
    used = {"cache_read_tokens": 30, "cache_write_tokens": 30, "output_tokens": 70}
    used |= {"cache_write_5m_tokens": 10, "cache_write_1h_tokens": 20, "input_tokens": prompt}
    when = {"processing": "batch"} if "service_tier" in terms else terms or None
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    return calc_price(
        Usage(**used),
        model,
        provider_id="anthropic",
        genai_request_timestamp=moment,
        price_context=when,
    ).total_price


def test_an_import_keeps_every_price_and_its_name_in_our_book():
    book = parse_book(render_layer(genai_layer(extends=False)))
    shared = set(book.lists["anthropic"].models()) & set(BOOK.lists["anthropic"].models())
    assert {"claude-opus-4", "claude-3-5-haiku", "claude-haiku-5-5"} <= shared
    assert book.context_window("claude-opus-5") == 1_000_000


def test_a_provider_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="has no provider nobody"):
        genai_layer("nobody")


def test_a_change_of_price_is_shown_with_its_days():
    old = BLOCK.format(day="2026-01-01", price=1)
    new = BLOCK.format(day="2026-01-01\nvalid_until = 2026-02-28", price=1)
    new += BLOCK.format(day="2026-03-01", price=2)
    books = [parse_book(f'version = "1"\nextends = "nothing"\n{text}') for text in (old, new)]
    (found,) = compare_lists(books[0].lists, books[1].lists)
    assert (found.first_day, found.last_day) == (date(2026, 3, 1), None)
    assert (found.meter, found.before, found.after) == ("input", "1", "2")


def test_a_book_does_not_differ_from_itself():
    assert not compare_lists(BOOK.lists, BOOK.lists)


def test_another_currency_is_a_difference():
    base = 'version = "1"\nextends = "nothing"\n'
    text = BLOCK.format(day="2026-01-01", price=1)
    euros = parse_book(f'{base}[lists.anthropic]\ncurrency = "EUR"\n{text}')
    (found,) = compare_lists(parse_book(base + text).lists, euros.lists)
    assert (found.meter, found.before, found.after) == ("currency", "USD", "EUR")


BLOCK = """
[[rates]]
model = "m"
valid_from = {day}
input = "{price}"
output = "5"
"""
