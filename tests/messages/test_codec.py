"""What a decoder raises changes with its version; what is wrong with the bytes does not."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batcher.messages.codec import CODEC_ERRORS, broken_utf8

NOT_UTF8 = [b"\xff", b"\xed\xa0\x80", b"\xc3\x28", b"\xc0\xaf", b"\xf5\x80\x80\x80"]
NUMBERS = [b"1e999", b"9" * 5000]
DEEP = b"[" * 100_000


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b'"\\ud800"', DEEP, *NUMBERS, *(b'"' + bad + b'"' for bad in NOT_UTF8)],
    ids=lambda text: repr(text[:20]),
)
def test_whatever_json_a_decoder_refuses_is_caught(text):
    with pytest.raises(CODEC_ERRORS):
        msgspec.json.decode(text)


@pytest.mark.parametrize("payload", [b"", b"\xc4", b"\xa1\xff", b"\x91" * 100_000])
def test_whatever_message_pack_a_decoder_refuses_is_caught(payload):
    with pytest.raises(CODEC_ERRORS):
        msgspec.msgpack.decode(payload)


@pytest.mark.parametrize("value", ["\ud800", 2**70])
def test_whatever_value_an_encoder_refuses_is_caught(value):
    with pytest.raises(CODEC_ERRORS):
        msgspec.msgpack.encode(value)


@pytest.mark.parametrize("bad", NOT_UTF8)
def test_broken_utf8_is_told_by_its_place(bad):
    assert broken_utf8(b'{"a": "' + bad + b'"}').endswith("(byte 7)")


@given(st.binary())
def test_what_is_not_broken_can_be_read(data):
    assert (broken_utf8(data) is None) == (data.decode("utf-8", "replace").encode() == data)
