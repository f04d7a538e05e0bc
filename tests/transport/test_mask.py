"""What a server repeats of the key is never recorded, however it spells it."""

import base64
import json
from dataclasses import replace
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from batcher.errors import ConfigurationError
from batcher.transport.endpoint import Endpoint, Secret, check_url, hidden_parts, shown_url
from batcher.transport.live.mask import Mask
from batcher.transport.proxy import route_to

KEY = "sk-live/9+A=z_canary"
MASK = Mask(Secret(KEY))
SHORT = "pw-9/Az+"


@given(st.text(), st.text(), st.sets(st.integers(0, len(KEY) - 1)), st.booleans())
def test_a_key_is_found_in_all_spellings_of_json(before, after, escaped, upper):
    spelled = "".join(
        (f"\\u{ord(char):04X}" if upper else f"\\u{ord(char):04x}") if at in escaped else char
        for at, char in enumerate(KEY)
    )
    for form in (spelled, spelled.replace("/", "\\/")):
        body = f'"{json.dumps(before)[1:-1]}{form}{json.dumps(after)[1:-1]}"'.encode()
        assert json.loads(MASK.data(body)) == before + "[key]" + after


def percent(text, *, all_of_it):
    return "".join(f"%{ord(c):02X}" for c in text) if all_of_it else quote(text, safe="")


def forms(key, before=""):
    data = (before + key).encode()
    return {
        "plain": before + key,
        "hex": data.hex(),
        "base64": base64.b64encode(data).decode(),
        "urlsafe": base64.urlsafe_b64encode(data).decode(),
        "percent": before + percent(key, all_of_it=False),
        "percents": percent(before + key, all_of_it=True),
        "json": before + key.replace("/", "\\/"),
    }


@pytest.mark.parametrize("case", [str, str.upper, str.lower, str.swapcase])
@pytest.mark.parametrize("form", forms(KEY))
@pytest.mark.parametrize("before", ["", "u", "me", "me:", "user:"])
def test_errors_lose_every_form_of_the_key_in_any_case(form, case, before):
    spelled = case(forms(KEY, before)[form])
    shown = MASK.text(f"refused ({spelled}).")
    kept = shown.replace("[key]", "")
    assert "[key]" in shown
    assert len(kept) <= len("refused ().") + 12 + 4 * len(before), shown


@given(st.integers(0, len(KEY) - 12), st.integers(12, len(KEY)), st.text(), st.text())
@example(0, 20, "\u0130", "")
def test_errors_lose_every_part_of_twelve_characters(first, length, before, after):
    part = KEY[first : first + length]
    shown = MASK.text(f"{before}{part}{after}")
    assert not any(KEY[at : at + 12] in shown for at in range(len(KEY) - 11))
    assert "[key]" in shown


@given(st.text(alphabet="abcdef \u00e9%\\", max_size=60))
def test_other_words_stay_as_they_are(text):
    assert MASK.text(text) == text


@pytest.mark.parametrize("form", forms(SHORT))
def test_a_short_key_is_hidden_as_a_whole_word(form):
    mask, spelled = Mask(Secret(SHORT)), forms(SHORT)[form]
    assert mask.text(f"got {spelled.upper()}.") in {"got [key].", "got [key]=."}
    assert mask.text(f"got x{spelled}9") == f"got x{spelled}9"


def test_a_very_short_key_is_not_hidden():
    assert Mask(Secret("EMPTY12")).text("EMPTY12") == "EMPTY12"


def test_an_answer_loses_the_key_as_it_was_sent_only():
    for form in forms(KEY).values():
        if form not in {KEY, KEY.replace("/", "\\/")}:
            assert MASK.data(form.encode()) == form.encode()
    assert Mask(Secret(SHORT)).data(SHORT.encode()) == SHORT.encode()


def test_what_is_not_the_key_stays_as_it_came():
    body = rb'{"a": "\u00e9 \/ sk-live\/9+A=z_canar"}'
    assert MASK.data(body) is body
    assert Mask(None).data(body) is body
    assert Mask(Secret("short")).data(b"short") == b"short"


def test_words_lose_it_too():
    assert MASK.text(f"bad key {KEY}!") == "bad key [key]!"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://h.example/v1", "https://h.example/v1"),
        ("https://me:pa/s@s@h.example/v1", "https://h.example/v1"),
        ("https://h/v1?key=canary&api-version=2026-01-01", "https://h/v1?key=***&api-version=2026-01-01"),
        ("https://h/v1?canary", "https://h/v1?***"),
        ("me:canary@h", "h"),
    ],
)  # fmt: skip
def test_an_address_is_shown_without_its_secrets(url, shown):
    assert shown_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "https://me:canary@h.example", "https://me:can/ary@h", "https://me:canary@h:port",
        "ftp://me:canary@h", "me:canary@h", "http://h.example?key=canary", "https://[canary",
    ],
)  # fmt: skip
def test_a_wrong_address_is_refused_without_repeating_its_password(url):
    with pytest.raises(ConfigurationError) as refused:
        check_url(Endpoint(name="e", base_url=url))
    assert "canary" not in str(refused.value)
    assert "can/" not in str(refused.value)


def test_values_in_an_address_are_hidden_as_a_key_is():
    endpoint = Endpoint(name="e", base_url="https://h/v1?key=canary-canary-canary")
    mask = Mask(*hidden_parts(endpoint))
    assert mask.text("no key=canary-canary-canary here") == "no key=[key] here"
    other = replace(endpoint, base_url="https://h/v1?api-version=2026-01-01-preview")
    assert hidden_parts(other) == ()


@pytest.mark.parametrize(
    "password", ["canary-canary-canary", "can/ary:9", "c%2Fanary-ca%40nar"]
)
def test_a_password_of_a_proxy_is_hidden_as_it_is_and_as_it_is_sent(password):
    route = route_to("https://h", f"http://me:{quote(password, safe='')}@proxy:3128", {})
    mask = Mask(*hidden_parts(Endpoint(name="e", base_url="https://h", route=route)))
    sent = base64.b64encode(f"me:{password}".encode()).decode()
    assert mask.text(f"no {password} here") == "no [key] here"
    assert mask.text(f"no Basic {sent} here") in {"no [key] here", "no [key]= here"}
