"""What a report says in words below its numbers; one sentence each, equal in every format."""

from typing import Final

from batcher.pricing.money import format_usd
from batcher.report.figures import ChargeReason, Counts, Report
from batcher.report.query import ReportQuery
from batcher.report.words import (
    NOTHING_HERE,
    SIMULATED_LEFT_OUT,
    SIMULATED_ONLY,
    count_of,
    moment_text,
    safe_text,
)

_REASONS_SHOWN: Final = 5


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
