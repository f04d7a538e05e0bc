"""Prices of other collections go into the shipped book, and lose nothing of it."""

import json
from fractions import Fraction

import pytest
from click.testing import CliRunner

from batcher.cli.menu import group
from batcher.errors import ConfigurationError, UsageError
from batcher.pricing.book.book import load_file, load_shipped
from batcher.pricing.book.differences import NO_PRICE, compare_lists
from batcher.pricing.rate.rating import ChargeStatus, rate
from tests.pricing.answers import answer, tokens

SHIPPED = load_shipped()
TOMORROW = 1_795_219_200_000_000 + 20 * 86_400_000_000
HAIKU = {
    "litellm_provider": "anthropic", "mode": "chat", "max_input_tokens": 200_000,
    "input_cost_per_token": 1e-06, "output_cost_per_token": 5e-06,
    "cache_creation_input_token_cost": 1.25e-06,
    "cache_creation_input_token_cost_above_1hr": 2e-06, "cache_read_input_token_cost": 1e-07,
    "input_cost_per_token_batches": 5e-07, "output_cost_per_token_batches": 2.5e-06,
    "search_context_cost_per_query": {"search_context_size_medium": 0.01},
}  # fmt: skip


def imported(*words):
    result = CliRunner().invoke(
        group, ["prices", "import", *map(str, words)], standalone_mode=False
    )
    if result.exception:
        raise result.exception
    return result


def price_map(tmp_path, **models):
    path = tmp_path / "map.json"
    path.write_text(json.dumps({"sample_spec": {"mode": "x"}, **models}))
    return path


def differences(book):
    return compare_lists({"anthropic": SHIPPED.lists["anthropic"]},
                         {"anthropic": book.lists["anthropic"]})  # fmt: skip


def cost(book, model, at=TOMORROW, **usage):
    (found,) = rate(answer(tokens(**usage), model), requested_model=model, sent_at=at,
                    price_list="anthropic", book=book)  # fmt: skip
    return found.total if found.status is ChargeStatus.PRICED else found.reason


def test_an_import_from_genai_prices_changes_and_loses_nothing_that_is_sold(tmp_path):
    target = tmp_path / "p.toml"
    said = imported("--from", "genai-prices", "-o", target).stderr
    found = differences(load_file(target))
    assert "changes 0, loses 0" in said
    assert {each.before for each in found} == {NO_PRICE}  # models before our book began


def test_a_map_that_says_the_same_changes_nothing(tmp_path):
    target = tmp_path / "p.toml"
    path = price_map(
        tmp_path, **{"claude-haiku-4-5": HAIKU, "claude-haiku-4-5-20251001": HAIKU}
    )
    said = imported(path, "--from", "litellm", "-o", target).stderr
    assert "adds 0, changes 0, loses 0" in said
    assert differences(load_file(target)) == ()


def test_another_price_holds_from_today_on_and_keeps_history_geography_batch_and_fast(tmp_path):
    target = tmp_path / "p.toml"
    dearer = {"litellm_provider": "anthropic", "input_cost_per_token": 5e-06,
              "output_cost_per_token": 3e-05}  # fmt: skip
    said = imported(price_map(tmp_path, **{"claude-opus-4-8": dearer}), "--from", "litellm",
                    "-o", target).stderr  # fmt: skip
    book = load_file(target)
    found = differences(book)
    assert {(each.meter, each.last_day) for each in found} == {("output", None)}
    places = ("", "/regional", "/us")
    assert {each.terms for each in found} == {
        f"{terms}{place}" for terms in ("standard", "batch") for place in places
    }
    assert "adds 0, changes 6, loses 0" in said
    use = {"input_tokens": 0, "output_tokens": 1}
    assert cost(book, "claude-opus-4-8", **use) == 30_000_000
    assert cost(book, "claude-opus-4-8", **use, service_tier="batch") == 15_000_000
    assert cost(book, "claude-opus-4-8", **use, inference_geo="us") == 33_000_000
    before = 1_795_219_200_000_000  # 2026-11-21
    assert cost(book, "claude-opus-4-8", before, **use) == 25_000_000


