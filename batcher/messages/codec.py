"""What msgspec cannot read or write, told apart without asking its version.

Its exceptions change: broken UTF-8 raised `UnicodeDecodeError` up to 0.22 and `DecodeError`
from 0.23 on, and `DecodeError` became a `ValueError` with 0.21. So whoever decodes what others
wrote catches `CODEC_ERRORS`, and whoever needs to know what is wrong looks at the bytes.

Also how much a JSON text holds, told before it is read. A value costs a hundred times its text
when that is `{}`, so texts of others are counted before they become objects. And how large an
image is, by its header.
"""

import re
from codecs import getincrementaldecoder
from typing import Final

import msgspec

# Raised for data, never for a mistake in our code, which is a `TypeError`.
CODEC_ERRORS: Final = (msgspec.MsgspecError, ValueError, OverflowError, RecursionError)


def broken_utf8(data: bytes) -> str | None:
    """Why and where `data` is not UTF-8; `None` when it is."""
    try:
        data.decode()
    except UnicodeDecodeError as exc:
        return f"{exc.reason} (byte {exc.start})"
    return None


AT_ONCE: Final = 2**20


def check_utf8(data: bytes) -> None:
    """Return if `data` is UTF-8, else raise `UnicodeDecodeError`; for data beyond `AT_ONCE`.

    Decoded in one piece, text with one wide character takes four times its bytes in memory.
    """
    decoder = getincrementaldecoder("utf-8")()
    whole = memoryview(data)
    for start in range(0, len(data), AT_ONCE):
        decoder.decode(whole[start : start + AT_ONCE])
    decoder.decode(b"", final=True)


# One answer, as it is kept. Words alone end far below: 300,000 tokens are about 1.5 MB; what
# server tools fetched may come with them.
ANSWER_LIMIT: Final = 16 * 2**20
MOST_PARTS: Final = 250_000  # of an answer's content, or of a row
MOST_PARTS_OF_EVENT: Final = 50_000  # also of an error, and of what a tool is called with
MOST_TEXT: Final = 4 * 2**20  # characters of an answer; a wide one makes each of them 4 bytes
MOST_BLOCKS: Final = 10_000  # of an answer's content
MOST_ITERATIONS: Final = 1_000  # of its usage: each becomes a charge
USAGE_LIMIT: Final = 2**18  # bytes of its text

_COMMA: Final = ord(",")
# Possessive, and content with a string that never ends: no text makes it look at a byte twice.
_TOKENS: Final = re.compile(rb'(?s),|"(?:[^"\\]++|\\.)*+"?')


def has_more_parts(text: bytes, most: int) -> bool:
    """Whether the JSON in `text` has more than `most` values, names not counted.

    A part needs a comma before it, so most texts are told by counting these; only where they
    are many, words of prose perhaps, those inside of strings are left out.
    """
    if text.count(b",") < most:
        return False
    parts = 1
    for token in _TOKENS.finditer(text):
        if text[token.start()] == _COMMA:
            parts += 1
            if parts > most:
                return True
    return False


_STARTS: Final = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # of a frame, in JPEG
_ALONE: Final = {0x01, *range(0xD0, 0xD9)}  # markers that no length follows


def sides_of(data: bytes, media_type: str) -> tuple[int, int] | None:
    """Width and height in pixels; `None` where the header does not tell."""
    match media_type:
        case "image/png" if data[:4] == b"\x89PNG":
            return _numbers(data[16:20], data[20:24], "big")
        case "image/gif" if data[:4] == b"GIF8":
            return _numbers(data[6:8], data[8:10], "little")
        case "image/jpeg":
            return _of_jpeg(data)
        case "image/webp":
            return _of_webp(data)
        case _:
            return None


def _numbers(width: bytes, height: bytes, order: str) -> tuple[int, int]:
    is_big = order == "big"
    return (
        int.from_bytes(width, "big" if is_big else "little"),
        int.from_bytes(height, "big" if is_big else "little"),
    )


def _of_jpeg(data: bytes) -> tuple[int, int] | None:
    """From segment to segment, up to the first that starts a frame."""
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker in _STARTS:
            return _numbers(data[at + 7 : at + 9], data[at + 5 : at + 7], "big")
        if marker == 0xFF:  # padding
            at += 1
        elif marker in _ALONE:
            at += 2
        else:
            at += 2 + max(int.from_bytes(data[at + 2 : at + 4], "big"), 2)
    return None


def _of_webp(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X":
        width, height = _numbers(data[24:27], data[27:30], "little")
        return width + 1, height + 1
    if chunk == b"VP8L" and data[20:21] == b"\x2f":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = _numbers(data[26:28], data[28:30], "little")
        return width & 0x3FFF, height & 0x3FFF
    return None
