"""Requests, answers and failures for people and for programs; a cost line by line."""

from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec

from batcher.clock import moment_of
from batcher.ledger.schema import NOT_KEPT
from batcher.messages.evidence import own_key
from batcher.messages.request import IN_DOUBT, State
from batcher.pricing.money import METERS, format_usd, rate_text, usd_text
from batcher.report.render.records import json_text, money
from batcher.report.request import FailureGroup, ListedAnswer, ListedFailure, StoredRequest
from batcher.report.search import (
    FoundAnswer,
    FoundAttempt,
    FoundFailure,
    Match,
    MeterAmount,
    PricedLine,
)
from batcher.report.views.costs import exact_usd
from batcher.report.words import count_of, moment_text, safe_text, shorten

SCHEMA: Final = "batcher.request/1"
ANSWERS_SCHEMA: Final = "batcher.answers/1"
FAILURES_SCHEMA: Final = "batcher.failures/1"
_TEXT_SHOWN: Final = 600
_PER: Final = {"web_search": "per thousand searches"}
_DOUBTFUL: Final = {*(state.value for state in IN_DOUBT), State.OPEN.value}


def render_request(request: StoredRequest) -> str:
    """Lines for a terminal; a long answer is shortened. Ends with a newline."""
    lines = [_title(request.match)]
    if request.failure is not None:
        lines += _failure_lines(request.failure)
    for attempt in request.attempts:
        lines += ["", *_attempt_lines(attempt, request)]
    return "".join(f"{safe_text(line)}\n" for line in lines)


def render_matches(matches: Iterable[Match]) -> str:
    """A line per request, with a name that finds it alone; ends with a newline."""
    return "".join(f"{safe_text(_title(match))}\n" for match in matches)


def request_json(request: StoredRequest) -> str:
    """One object with all that is known; amounts are exact text. Ends with a newline."""
    return _document({"request": _request_fields(request)})


def matches_json(matches: Iterable[Match]) -> str:
    """One object that lists several requests. Ends with a newline."""
    return _document({"matches": [_match_fields(match) for match in matches]})


def render_answers(listed: Sequence[ListedAnswer]) -> str:
    """Each answer whole, below a line that says whose it is; ends with a newline."""
    parts = []
    for answer in listed:
        name = f" {answer.custom_id}" if answer.custom_id is not None else ""
        tokens = f"{answer.input_tokens or 0:,} in, {answer.output_tokens or 0:,} out"
        parts.append(
            safe_text(
                f"# {answer.source}:{answer.row_number}{name} (run {answer.run_id},"
                f" {answer.model}, {answer.stop_reason}, {tokens}, {answer.answered_at})"
            )
        )
        parts += [*map(safe_text, answer.text.splitlines()), ""]
    return "".join(f"{part}\n" for part in parts[:-1]) or "no answers\n"


def answers_json(listed: Sequence[ListedAnswer]) -> str:
    """One object with the answers. Ends with a newline."""
    answers = [msgspec.to_builtins(answer) for answer in listed]
    return json_text({"schema": ANSWERS_SCHEMA, "answers": answers})


def render_failures(groups: Sequence[FailureGroup]) -> str:
    """Reasons with their rows below them, which say their run where there are several.

    Ends with a newline.
    """
    runs = {each.run_id for group in groups for each in group.first}
    lines = []
    for group in groups:
        lines.append(f"{group.kind} {group.reason}: {count_of(group.rows, 'row')}")
        lines += [f"  {_failure_line(each, tells_run=len(runs) > 1)}" for each in group.first]
        if group.rows > len(group.first):
            lines.append(f"  and {group.rows - len(group.first):,} more")
    lines = lines or ["no rows without an answer"]
    return "".join(f"{safe_text(line)}\n" for line in lines)


def _failure_line(failure: ListedFailure, *, tells_run: bool) -> str:
    known = [f"byte {failure.byte_offset:,}"] if failure.byte_offset is not None else []
    known += [f"run {failure.run_id}"] if tells_run else []
    at = f" ({', '.join(known)})" if known else ""
    name = f" {failure.custom_id}" if failure.custom_id is not None else ""
    return f"{failure.source}:{failure.row_number}{at}{name}: {failure.message}"


