"""What a server repeats of the key is never recorded, however it spells it."""

import json

from hypothesis import given
from hypothesis import strategies as st

from batcher.transport.endpoint import Secret
from batcher.transport.live.wire import Mask

KEY = "sk-live/9+A=z_canary"
MASK = Mask(Secret(KEY))


@given(st.text(), st.text(), st.sets(st.integers(0, len(KEY) - 1)), st.booleans())
def test_a_key_is_found_in_all_spellings_of_json(before, after, escaped, upper):
    spelled = "".join(
        (f"\\u{ord(char):04X}" if upper else f"\\u{ord(char):04x}") if at in escaped else char
        for at, char in enumerate(KEY)
    )
    for form in (spelled, spelled.replace("/", "\\/")):
        body = f'"{json.dumps(before)[1:-1]}{form}{json.dumps(after)[1:-1]}"'.encode()
        assert json.loads(MASK.data(body)) == before + "[key]" + after


def test_what_is_not_the_key_stays_as_it_came():
    body = rb'{"a": "\u00e9 \/ sk-live\/9+A=z_canar"}'
    assert MASK.data(body) is body
    assert Mask(None).data(body) is body
    assert Mask(Secret("short")).data(b"short") == b"short"


def test_headers_and_words_lose_it_too():
    assert MASK.text(f"bad key {KEY}!") == "bad key [key]!"
    assert dict(MASK.headers({"a": f"x{KEY}", "b": "c"})) == {"a": "x[key]", "b": "c"}
