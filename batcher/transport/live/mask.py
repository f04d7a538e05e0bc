"""Takes the key out of what a server repeats: replies are recorded, keys never are."""

import re
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDict

from batcher.transport.endpoint import Secret

_SHORTEST: Final = 16  # shorter words may stand in an answer by themselves
_MASK: Final = "[key]"


class Mask:
    """Replaces keys by `[key]`, wherever a server puts them; without a key changes nothing."""

    def __init__(self, *secrets: Secret | None) -> None:
        values = {secret.reveal() for secret in secrets if secret}
        self._keys = sorted((v for v in values if len(v) >= _SHORTEST), key=len, reverse=True)
        self._bytes = [key.encode() for key in self._keys]
        spelled = (b"".join(map(_in_json, key)) for key in self._bytes)
        self._escaped = re.compile(b"|".join(spelled))

    def data(self, value: bytes) -> bytes:
        """A body without the key, also where JSON escapes stand for characters of it."""
        if not self._keys:
            return value
        for key in self._bytes:
            value = value.replace(key, _MASK.encode())
        if b"\\u00" in value or b"\\/" in value:
            return self._escaped.sub(_MASK.encode(), value)
        return value

    def text(self, value: str) -> str:
        """Words without the key."""
        for key in self._keys:
            value = value.replace(key, _MASK)
        return value

    def headers(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Headers without the key; the same object when it is in none."""
        values = list(headers.values())
        if not any(key in value for key in self._keys for value in values):
            return headers
        return CIMultiDict((name, self.text(value)) for name, value in headers.items())


def _in_json(byte: int) -> bytes:
    """A pattern for the ASCII character in all its spellings in JSON."""
    digits = b"".join(b"[%c%c]" % (each, ord(chr(each).upper())) for each in b"%02x" % byte)
    plain = rb"\\?/" if byte == ord("/") else re.escape(bytes([byte]))
    return rb"(?:%b|\\u00%b)" % (plain, digits)