def failures_json(groups: Sequence[FailureGroup]) -> str:
    """One object with all groups. Ends with a newline."""
    found = [msgspec.to_builtins(group) for group in groups]
    return json_text({"schema": FAILURES_SCHEMA, "groups": found})


def _document(fields: dict[str, Any]) -> str:
    return json_text({"schema": SCHEMA, **fields})


def _title(match: Match) -> str:
    name = f" {match.custom_id}" if match.custom_id is not None else ""
    sent = "never sent" if match.opened_at is None else f"first {moment_text(match.opened_at)}"
    model = f", {match.requested_model}" if match.requested_model else ""
    return f"{match.source}:{match.row_number}{name} (run {match.run_id}{model}, {sent})"


def _failure_lines(failure: FoundFailure) -> list[str]:
    again = ", to be tried again" if failure.transient else ""
    offset = f" at byte {failure.byte_offset:,}" if failure.byte_offset is not None else ""
    return [f"{failure.kind}{again}{offset}: {failure.message} ({failure.reason})"]


def _attempt_lines(attempt: FoundAttempt, request: StoredRequest) -> list[str]:
    leg = f", leg {attempt.leg}" if attempt.leg > 1 else ""
    head = f"attempt {attempt.number}{leg} ({attempt.purpose}): {attempt.state}  {attempt.uid}"
    lines = [head, f"  {attempt.requested_model} by {attempt.endpoint}, lane {attempt.lane}"]
    lines.append(f"  {_times(attempt)}")
    status = (
        f"HTTP {attempt.http_status}" if attempt.http_status is not None else "no HTTP status"
    )
    named = f", request id {attempt.provider_request_id}" if attempt.provider_request_id else ""
    billed = f", workspace {attempt.workspace_id}" if attempt.workspace_id else ""
    lines.append(f"  {status}{named}{billed}")
    if attempt.error_type is not None:
        code = f" {attempt.error_code}" if attempt.error_code else ""
        lines.append(f"  {attempt.error_type}{code}: {attempt.error_message}")
    if _is_open(attempt):
        lines.append(f"  may have cost {_interval(attempt)}")
    if attempt.answer is not None:
        lines += _answer_lines(attempt.answer)
    for line in attempt.lines:
        lines += _price_lines(line, request.rate_sources.get((attempt.uid, line.line)))
    return lines


def _is_open(attempt: FoundAttempt) -> bool:
    """Whether it may have cost something that no charge tells."""
    maybe_billed = attempt.state == State.REJECTED.value and attempt.cost_high != 0
    return maybe_billed or attempt.state in _DOUBTFUL


def _times(attempt: FoundAttempt) -> str:
    sent = "not sent" if attempt.sent_at is None else f"sent {_moment(attempt.sent_at)}"
    if attempt.settled_at is None:
        return f"{sent}, still open"
    if attempt.sent_at is None:
        return f"{sent}, settled {_moment(attempt.settled_at)}"
    took = (attempt.settled_at - attempt.sent_at) // 1000
    return f"{sent}, settled after {took:,} ms"


def _interval(attempt: FoundAttempt) -> str:
    low = format_usd(attempt.cost_low)
    if attempt.cost_high is None:
        return f"{low} or more: there is no upper bound"
    return f"{low} to {format_usd(attempt.cost_high)}"


def _answer_lines(answer: FoundAnswer) -> list[str]:
    sequence = f" {answer.stop_sequence!r}" if answer.stop_sequence is not None else ""
    lines = [
        f"  served by {answer.model or 'an unnamed model'}, message {answer.message_id or '-'},"
        f" stop reason {answer.stop_reason or '-'}{sequence}",
        f"  usage {answer.usage or 'not reported'}",
        "  answer not kept: not stored, or purged"
        if answer.content == NOT_KEPT
        else f"  answer {shorten(answer.text, _TEXT_SHOWN)!r}",
    ]
    return lines + _reported_lines(answer)


def _reported_lines(answer: FoundAnswer) -> list[str]:
    """What the server stated as its cost, and what that is where it is not the whole."""
    reported, own = answer.provider_reported_cost, own_key(answer.usage)
    if own is not None:
        billed = own.upstream or "an amount that it does not tell"
        return [
            f"  the gateway says that its fee was {reported or 'not stated'}, and that the"
            f" provider bills {billed} for our own key"
        ]
    if reported is None:
        return []
    zero = ": what it bills itself, not a price" if exact_usd(reported) == 0 else ""
    return [f"  the provider says it cost {reported}{zero}"]


