"""What a server repeats of a key is taken out before anything of it is recorded or shown.

In an answer only the key as it was sent: what was paid for is not changed otherwise. In errors,
headers and messages also its base64, percent and hexadecimal forms, in any case, and parts.
"""

import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Iterator
from typing import Final

from batcher.transport.endpoint import SHORTEST_HIDDEN, Secret

_WHOLE: Final = 16  # characters: a shorter key may stand in an answer by itself
_PART: Final = 12  # consecutive characters of a longer one, or of a form of it
_MASK: Final = "[key]"
_ESCAPED: Final = re.compile(r"%([0-9a-fA-F]{2})|\\u00([0-9a-fA-F]{2})|\\(/)|(.)", re.DOTALL)


class Mask:
    """Replaces keys by `[key]`, wherever a server puts them; without a key changes nothing.

    Keys of fewer than 8 characters are not hidden, those of fewer than 16 only as whole words,
    and never in an answer.
    """

    def __init__(self, *secrets: Secret | None) -> None:
        self._values: set[str] = set()
        self.add(*secrets)

    def add(self, *secrets: Secret | None) -> None:
        """From now on these are hidden too; those before them still are."""
        self._values |= {secret.reveal() for secret in secrets if secret}
        long = [value for value in self._values if len(value) >= _WHOLE]
        short = [v for v in self._values if SHORTEST_HIDDEN <= len(v) < _WHOLE]
        self._keys = sorted(long, key=len, reverse=True)
        self._bytes = [key.encode() for key in self._keys]
        spelled = (b"".join(map(_in_json, key)) for key in self._bytes)
        self._escaped = re.compile(b"|".join(spelled))
        forms = [form for key in self._keys for form in _forms(key)]
        self._parts = {f[at : at + _PART] for f in forms for at in range(len(f) - _PART + 1)}
        words = sorted({re.escape(form) for key in short for form in _forms(key)}, key=len)
        whole = rf"(?<![a-z0-9])(?:{'|'.join(reversed(words))})(?![a-z0-9])"
        self._words = re.compile(whole) if words else None

    def data(self, value: bytes) -> bytes:
        """An answer without the key, also where JSON escapes stand for characters of it."""
        if not self._keys:
            return value
        for key in self._bytes:
            value = value.replace(key, _MASK.encode())
        if b"\\u00" in value or b"\\/" in value:
            return self._escaped.sub(_MASK.encode(), value)
        return value

    def text(self, value: str) -> str:
        """Words about an error, or of a header, without any form of the key."""
        if not self._parts and self._words is None:
            return value
        if value.isascii() and not _is_escaped(value):
            low = value.lower()
            pieces = [low[at : at + _PART] for at in range(len(low) - _PART + 1)]
            words = self._words
            if self._parts.isdisjoint(pieces) and (words is None or not words.search(low)):
                return value  # as nearly always
        value = self._without(value, _lower(value))
        return self._without(value, *_unescaped(value)) if _is_escaped(value) else value

    def _without(
        self, value: str, seen: str, places: list[tuple[int, int]] | None = None
    ) -> str:
        """`value` without what is found in `seen`, whose characters stand at `places`."""
        parts, end = [], 0
        for first, last in _joined(self._found(seen)):
            start, stop = (places[first][0], places[last - 1][1]) if places else (first, last)
            parts += [value[end:start], _MASK]
            end = stop
        return "".join([*parts, value[end:]]) if parts else value

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Where a key begins and ends in `text`, which is in lower case."""
        for at in range(len(text) - _PART + 1):
            if text[at : at + _PART] in self._parts:
                yield at, at + _PART
        if self._words is not None:
            yield from (found.span() for found in self._words.finditer(text))


def _forms(key: str) -> Iterator[str]:
    """How a key may be written, in lower case; base64 also from within a longer text."""
    data = key.encode()
    yield key.lower()
    yield data.hex()
    for encode in (b64encode, urlsafe_b64encode):
        yield encode(data).decode().rstrip("=").lower()
        for before in (1, 2):  # what stands in front of it moves the borders
            whole = encode(bytes(before) + data).decode().rstrip("=").lower()
            yield whole[before + 1 : len(whole) - bool((before + len(data)) % 3)]


def _joined(spans: Iterator[tuple[int, int]]) -> list[tuple[int, int]]:
    """Spans in order, those that touch each other as one."""
    whole: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if whole and first <= whole[-1][1]:
            whole[-1] = (whole[-1][0], max(last, whole[-1][1]))
        else:
            whole.append((first, last))
    return whole


def _is_escaped(value: str) -> bool:
    return "%" in value or "\\u00" in value or "\\/" in value


def _unescaped(value: str) -> tuple[str, list[tuple[int, int]]]:
    """With the characters that percent signs and JSON's escapes stand for, and their places."""
    signs, places = [], []
    for found in _ESCAPED.finditer(value):
        percent, escape, slash, plain = found.groups()
        number = percent or escape
        signs.append(chr(int(number, 16)) if number else slash or plain)
        places.append(found.span())
    return _lower("".join(signs)), places


def _lower(text: str) -> str:
    """In lower case and as long: some letters would become two."""
    low = text.lower()
    return low if len(low) == len(text) else "".join(c.lower()[:1] for c in text)


def _in_json(byte: int) -> bytes:
    """A pattern for the ASCII character in all its spellings in JSON."""
    digits = b"".join(b"[%c%c]" % (each, ord(chr(each).upper())) for each in b"%02x" % byte)
    plain = rb"\\?/" if byte == ord("/") else re.escape(bytes([byte]))
    return rb"(?:%b|\\u00%b)" % (plain, digits)
