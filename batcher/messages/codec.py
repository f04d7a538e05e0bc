"""What msgspec cannot read or write, told apart without asking its version.

Its exceptions change: broken UTF-8 raised `UnicodeDecodeError` up to 0.22 and `DecodeError`
from 0.23 on, and `DecodeError` became a `ValueError` with 0.21. So whoever decodes what others
wrote catches `CODEC_ERRORS`, and whoever needs to know what is wrong looks at the bytes.

Also how much a JSON text holds, told before it is read. A value costs a hundred times its text
when that is `{}`, so texts of others are counted before they become objects.
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