def _price_lines(line: PricedLine, rate_source: str | None) -> list[str]:
    reason = f": {line.reason.replace('_', ' ')}" if line.reason else ""
    model = f" {line.model}" if line.model else ""
    head = f"  usage line {line.line}{model}: {line.status}{reason}"
    meters = [f"    {_arithmetic(meter, line)}" for meter in line.meters if meter.quantity]
    book = f"    price book {line.price_book}, rating {line.rating_id}"
    if line.total is None or line.currency is None:
        return [head, *meters, book]
    return [
        head,
        *meters,
        f"    total {_exact(line.total, line.currency)}{_at_most(line)}",
        f"{book}, list {line.price_list}, {line.model_priced} {line.terms} from"
        f" {line.valid_from}",
        f"    source of the rates: {rate_source or 'not said'}",
    ]


def _at_most(line: PricedLine) -> str:
    if line.high == line.total or line.high is None or line.currency is None:
        return ""
    return f" at least, {_exact(line.high, line.currency)} at most"


def _arithmetic(meter: MeterAmount, line: PricedLine) -> str:
    if meter.rate is None or meter.amount is None or line.currency is None:
        return f"{meter.name} {meter.quantity:,}"
    rate = rate_text(meter.rate, METERS.index(meter.name))
    per = _PER.get(meter.name, "per million")
    return (
        f"{meter.name} {meter.quantity:,} x {rate} {line.currency} {per}"
        f" = {_exact(meter.amount, line.currency)}"
    )


def _exact(pico: int, currency: str) -> str:
    """Every digit: this is where an amount is checked by hand."""
    return f"{usd_text(pico)} {currency}"


def _request_fields(request: StoredRequest) -> dict[str, Any]:
    failure = request.failure
    return {
        **_match_fields(request.match),
        "failure": None
        if failure is None
        else {**msgspec.to_builtins(failure), "failed_at": _moment(failure.failed_at)},
        "attempts": [_attempt_fields(attempt, request) for attempt in request.attempts],
    }


def _match_fields(match: Match) -> dict[str, Any]:
    return {
        "run_id": match.run_id,
        "source": match.source,
        "row_number": match.row_number,
        "custom_id": match.custom_id,
        "requested_model": match.requested_model,
        "opened_at": _moment(match.opened_at),
    }


def _attempt_fields(attempt: FoundAttempt, request: StoredRequest) -> dict[str, Any]:
    in_doubt = _is_open(attempt)
    high = attempt.cost_high
    fields: dict[str, Any] = msgspec.to_builtins(attempt)
    return {
        **fields,
        **{name: _moment(fields[name]) for name in ("opened_at", "sent_at", "settled_at")},
        "cost_low": money(attempt.cost_low) if in_doubt else None,
        "cost_high": money(high) if in_doubt and high is not None else None,
        "answer": None if attempt.answer is None else _answer_fields(attempt.answer),
        "lines": [
            _line_fields(line, request.rate_sources.get((attempt.uid, line.line)))
            for line in attempt.lines
        ],
    }


def _answer_fields(answer: FoundAnswer) -> dict[str, Any]:
    usage = None if answer.usage is None else msgspec.Raw(answer.usage.encode())
    return {
        **msgspec.to_builtins(answer),
        "content": msgspec.Raw(answer.content.encode()),
        "usage": usage,
    }


def _line_fields(line: PricedLine, rate_source: str | None) -> dict[str, Any]:
    fields = msgspec.to_builtins(line)
    del fields["high"]
    return {
        **fields,
        "total": None if line.total is None else money(line.total),
        "at_most": None if line.high is None else money(line.high),
        "meters": [
            {
                "name": meter.name,
                "quantity": meter.quantity,
                "rate": None if meter.rate is None else money(meter.rate),
                "amount": None if meter.amount is None else money(meter.amount),
            }
            for meter in line.meters
        ],
        "rate_source": rate_source,
    }


def _moment(moment_us: int | None) -> str | None:
    if moment_us is None:
        return None
    return moment_of(moment_us).isoformat(timespec="microseconds").replace("+00:00", "Z")
