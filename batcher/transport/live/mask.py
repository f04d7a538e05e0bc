"""Takes the key out of what a server repeats: replies are recorded, keys never are."""

import re
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from batcher.transport.endpoint import Secret

_SHORTEST: Final = 16  # shorter words may stand in an answer by themselves
_MASK: Final = "[key]"


class Mask:
    """Replaces the key by `[key]`, wherever a server puts it; without a key changes nothing."""

    def __init__(self, key: Secret | None) -> None:
        value = key.reveal() if key else ""
        self._key = value if len(value) >= _SHORTEST else ""
        self._bytes = self._key.encode()
        self._escaped = re.compile(b"".join(map(_in_json, self._bytes)))

    def data(self, value: bytes) -> bytes:
        """A body without the key, also where JSON escapes stand for characters of it."""
        if not self._key:
            return value
        value = value.replace(self._bytes, _MASK.encode())
        if b"\\u00" in value or b"\\/" in value:
            return self._escaped.sub(_MASK.encode(), value)
        return value

    def text(self, value: str) -> str:
        """Words without the key."""
        return value.replace(self._key, _MASK) if self._key else value

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Headers without the key; the same object when it is in none."""
        if not self._key or not any(self._key in value for value in headers.values()):
            return headers
        return CIMultiDict((name, self.text(value)) for name, value in headers.items())


def _in_json(byte: int) -> bytes:
    """A pattern for the ASCII character in all its spellings in JSON."""
    digits = b"".join(b"[%c%c]" % (each, ord(chr(each).upper())) for each in b"%02x" % byte)
    plain = rb"\\?/" if byte == ord("/") else re.escape(bytes([byte]))
    return rb"(?:%b|\\u00%b)" % (plain, digits)
