"""The rows of an input as an export writes them, with what became of them.

In one run or in several side by side; as lines of the results of a Message Batch; or, without
an answer, as they came: to be mended and run.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine

from batcher.errors import StorageError, UsageError
from batcher.messages.failure import FailureKind
from batcher.report.export.rows import (
    ANSWER_NOT_KEPT,
    ANSWERED,
    ExportSource,
    Position,
    read_failed,
    read_outcomes,
    read_sources,
)
from batcher.report.export.stored import (
    OF_THE_ROW,
    REASON,
    RESULT_COLUMNS,
    STATUS,
    UNREADABLE,
    Cells,
    Outcome,
    without_answer,
)
from batcher.rows.out.typed import CellKind
from batcher.rows.read.reader import original_columns, original_lines
from batcher.rows.read.source import fingerprint, location_of, source_of

TO_DO: Final = "to_do"
_INTEGERS: Final = (
    "row_number", "input_tokens", "cache_write_tokens", "cache_write_5m_tokens",
    "cache_write_1h_tokens", "cache_read_tokens", "output_tokens", "thinking_tokens",
    "web_search_requests", "attempts", "legs", "latency_ms", "first_token_ms",
)  # fmt: skip

RESULT_KINDS: Final[Mapping[str, CellKind]] = {
    **dict.fromkeys(RESULT_COLUMNS, CellKind.TEXT),
    **dict.fromkeys(_INTEGERS, CellKind.INTEGER),
    "content": CellKind.JSON,
    "answered_at": CellKind.TIME,
    "cost": CellKind.MONEY,
}
_OF_RUNS: Final = RESULT_COLUMNS[OF_THE_ROW:]

Warn = Callable[[str], None]
Row = tuple[dict[str, Any], Cells]  # its own columns, and the cells of the declared ones


_number = itemgetter(0)
_LAST: Final = 2**63
_END: Final[Outcome] = (_LAST, ())
_Parts = Sequence[Cells | None]  # what became of a row in each run
_NO_MORE: Final[tuple[int | None, Cells]] = (None, ())
_UNTOUCHED: Final = without_answer(TO_DO, None, None)
RESULT_LINE: Final = ("custom_id", "result")
# What the provider calls an error; whatever else ended a row is an `api_error`.
_ERROR_TYPES: Final = frozenset(
    (
        *("invalid_request_error", "authentication_error", "billing_error", "permission_error"),
        *("not_found_error", "rate_limit_error", "timeout_error", "overloaded_error"),
        "api_error",
    )
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportedRun:
    """A run to export; its columns begin with `prefix`, which is empty where it is alone."""

    run_id: int
    prefix: str = ""


def declared_columns(runs: Sequence[ExportedRun]) -> dict[str, CellKind]:
    """What every row has: its place, then the columns of each run."""
    of_row = {name: RESULT_KINDS[name] for name in RESULT_COLUMNS[:OF_THE_ROW]}
    return of_row | {
        f"{run.prefix}{name}": RESULT_KINDS[name] for run in runs for name in _OF_RUNS
    }


def inputs_of(
    engine: Engine, runs: Sequence[ExportedRun], only: Collection[int] | None
) -> list[dict[str, ExportSource]]:
    """Each input with how the runs read it, by their prefixes."""
    found: dict[str | int, dict[str, ExportSource]] = {}
    for run in runs:
        for each in read_sources(engine, run.run_id):
            if only is None or each.source_id in only:
                place = location_of(each.place) if len(runs) > 1 else each.source_id
                found.setdefault(place, {})[run.prefix] = each
    return list(found.values())


@dataclass(slots=True)
class Counted:
    """What is written of so many runs, and what is not to be had any more."""

    runs: int
    rows: int = 0
    answered: int = 0
    wordless: int = 0
    lost: dict[str, list[int]] = field(default_factory=dict)

    def take(self, chunk: list[Row], *, answered_only: bool) -> list[Row]:
        """Those of `chunk` that are to be written."""
        ready = chunk
        before = [run * len(_OF_RUNS) for run in range(self.runs)]
        for status in (each + STATUS for each in before):
            ready = [row for row in ready if row[1][status] == ANSWERED]
            for _, cells in chunk:
                if cells[status] == UNREADABLE:
                    self.lost.setdefault(cells[1], []).append(cells[2])
        chosen = ready if answered_only else chunk
        self.rows += len(chosen)
        self.answered += len(ready)
        for reason in (each + REASON for each in before):
            self.wordless += sum(cells[reason] == ANSWER_NOT_KEPT for _, cells in chosen)
        return chosen


def rows_of(
    engine: Engine,
    found: Mapping[str, ExportSource],
    position: Position,
    declared: Collection[str],
    warn: Warn,
) -> Iterator[Row]:
    """The rows of one input, in order; `found` is how each run read it, by its prefix.

    Their own columns, and the cells of the `declared` ones.
    """
    source = _same_file(found)
    problem = why_changed(source)
    if problem is not None:
        warn(f"{source.name}: {problem}, so its rows come without their own columns")
    unread = _Unread()
    own: Iterator[tuple[int, dict[str, Any]]] = (
        iter(())
        if problem
        else original_columns(source_of(source.name, source.place), unread.add)
    )
    outcomes = [read_outcomes(engine, each, position) for each in found.values()]
    taken, name = frozenset(declared), source.name
    for number, fields, parts in _joined(own, _side_by_side(outcomes), len(found)):
        custom_id = fields.pop("custom_id", None)
        mine = fields if taken.isdisjoint(fields) else _own(fields, taken)
        for part in parts:
            if part is not None and part[0] is not None:
                custom_id = part[0]
                break
        of_runs = chain.from_iterable(
            [(_UNTOUCHED if part is None else part)[OF_THE_ROW:] for part in parts]
        )
        yield mine, (custom_id, name, number, *of_runs)
    if unread.first:
        what = f"{unread.count:,} values of its own are left empty"
        warn(f"{source.name}: {what}: {unread.first}")
    if problem is None and why_changed(source) is not None:
        raise StorageError(f"{source.name}: changed while it was exported; export it again")


def own_columns(
    found: Mapping[str, ExportSource], declared: Mapping[str, CellKind]
) -> Iterator[Mapping[str, Any]]:
    """The rows' own columns, under the names that an export has for them; see `rows_of`."""
    source = _same_file(found)
    if why_changed(source) is not None:
        return
    for _, fields in original_columns(source_of(source.name, source.place)):
        fields.pop("custom_id", None)
        yield _own(fields, frozenset(declared))


