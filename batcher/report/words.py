"""How reports say things: text made safe, numbers as words, sentences below the numbers.

Text from a database is made safe for people, terminals and spreadsheets. The sentences are
equal in every format.
"""

import re
from collections.abc import Sequence
from typing import Final

from batcher.clock import moment_of
from batcher.outputs import STEERING, no_formula
from batcher.pricing.money import format_usd
from batcher.report.figures import ChargeReason, Counts, Report
from batcher.report.query import ReportQuery

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


_REASONS_SHOWN: Final = 5


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


def moment_words(moment_us: int | None) -> str | None:
    """ISO 8601 with a Z, to the microsecond where there are any."""
    if moment_us is None:
        return None
    return moment_of(moment_us).isoformat().replace("+00:00", "Z")


def sentences(report: Report) -> tuple[str, ...]:
    """What the numbers alone do not tell, in fixed order."""
    counts = report.total.counts
    said = (
        window_sentence(report.query),
        "" if report.lines else NOTHING_HERE,
        in_doubt_sentence(counts),
        _unpriced(counts, report.unpriced),
        _assumed(counts, report.assumed),
        maybe_billed_sentence(counts),
        _adjusted(report),
        SIMULATED_LEFT_OUT if report.simulated_left_out else "",
        SIMULATED_ONLY if report.simulated_only else "",
        _footer(report),
        _reconciled(report),
    )
    return tuple(safe_text(sentence) for sentence in said if sentence)


def _footer(report: Report) -> str:
    """What the numbers rest on: events, how many have a price, and whose prices."""
    counts = report.total.counts
    if not counts.attempts:
        return ""
    books = ", ".join(report.price_books) or "none"
    return (
        f"Events: {count_of(counts.attempts, 'attempt')}, {count_of(counts.answers, 'answer')}:"
        f" {counts.answers - counts.unpriced_requests:,} with a cost,"
        f" {counts.unpriced_requests:,} unpriced. Prices: {books}."
    )


def _reconciled(report: Report) -> str:
    """How far it was held against the provider's bill; empty for a run."""
    adjusted = report.adjusted
    if adjusted is None or not report.total.counts.attempts:
        return ""
    if adjusted.last is None:
        return "Reconciliation: none recorded."
    first, last, (at, name) = adjusted.days[0], adjusted.days[-1], adjusted.last
    return (
        f"Reconciliation: {count_of(len(adjusted.days), 'day')}, {first} to {last},"
        f" {count_of(adjusted.entries, 'adjustment')}, the last by {name} at {moment_text(at)}."
    )


def _adjusted(report: Report) -> str:
    """What was recorded beside the charges, and why; empty without adjustments."""
    adjusted = report.adjusted
    if adjusted is None or not adjusted.entries:
        return ""
    why = "; ".join(
        f"{cause} {format_usd(amount)} ({entries:,})"
        for cause, entries, amount in adjusted.causes
    )
    return (
        f"Adjustments: {format_usd(adjusted.amount)} billed beside these charges, not in the"
        f" lines: {why}. As billed: {format_usd(report.adjusted_total)}."
    )


def in_doubt_sentence(counts: Counts) -> str:
    """What may have been billed without our knowing; empty when nothing is in doubt."""
    if not counts.in_doubt_attempts:
        return ""
    still = f" ({counts.open_attempts:,} still open)" if counts.open_attempts else ""
    return (
        f"In doubt: {count_of(counts.in_doubt_attempts, 'attempt')}{still} may have been billed"
        f" without an answer here: {in_doubt_range(counts)}, not in the cost."
    )


def in_doubt_range(counts: Counts) -> str:
    """What is in doubt may have cost, from and to: `$0.00 to $0.84`."""
    low = format_usd(counts.in_doubt_low)
    if counts.in_doubt_unbounded:
        unbounded = count_of(counts.in_doubt_unbounded, "attempt")
        return f"at least {low}, without an upper bound for {unbounded}"
    return f"{low} to {format_usd(counts.in_doubt_high)}"


def window_sentence(query: ReportQuery) -> str:
    """From when to when; empty for everything."""
    since = f" from {moment_text(query.since)}" if query.since is not None else ""
    until = f" before {moment_text(query.until)}" if query.until is not None else ""
    if query.first_invocation is not None:
        return f"Sent by run {query.run} in invocation {query.first_invocation} and later."
    return f"Sent{since}{until}." if since or until else ""


def _unpriced(counts: Counts, reasons: tuple[ChargeReason, ...]) -> str:
    if not counts.unpriced_requests:
        return ""
    answers = count_of(counts.unpriced_requests, "answer")
    one = counts.unpriced_requests == 1
    are = "has no price and is" if one else "have no price and are"
    tokens = count_of(counts.unpriced_tokens, "token")
    return f"Unpriced: {answers} ({tokens}) {are} not in the cost{_why(reasons)}."


def _assumed(counts: Counts, reasons: tuple[ChargeReason, ...]) -> str:
    if not counts.assumed_charges:
        return ""
    rest = "rests" if counts.assumed_charges == 1 else "rest"
    charges = count_of(counts.assumed_charges, "charge")
    low, high = format_usd(counts.assumed_low), format_usd(counts.assumed_high)
    return (
        f"Assumed: {charges} {rest} on an assumption, {low} (in the cost) to {high}"
        f"{_why(reasons)}."
    )


def maybe_billed_sentence(counts: Counts) -> str:
    """What refused attempts may have cost; empty where the provider does not bill them."""
    if not counts.maybe_billed_attempts:
        return ""
    high = format_usd(counts.maybe_billed_high)
    unbounded = counts.maybe_billed_unbounded
    if unbounded:
        high += f", without an upper bound for {count_of(unbounded, 'attempt')}"
    refused = count_of(counts.maybe_billed_attempts, "refused attempt")
    return f"Refused: {refused} may have been billed even so: $0.00 to {high}, not in the cost."


def _why(reasons: tuple[ChargeReason, ...]) -> str:
    shown = [_reason(reason) for reason in reasons[:_REASONS_SHOWN]]
    if len(reasons) > _REASONS_SHOWN:
        shown.append(count_of(len(reasons) - _REASONS_SHOWN, "further reason"))
    return f": {'; '.join(shown)}" if shown else ""


def _reason(reason: ChargeReason) -> str:
    words = reason.text.replace("_", " ").replace("+", " and ")
    of_model = f" {reason.model}" if reason.model else ""
    return f"{words}{of_model} ({reason.charges:,})"
