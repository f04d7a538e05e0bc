"""Text from a database made safe for people, terminals and spreadsheets; numbers as words."""

import re
from collections.abc import Sequence
from typing import Final

from batcher.clock import moment_of
from batcher.outputs import STEERING, no_formula

# A model's text must not steer a terminal or pretend to be another name.
_UNSAFE: Final = re.compile(f"[{STEERING}]")
_BLANKS: Final = "\t\n\v\f\r\u2028\u2029"
NOTHING_HERE: Final = "Nothing was sent, so there is nothing to report."
SIMULATED_LEFT_OUT: Final = (
    "Simulated: this database also holds charges of a simulated endpoint; they are not real"
    " money and in no line of this report."
)
SIMULATED_ONLY: Final = (
    "Simulated: all of these charges are of a simulated endpoint; nobody was billed."
)


def safe_text(text: str) -> str:
    """`text` on one line; each character that steers a terminal becomes a visible sign."""
    return text if text.isprintable() and text.isascii() else _UNSAFE.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    number = ord(found[0])
    if found[0] in _BLANKS:
        return " "
    return chr(0x2400 + number) if number < 0x20 else "\u2421" if number == 0x7F else "\ufffd"


def csv_text(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: a quote goes before a formula's sign."""
    return no_formula(text)


def shorten(text: str, length: int) -> str:
    """`text` in at most `length` characters, the last of them `…` when something is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def shorten_apart(texts: Sequence[str], length: int) -> list[str]:
    """Each text in at most `length` characters, cut in its middle; different ones differ.

    The ends of long names are where they tell each other apart.
    """
    head = (length - 1) // 3
    seen: dict[str, set[str]] = {}
    short = []
    for text in texts:
        fits = text if len(text) <= length else f"{text[:head]}…{text[head + 1 - length :]}"
        alike = seen.setdefault(fits, set())
        alike.add(text)
        short.append(fits if len(alike) == 1 else f"{fits[: length - 4]} ({len(alike)})")
    return short


def count_of(number: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def moment_text(moment_us: int) -> str:
    """ISO 8601 UTC to the second, ending in Z."""
    return moment_of(moment_us).strftime("%Y-%m-%dT%H:%M:%SZ")