def _same_file(found: Mapping[str, ExportSource]) -> ExportSource:
    first, *others = found.values()
    if any(other.fingerprint != first.fingerprint for other in others):
        raise UsageError(
            f"{first.name}: the runs have read different versions of it, so their rows cannot"
            " be set side by side: run both again, or export one at a time"
        )
    return first


def _joined(
    own: Iterator[tuple[int, dict[str, Any]]], outcomes: Iterator[tuple[int, _Parts]], runs: int
) -> Iterator[tuple[int, dict[str, Any], _Parts]]:
    """Each row's own columns and its outcomes; either may be missing. Both are in order."""
    nothing, end = (None,) * runs, (_LAST, ())
    number, parts = next(outcomes, end)
    for own_number, fields in own:
        while number < own_number:
            yield number, {}, parts
            number, parts = next(outcomes, end)
        if number == own_number:
            yield number, fields, parts
            number, parts = next(outcomes, end)
        else:
            yield own_number, fields, nothing
    while number != _LAST:
        yield number, {}, parts
        number, parts = next(outcomes, end)


def _side_by_side(streams: Sequence[Iterator[Outcome]]) -> Iterator[tuple[int, _Parts]]:
    """What each of the streams has under a number; they are in order, and so is this."""
    if len(streams) == 1:
        yield from ((number, (part,)) for number, part in streams[0])
        return
    heads = [next(stream, _END) for stream in streams]
    while (number := min(map(_number, heads))) != _LAST:
        yield number, [part if at == number else None for at, part in heads]
        for place, head in enumerate(heads):
            if head[0] == number:
                heads[place] = next(streams[place], _END)


def _own(own: dict[str, Any], declared: Set[str]) -> dict[str, Any]:
    """A row's own columns, none of them under a name that says what became of it."""
    return {(f"row_{name}" if name in declared else name): own[name] for name in own}


