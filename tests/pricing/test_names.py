"""Model ids: the many spellings, and those that must not be taken for another model."""

import pytest

from batcher.pricing.book.book import IdPlace, load_shipped, normalise

ARN = "arn:aws:bedrock:us-east-1:123456789012"


@pytest.mark.parametrize(
    ("spelling", "plain"),
    [
        ("claude-opus-4-8", "claude-opus-4-8"),
        ("claude-haiku-4-5-20251001", "claude-haiku-4-5"),
        ("anthropic/claude-sonnet-4-20250514", "claude-sonnet-4"),
        ("openrouter/anthropic/claude-opus-4.5", "claude-opus-4-5"),
        ("global.anthropic.claude-opus-4-6-v1", "claude-opus-4-6"),
        ("us.anthropic.claude-sonnet-4-20250514-v1:0", "claude-sonnet-4"),
        ("anthropic.claude-3-haiku-20240307-v1:0", "claude-3-haiku"),
        ("claude-opus-4@20250514", "claude-opus-4"),
        ("claude-opus-4-6[1m]", "claude-opus-4-6"),
        ("claude-3-opus@default", "claude-3-opus"),
        ("anthropic/claude-4.5-sonnet-20250929", "claude-sonnet-4-5"),
        ("anthropic/claude-4-opus-20250522", "claude-opus-4"),
    ],
)
def test_every_spelling_finds_its_price(spelling, plain):
    assert normalise(spelling) == (plain, IdPlace.ANYWHERE)
    assert load_shipped().priced_model("anthropic", spelling) == (plain, IdPlace.ANYWHERE)


@pytest.mark.parametrize(
    ("spelling", "plain", "place"),
    [
        ("us.anthropic.claude-opus-5-v1:0", "claude-opus-5", IdPlace.REGION),
        ("eu.anthropic.claude-haiku-4-5", "claude-haiku-4-5", IdPlace.REGION),
        ("us-gov.anthropic.claude-sonnet-4-5", "claude-sonnet-4-5", IdPlace.CLOUD),
        ("ca.anthropic.claude-sonnet-4-6", "claude-sonnet-4-6", IdPlace.CLOUD),
        ("anthropic.claude-haiku-4-5-20251001-v1:0", "claude-haiku-4-5", IdPlace.CLOUD),
        ("claude-opus-4-5@20251101", "claude-opus-4-5", IdPlace.CLOUD),
        (
            f"{ARN}:inference-profile/us.anthropic.claude-haiku-4-5-20251001-v1:0",
            "claude-haiku-4-5",
            IdPlace.REGION,
        ),
        (
            f"{ARN}:inference-profile/global.anthropic.claude-opus-4-6-v1",
            "claude-opus-4-6",
            IdPlace.ANYWHERE,
        ),
        (
            f"{ARN}:foundation-model/anthropic.claude-opus-4-6-v1:0",
            "claude-opus-4-6",
            IdPlace.CLOUD,
        ),
        (
            "projects/p/locations/eu/publishers/anthropic/models/claude-opus-5",
            "claude-opus-5",
            IdPlace.CLOUD,
        ),
    ],
)
def test_an_id_of_a_cloud_says_whether_it_names_a_region(spelling, plain, place):
    assert normalise(spelling) == (plain, place)


@pytest.mark.parametrize("alias", ["claude-opus-4-0", "claude-3-5-haiku-latest"])
def test_an_alias_finds_its_model(alias):
    assert load_shipped().priced_model("anthropic", alias)[0] is not None


@pytest.mark.parametrize(
    "name",
    [
        "claude-opus-4-8-fast",
        "claude-opus-4-8-2026",
        "claude-opus-4-8-202605281",
        "claude-opus",
        "claude-opus-6",
        "claude-opus-5-5-5",
        "stranger/claude-opus-5",
        "us.claude-opus-5",
        f"{ARN}:application-inference-profile/claude-opus-5",
        "claude-5-5-5-opus",
        "gpt-5",
        "CLAUDE-OPUS-5",
        "",
        "/",
        "anthropic/",
    ],
)
def test_a_name_that_only_looks_similar_has_no_price(name):
    assert load_shipped().priced_model("anthropic", name) == (None, IdPlace.ANYWHERE)


def test_a_list_that_is_not_in_the_book_has_no_price_for_any_model():
    words = load_shipped().no_price_words("of another price file", "claude-haiku-4-5")
    assert words == "no price for claude-haiku-4-5, whose answers stay unpriced"
    assert load_shipped().no_price_words("anthropic", "claude-haiku-4-5") == ""
