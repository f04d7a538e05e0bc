"""What msgspec says is put into plain words; a version with other words is noticed here."""

import datetime as dt
from typing import Literal

import msgspec
import pytest

from batcher.errors import plain_words


class Inner(msgspec.Struct, forbid_unknown_fields=True):
    name: str


class Outer(msgspec.Struct, forbid_unknown_fields=True):
    count: int = 0
    share: float = 0.0
    text: str | None = None
    on: bool = False
    words: list[str] = []
    day: dt.date | None = None
    table: dict[str, Inner] = {}
    mode: Literal["a", "b"] = "a"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"count": "x"}, "count: must be a whole number"),
        ({"share": "x"}, "share: must be a number"),
        ({"text": 1}, "text: must be text in quotes"),
        ({"on": 1}, "on: must be true or false"),
        ({"words": "x"}, "words: must be a list"),
        ({"words": ["x", 1]}, "words[1]: must be text in quotes"),
        ({"day": "soon"}, "day: must be a day such as 2026-11-21"),
        ({"day": 1}, "day: must be a day such as 2026-11-21"),
        ({"table": 1}, "table: must be a table"),
        ({"table": {"x": 1}}, "table[...]: must be a table"),
        ({"table": {"x": {}}}, "table[...]: name is missing"),
        ({"table": {"x": {"name": "x", "nam": 1}}}, "table[...]: unknown setting `nam`"),
        ({"cuont": 1}, "unknown setting `cuont`"),
        ({"mode": "c"}, "mode: Invalid enum value 'c'"),
    ],
    ids=str,
)
def test_each_sentence_is_known(given, sentence):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert(given, Outer)
    assert plain_words(str(caught.value)) == sentence


def test_a_variable_is_named_as_it_is_typed():
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.convert({"count": "x"}, Outer)
    assert plain_words(str(caught.value), "BATCHER_") == "BATCHER_COUNT: must be a whole number"


def test_an_unknown_sentence_comes_back_as_it_is():
    assert plain_words("Something new - at `$.a.b`") == "a.b: Something new"
