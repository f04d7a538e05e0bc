"""Names that become keys of a database are refused at the door when none could hold them."""

import pytest

from batcher.config.values import MOST_TAGS, checked_tags, checked_text
from batcher.errors import ConfigurationError
from batcher.wiring.resolve import Asked, resolve


@pytest.mark.parametrize("text", ["", "x", "n" * 200, "名" * 200, "\u202ename", "a\x1b"])
def test_a_name_that_fits_is_taken_as_it_is(text):
    assert checked_text("the name", text) == text


@pytest.mark.parametrize("length", [201, 3_000, 2**20])
def test_a_long_name_is_refused_with_its_length_and_what_is_the_most(length):
    with pytest.raises(
        ConfigurationError, match=f"has {length:,} characters .* 200 is the most"
    ):
        checked_text("the name of the job", "n" * length)


@pytest.mark.parametrize("text", ["a\0b", "a\ud800", "\udfff"])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ConfigurationError, match="holds bytes that are no text"):
        checked_text("the name", text)


@pytest.mark.parametrize(
    "tags",
    [
        {"n" * 201: "v"},
        {"team": "v" * 1_001},
        {"team": "a\0"},
        {str(number): "" for number in range(MOST_TAGS + 1)},
    ],
)
def test_tags_are_few_and_short(tags):
    with pytest.raises(ConfigurationError):
        checked_tags(tags)


def test_a_run_over_very_many_files_has_a_key_that_an_index_holds():
    first = [f"folder/{number:0>60}.jsonl" for number in range(1_000)]
    keys = {key_of(first), key_of([*first, "one more.jsonl"]), key_of(first)}
    assert len(keys) == 2
    assert max(map(len, keys)) < 500


def key_of(inputs: list[str]) -> str:
    return resolve(Asked(command="", inputs=tuple(inputs))).key