@dataclass(slots=True)
class _Unread:
    """How many values could not be read, and what the first of them was."""

    count: int = 0
    first: str = ""

    def add(self, sentence: str) -> None:
        """Take up one."""
        self.count += 1
        self.first = self.first or sentence


def why_changed(source: ExportSource) -> str | None:
    """Why the rows cannot be read again, `None` when they can."""
    shown = location_of(source.place)
    if isinstance(source.place, Path) and not source.place.is_file():
        return f"the file {shown} is not there any more"
    try:
        seen = fingerprint(source.place)
    except StorageError as exc:
        if isinstance(source.place, Path):
            raise
        return str(exc)  # it is gone, or the store cannot be asked
    return None if seen == source.fingerprint else f"{shown} has changed since the run read it"


def result_line(name: str, outcome: Mapping[str, Any]) -> dict[str, Any] | None:
    """The line of a row that has ended; `None` where its answer cannot be told.

    `name` stands in where the row has no `custom_id`.
    """
    if outcome["status"] == UNREADABLE or outcome.get("reason") == ANSWER_NOT_KEPT:
        return None
    if outcome["status"] == ANSWERED:
        result = {"type": "succeeded", "message": _message(outcome)}
    else:
        result = {"type": "errored", "error": _error(outcome)}
    return {"custom_id": outcome.get("custom_id") or name, "result": result}


def _message(outcome: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": outcome["message_id"],
        "type": "message",
        "role": "assistant",
        "model": outcome["model"],
        "content": outcome["content"],
        "stop_reason": outcome["stop_reason"],
        "stop_sequence": outcome["stop_sequence"],
        "usage": _usage(outcome),
    }


def _usage(outcome: Mapping[str, Any]) -> dict[str, Any]:
    """Of all legs together, as the cost is."""
    searches = outcome["web_search_requests"]
    return {
        "input_tokens": outcome["input_tokens"],
        "cache_creation_input_tokens": outcome["cache_write_tokens"],
        "cache_read_input_tokens": outcome["cache_read_tokens"],
        "cache_creation": {
            "ephemeral_5m_input_tokens": outcome["cache_write_5m_tokens"] or 0,
            "ephemeral_1h_input_tokens": outcome["cache_write_1h_tokens"] or 0,
        },
        "output_tokens": outcome["output_tokens"],
        "server_tool_use": {"web_search_requests": searches} if searches else None,
        "service_tier": outcome["service_tier"],
    }


def _error(outcome: Mapping[str, Any]) -> dict[str, Any]:
    reason, refused = outcome["reason"], outcome["status"] == FailureKind.QUARANTINED
    kind = "invalid_request_error" if refused else reason
    known = kind if kind in _ERROR_TYPES else "api_error"
    message = f"{outcome['status']}, {reason}: {outcome['message']}"
    return {"type": "error", "error": {"type": known, "message": message}, "request_id": None}


def failed_lines(
    engine: Engine,
    source: ExportSource,
    position: Position,
    warn: Callable[[str], None],
    lost_to_damage: dict[str, list[int]],
) -> Iterator[tuple[bytes, str]]:
    """Lines and reasons; both sides are in row order."""
    failed = _readable(read_failed(engine, source, position), source, lost_to_damage)
    number, failure = next(failed, _NO_MORE)
    if number is None:
        return
    problem = why_changed(source)
    if problem is not None:
        warn(f"{source.name}: {problem}, so its rows are left out; run it again first")
        return
    lost = 0
    for row_number, line in original_lines(source_of(source.name, source.place)):
        while number is not None and number < row_number:
            lost += 1
            number, failure = next(failed, _NO_MORE)
        if number == row_number:
            yield line, failure[REASON]
            number, failure = next(failed, _NO_MORE)
        if number is None:
            break
    lost += (number is not None) + sum(1 for _ in failed)
    if lost:
        warn(f"{source.name}: {lost:,} rows cannot be read, so they are left out")


def _readable(
    outcomes: Iterator[Outcome], source: ExportSource, lost: dict[str, list[int]]
) -> Iterator[Outcome]:
    for row_number, outcome in outcomes:
        if outcome[STATUS] == UNREADABLE:
            lost.setdefault(source.name, []).append(row_number)
        else:
            yield row_number, outcome
