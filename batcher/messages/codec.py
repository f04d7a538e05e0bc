"""What msgspec cannot read or write, told apart without asking its version.

Its exceptions change: broken UTF-8 raised `UnicodeDecodeError` up to 0.22 and `DecodeError`
from 0.23 on, and `DecodeError` became a `ValueError` with 0.21. So whoever decodes what others
wrote catches `CODEC_ERRORS`, and whoever needs to know what is wrong looks at the bytes.
"""

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