def test_a_new_model_is_added_with_all_that_the_map_says(tmp_path):
    target = tmp_path / "p.toml"
    entry = {**HAIKU, "provider_specific_entry": {"us": 1.1, "fast": 2},
             "input_cost_per_token_above_200k_tokens": 2e-06,
             "output_cost_per_token_above_200k_tokens": 1e-05}  # fmt: skip
    imported(price_map(tmp_path, **{"anthropic/claude-haiku-9": entry}), "--from", "litellm",
             "-o", target)  # fmt: skip
    book = load_file(target)
    use = {"input_tokens": 10, "output_tokens": 0}
    assert cost(book, "claude-haiku-9", **use) == 10_000_000
    assert cost(book, "claude-haiku-9", **use, service_tier="batch") == 5_000_000
    assert cost(book, "claude-haiku-9", **use, speed="fast", inference_geo="us") == 22_000_000
    assert cost(book, "claude-haiku-9", input_tokens=200_001) == 200_001 * 2_000_000
    assert cost(book, "claude-opus-5", **use) == 50_000_000  # and nothing of ours is lost


def test_what_ids_of_regions_cost_more_is_kept_as_their_geography(tmp_path):
    at = {"litellm_provider": "bedrock_converse"}
    dearer = {**at, "input_cost_per_token": 1.1e-06, "output_cost_per_token": 5.5e-06}
    names = {
        "anthropic.claude-haiku-4-5-v1:0": HAIKU | at,
        "us.anthropic.claude-haiku-4-5-v1:0": HAIKU | dearer | {
            "cache_creation_input_token_cost": 1.375e-06,
            "cache_creation_input_token_cost_above_1hr": 2.2e-06,
            "cache_read_input_token_cost": 1.1e-07,
        },
        "eu.anthropic.claude-opus-5": dearer,  # of a model that is told for a region alone
        "global.anthropic.claude-opus-5": HAIKU | at,
        "us.anthropic.claude-sonnet-4-6": dearer,  # and one of which two regions disagree
        "eu.anthropic.claude-sonnet-4-6": HAIKU | at,
        "anthropic.claude-sonnet-4-6": HAIKU | at,
    }  # fmt: skip
    target = tmp_path / "p.toml"
    words = ("--from", "litellm", "--provider", "bedrock_converse", "--list", "aws")
    imported(price_map(tmp_path, **names), *words, "-o", target)
    book = load_file(target).lists["aws"]
    found = {p.model: (p.rates[0], dict(p.geographies)) for p in book.periods
             if p.terms == "standard"}  # fmt: skip
    factor = {"regional": Fraction(11, 10)}
    assert found == {
        "claude-haiku-4-5": (1_000_000, factor),
        "claude-opus-5": (1_000_000, factor),
        "claude-sonnet-4-6": (1_000_000, {}),
    }


def test_what_standing_alone_loses_is_said(tmp_path):
    path = price_map(tmp_path, **{"claude-haiku-4-5": HAIKU})
    said = imported(path, "--from", "litellm", "--replace", "-o", tmp_path / "p.toml").stderr
    assert "loses 0" not in said
    assert "claude-opus-5" in said


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"{", "is no JSON"), (b"[]", "is no price map"), (b"{}", "no prices of provider"),
     (b'{"claude-x": {"litellm_provider": "anthropic", "input_cost_per_token": "free"}}',
      "no prices of provider")],
)  # fmt: skip
def test_what_is_no_price_map_is_refused_by_name(tmp_path, content, words):
    path = tmp_path / "map.json"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=words) as caught:
        imported(path, "--from", "litellm")
    assert str(path) in str(caught.value)
    with pytest.raises(UsageError, match="no such price map"):
        imported(tmp_path / "none.json", "--from", "litellm")
