"""The hash that names what is asked."""

import json
import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.ledger.write.records import identity
from batcher.messages.request import json_pieces, params_hash

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=10,
)
PARAMS = st.dictionaries(TEXT, JSON, max_size=5)


def shuffled(value, seed):
    if isinstance(value, dict):
        names = sorted(value)
        random.Random(seed).shuffle(names)
        return {name: shuffled(value[name], seed) for name in names}
    return [shuffled(item, seed) for item in value] if isinstance(value, list) else value


@given(PARAMS, st.integers())
def test_order_blanks_and_escapes_do_not_change_the_hash(params, seed):
    again = json.loads(json.dumps(shuffled(params, seed), ensure_ascii=True, indent=3))
    assert params_hash(again) == params_hash(params)


@given(PARAMS, PARAMS)
def test_different_bodies_have_different_hashes(one, other):
    one.pop("stream", None)
    other.pop("stream", None)
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (params_hash(one) == params_hash(other)) == same


@given(PARAMS, st.booleans())
def test_streaming_does_not_change_the_hash(params, stream):
    params.pop("stream", None)
    assert params_hash({**params, "stream": stream}) == params_hash(params)


@given(PARAMS, st.lists(TEXT.filter(bool), min_size=1, max_size=3, unique=True))
def test_betas_change_the_hash_and_their_order_does_not(params, betas):
    assert params_hash(params, tuple(betas)) != params_hash(params)
    assert params_hash(params, tuple(betas)) == params_hash(params, tuple(reversed(betas)))


@given(st.binary(min_size=16, max_size=16), TEXT.filter(bool))
def test_an_identity_fits_64_signed_bits_and_depends_on_the_custom_id(hashed, custom_id):
    named = identity(custom_id, hashed)
    assert -(2**63) <= named < 2**63
    assert named != identity(None, hashed)
    assert named == identity(custom_id, hashed)


@given(PARAMS)
def test_a_large_body_has_the_same_name_as_if_it_were_hashed_at_once(params):
    assert params_hash(params, is_large=True) == params_hash(params)


@pytest.mark.parametrize("character", ["a", '"', "\\", "\n", "\x01", "é", "🙂", "\u2028"])
def test_a_text_of_many_pieces_is_escaped_as_a_whole_one(character):
    params = {"messages": [{"role": "user", "content": character * 200_001}]}
    assert params_hash(params, is_large=True) == params_hash(params)


@given(JSON)
def test_pieces_are_the_text_that_the_encoder_writes_at_once(value):
    assert b"".join(json_pieces(value)) == msgspec.json.encode(value)


def test_long_texts_come_in_pieces_and_mean_the_same():
    value = {"b": 'wide \U0001f600 \\ " \n' * 100_000, "a": ["x" * 300_000, {}]}
    pieces = [*json_pieces(value)]
    assert len(pieces) > 10
    assert b"".join(pieces) == msgspec.json.encode(value)
