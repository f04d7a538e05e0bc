"""Text from a database made safe for people, terminals and spreadsheets; numbers as words."""

import re
from typing import Final

from batcher.report.query import moment_of

# C0 and C1 controls, line and paragraph separators, bidirectional overrides and isolates, zero
# width characters: a model's text must not steer a terminal or pretend to be another name.
_UNSAFE: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
NOTHING_HERE: Final = "Nothing was sent, so there is nothing to report."
SIMULATED_LEFT_OUT: Final = (
    "Simulated: this database also holds charges of a simulated endpoint; they are not real"
    " money and in no line of this report."
)
SIMULATED_ONLY: Final = (
    "Simulated: all of these charges are of a simulated endpoint; nobody was billed."
)
_FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def safe_text(text: str) -> str:
    """`text` on one line without characters that steer a terminal; each becomes a space."""
    return _UNSAFE.sub(" ", text)


def csv_text(text: str) -> str:
    """`text` as a cell that no spreadsheet runs: a quote goes before a formula's sign."""
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def shorten(text: str, length: int) -> str:
    """`text` in at most `length` characters, the last of them `…` when something is missing."""
    return text if len(text) <= length else text[: length - 1] + "…"


def count_of(number: int, noun: str, nouns: str | None = None) -> str:
    """A number with its noun: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def moment_text(moment_us: int) -> str:
    """ISO 8601 UTC to the second, ending in Z."""
    return moment_of(moment_us).strftime("%Y-%m-%dT%H:%M:%SZ")
