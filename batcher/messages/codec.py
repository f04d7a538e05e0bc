"""What msgspec cannot read or write, told apart without asking its version.

Its exceptions change: broken UTF-8 raised `UnicodeDecodeError` up to 0.22 and `DecodeError`
from 0.23 on, and `DecodeError` became a `ValueError` with 0.21. So whoever decodes what others
wrote catches `CODEC_ERRORS`, and whoever needs to know what is wrong looks at the bytes.
"""

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
